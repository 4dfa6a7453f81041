"""What an answer costs: the packaged model as MLflow loads it, against plain torch on the same weights.

    python -m benchmarks.serving [--genotype DermoCSNAS_4] [--channels 16] [--layers 8] [--resolution 224] [--side 600]
        [--batches 1 16] [--rounds 15] [--no-log]

Requests are tables of base64 JPEG files (synthetic phantoms of `--side` x 3/4 `--side` pixels), as REST hands them on;
the server's own socket and JSON are left out. Ours decodes, checks, runs the exported program and words an answer with
version, digest, abstention and notice. The plain side opens the same files with Pillow and runs the network itself in
one batch (NCHW, evaluation mode); it stops at the probabilities, which must agree to 1e-5. Weights are random.
"""

from __future__ import annotations

import base64
import io
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.input import phantoms
from benchmarks.measure import Report, alternate, options, ratio
from dermonas.data.augmentation import resize_side
from dermonas.data.phantom import CLASSES
from dermonas.imaging.normalise import ISIC_MEAN, ISIC_STD
from dermonas.imaging.resize import FILTER
from dermonas.nn.specification import NetworkSpec
from dermonas.serving.description import PROGRAM, Description
from dermonas.serving.package import head_of, package, write_artifacts
from dermonas.serving.program import export_program
from dermonas.space import zoo
from pipelines.command import quiet

TOLERANCE = 1e-5


def network_of(genotype: str, channels: int, layers: int, views: Tensor) -> nn.Module:
    """Return a network of random weights in evaluation mode, with statistics of these views, so that answers differ."""
    spec = NetworkSpec(
        "cells", genotype, len(CLASSES), views.shape[-1], zoo.load(genotype).to_dict(), "imagenet", channels, layers
    )
    network = spec.build(auxiliary=False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # statistics of the one batch alone
    with torch.no_grad():
        network.train()(views)
    return network.eval()


def packaged(network: nn.Module, size: int, folder: Path) -> Any:
    """Package a network as `register` does, and load it as a server does."""
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    description = Description(
        registered="dermonas-phantom", name="benchmark", dataset="phantom", dataset_digest="0" * 64, synthetic=True,
        classes=CLASSES, stored=resize_side(size), size=size, mean=ISIC_MEAN, std=ISIC_STD, temperature=1.0,
        flips=((),), abstain_below=0.0, abstain_rule="",
    )  # fmt: skip
    export_program(network, size, artifacts / PROGRAM)
    write_artifacts(artifacts, description, head_of(network, size), "# A benchmark's model\n")
    package(artifacts, folder / "package")
    return mlflow.pyfunc.load_model(str(folder / "package"))


def plain_view(image: str, size: int) -> Tensor:
    """Return base64 text of an image file as the network sees it."""
    side = resize_side(size)
    with Image.open(io.BytesIO(base64.b64decode(image))) as opened:
        pixels = np.array(opened.convert("RGB").resize((side, side), FILTER))
    start = (side - size) // 2
    crop = torch.from_numpy(pixels[start : start + size, start : start + size]).permute(2, 0, 1)
    mean, std = (torch.tensor(values)[:, None, None] for values in (ISIC_MEAN, ISIC_STD))
    return (crop / 255.0 - mean) / std


@torch.inference_mode()
def plain_answer(network: nn.Module, images: list[str], size: int) -> Tensor:
    """Return probabilities (images, classes)."""
    return torch.as_tensor(network(torch.stack([plain_view(image, size) for image in images]))).softmax(dim=1)


def main() -> None:
    """Measure both at each batch size, and compare their answers."""
    parser = options(__doc__)
    parser.add_argument("--genotype", default="DermoCSNAS_4")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--side", type=int, default=600, help="longer side of a file in pixels")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="images a request")
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    size, all_classes = chosen.resolution, {"top_k": len(CLASSES)}
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        files = phantoms(Path(folder), max(2, *chosen.batches), chosen.side)
        images = [base64.b64encode(path.read_bytes()).decode("ascii") for path in files]
        views = torch.stack([plain_view(image, size) for image in images])
        network = network_of(chosen.genotype, chosen.channels, chosen.layers, views)
        model = packaged(network, size, Path(folder))
        answers = plain_answer(network, images, size)
        report = Report(
            "serving",
            {
                **{key: getattr(chosen, key) for key in ("genotype", "channels", "layers", "resolution", "side")},
                "threads": torch.get_num_threads(),
            },
            facts={"range of a class's probability over the images": (answers.amax(0) - answers.amin(0)).max().item()},
        )
        for count in chosen.batches:
            table, some = pd.DataFrame({"image": images[:count]}), images[:count]
            sides = {"ours": partial(model.predict, table), "plain": partial(plain_answer, network, some, size)}
            samples = alternate(sides, chosen.rounds, warmup=2)
            for name, measured in samples.items():
                report.rows[f"{name}, {count} a request", "ms"] = tuple(1e3 * t for t in measured.wall)
                report.rows[f"{name}, {count} a request", "images/s"] = tuple(count / t for t in measured.wall)
            report.ratios[f"ours / plain, seconds, {count} a request"] = ratio(
                samples["ours"].wall, samples["plain"].wall
            )
            worded = model.predict(table, params=all_classes)["probabilities"]
            found = [{entry["label"]: entry["probability"] for entry in answer} for answer in worded]
            ours = torch.tensor([[answer[label] for label in CLASSES] for answer in found])
            apart = (ours - answers[:count]).abs().max().item()
            report.checks[f"largest difference of a probability, {count} a request"] = (apart, TOLERANCE)
    report.publish(chosen.log)


if __name__ == "__main__":
    main()
