"""Packaged models to serve, and images to ask them about. Weights are random, images are noise."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from dermonas.data.augmentation import AugmentSettings
from dermonas.evaluation.predict import flips
from dermonas.nn.specification import NetworkSpec
from dermonas.serving.description import PROGRAM, Description
from dermonas.serving.package import head_of, package, write_artifacts
from dermonas.serving.program import export_program
from dermonas.serving.served import Served
from dermonas.space import zoo

CLASSES = ("dark", "middle", "light")
SIZES = ((40, 30), (64, 64), (37, 37), (9, 120), (300, 200))  # width, height
# A centre crop, other means than 0 and flips: each would show if serving left it out.
VIEW = AugmentSettings(
    size=32, crop="resize", horizontal_flip=0.5, vertical_flip=0.5, mean=(0.7, 0.5, 0.4), std=(0.2, 0.3, 0.25)
)


@dataclass(frozen=True, eq=False)
class Packed:
    """A network, its artifacts and its package."""

    network: nn.Module
    view: AugmentSettings
    description: Description
    artifacts: Path
    folder: Path
    served: Served


class Tiny(nn.Module):
    """One convolution, pooling and a linear layer: exported in a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 5, stride=4)
        self.classifier = nn.Linear(8, len(CLASSES))

    def logits_and_map(self, x):
        features = torch.relu(self.convolution(x))
        return self.classifier(features.mean(dim=(2, 3))), features

    def forward(self, x):
        return self.logits_and_map(x)[0]


def spec(kind: str) -> NetworkSpec:
    if kind == "timm":
        return NetworkSpec(kind="timm", name="test_efficientnet", classes=3, resolution=32)
    return NetworkSpec(
        kind="cells",
        name="DARTS_V2",
        classes=3,
        resolution=32,
        genotype=zoo.load("DARTS_V2").to_dict(),
        stem="cifar",
        channels=4,
        layers=3,
    )


def settled(network: nn.Module, size: int) -> nn.Module:
    """Give batch norms statistics of their own, so that evaluation mode is no near-identity."""
    generator = torch.Generator().manual_seed(1)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(8, 3, size, size, generator=generator))
    return network.eval()


def network_of(kind: str, seed: int) -> nn.Module:
    """Return a network of a kind: "cells", "timm" or "tiny"."""
    if kind == "tiny":
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Tiny().eval()
    return settled(spec(kind).build(auxiliary=kind == "cells", seed=seed), VIEW.size)


def pack(
    kind: str, folder: Path, seed: int = 5, registered: str = "dermonas-noise", card: str = "# A card\n"
) -> Packed:
    """Package a network as `register` does."""
    network = network_of(kind, seed)
    description = Description(
        registered=registered,
        name=kind,
        dataset="noise",
        dataset_digest="0" * 64,
        synthetic=True,
        classes=CLASSES,
        stored=VIEW.stored,
        size=VIEW.size,
        mean=VIEW.mean,
        std=VIEW.std,
        temperature=1.7,
        flips=flips(VIEW),
        abstain_below=0.4,
        abstain_rule="95% of the validation images reach it",
    )
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    export_program(network, VIEW.size, artifacts / PROGRAM)
    write_artifacts(artifacts, description, head_of(network, VIEW.size), card)
    package(artifacts, folder / "package")
    return Packed(network, VIEW, description, artifacts, folder / "package", Served.load(artifacts))


def encode(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


def noise() -> list[bytes]:
    """Encoded noise of several sizes, formats and modes, one of them lying on its side."""
    generator = np.random.default_rng(3)
    found = []
    for number, (width, height) in enumerate(SIZES):
        coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        pixels = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        found.append(encode(pixels, ("PNG", "JPEG", "BMP", "TIFF", "WEBP")[number]))
    exif = Image.Exif()
    exif[0x0112] = 6
    found.append(encode(generator.integers(0, 256, (20, 50, 3), dtype=np.uint8), "JPEG", exif=exif.tobytes()))
    found.append(encode(generator.integers(0, 256, (20, 50), dtype=np.uint8)))
    return found
