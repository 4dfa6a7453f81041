"""Images/s of our input (decoded cache, augmentation, batches) against decoding every file every time.

    python -m benchmarks.input [--side 600] [--resolution 224] [--images 64] [--rounds 7] [--workers 0]
        [--recipe isic2019-paper] [--data FOLDER]

Both sides run the recipe's augmentation in the same loader with the same workers; the other one opens each JPEG with
Pillow and resizes it first. Files are synthetic phantoms of `--side` x 3/4 `--side` pixels, or the JPEGs of a folder.
Passes over all images are measured in turn, after one that is left out; the views of all sides must be equal.
Filling the cache is timed apart and is paid once.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.measure import Report, alternate, options, ratio
from dermonas.data.arrays import RowWriter
from dermonas.data.augmentation import Augment, Evaluate
from dermonas.data.phantom import CLASSES
from dermonas.data.phantom_render import photograph
from dermonas.data.samples import Samples
from dermonas.imaging.decode import decode
from dermonas.imaging.resize import FILTER, resize
from dermonas.training.loaders import Loaders, TrainData
from dermonas.training.recipes import recipe
from dermonas.training.settings import TrainSettings

BACKENDS = ("albumentations", "torchvision")
QUALITY = 90  # JPEG; the middle of the phantoms' range


class Files:
    """Image files in place of an array of pixels: each row is decoded when it is read."""

    def __init__(self, paths: Sequence[Path], side: int) -> None:
        self.paths, self.side = paths, side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> np.ndarray:
        with Image.open(self.paths[row]) as image:
            return np.array(image.convert("RGB").resize((self.side, self.side), FILTER))


def main() -> None:
    """Measure and print images/s of each side and the ratios with their spread."""
    parser = options(__doc__)
    parser.add_argument("--side", type=int, default=600, help="longer side of a phantom's file in pixels")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=0, help="processes that read images, on either side")
    parser.add_argument("--recipe", default="isic2019-paper")
    parser.add_argument("--data", type=Path, help="folder of JPEG files in place of phantoms")
    chosen = parser.parse_args()
    settings = recipe(chosen.recipe).settings
    augment = dataclasses.replace(settings.augment, size=chosen.resolution)
    settings = dataclasses.replace(settings, batch_size=32, balance="none", augment=augment)
    with tempfile.TemporaryDirectory() as folder:
        if chosen.data is None:
            paths = phantoms(Path(folder), chosen.images, chosen.side)
        else:
            paths = sorted(chosen.data.glob("*.jpg"))[: chosen.images]
        if len(paths) < settings.batch_size:
            raise SystemExit(f"{chosen.data or folder} gives {len(paths)} .jpg files; {settings.batch_size} are needed")
        start = time.perf_counter()
        cache = fill(Path(folder) / "cache.npy", paths, augment.stored)
        filled = time.perf_counter() - start
        with Image.open(paths[0]) as image:
            kind = "files" if chosen.data else "synthetic phantoms"
            print(f"{len(paths)} {kind}, the first {image.width} x {image.height}; {settings.augment.crop} views")
        loaders = {}
        for backend in BACKENDS:
            loaders[f"cache, {backend}"] = loader(cache, settings, backend, chosen.workers)
            files = cast(np.ndarray, Files(paths, augment.stored))
            loaders[f"decode, {backend}"] = loader(files, settings, backend, chosen.workers)
        same_views(loaders)
        samples = alternate({name: partial(whole_pass, batches) for name, batches in loaders.items()}, chosen.rounds)
    Report(
        "input",
        {"images": len(paths), "kind": kind, "resolution": chosen.resolution, "workers": chosen.workers},
        rows={(name, "images/s"): tuple(len(paths) / t for t in side.wall) for name, side in samples.items()},
        ratios={
            f"cache / decode, {backend}": ratio(samples[f"decode, {backend}"].wall, samples[f"cache, {backend}"].wall)
            for backend in BACKENDS
        },
        facts={"filling the cache, once, images/s": len(paths) / filled},
    ).publish(chosen.log)


def phantoms(folder: Path, count: int, side: int) -> list[Path]:
    """Write synthetic photographs of `side` x 3/4 `side` pixels as JPEG; rendered at most 512 wide and enlarged."""
    paths = []
    for number in range(count):
        pixels = photograph(0, number, 0, CLASSES[number % len(CLASSES)], min(side, 512))
        image = (
            Image.fromarray(pixels).resize((side, side), FILTER).crop((0, side // 8, side, side // 8 + side * 3 // 4))
        )
        paths.append(folder / f"phantom{number:05d}.jpg")
        image.save(paths[-1], quality=QUALITY)
    return paths


def fill(path: Path, paths: Sequence[Path], side: int) -> np.ndarray:
    """Decode all files into a memory map as `data.cache` does."""
    with RowWriter(path, len(paths), (side, side, 3)) as writer:
        for file in paths:
            writer.append(resize(decode(file), side))
    return cast(np.ndarray, np.load(path, mmap_mode="r"))


def loader(images: np.ndarray, settings: TrainSettings, backend: str, workers: int) -> DataLoader[Any]:
    """Return the train loader that `training.fit` would use."""
    augment = dataclasses.replace(settings.augment, backend=cast(Any, backend))
    labels = np.arange(len(images)) % len(CLASSES)
    data = TrainData(
        Samples(images, labels, Augment(augment, settings.seed)), Samples(images, labels, Evaluate(augment)), CLASSES
    )
    return Loaders(data, settings, workers=workers).train_dataloader()


def same_views(loaders: dict[str, DataLoader[Any]]) -> None:
    """Check that all loaders of a backend give equal views.

    Raises:
        SystemExit: a loader gives other views.
    """
    expected: dict[str, torch.Tensor] = {}
    for name, batches in loaders.items():
        views = torch.cat([batch[0] for batch in batches])
        backend = name.split(", ")[1]
        if not torch.equal(expected.setdefault(backend, views), views):
            raise SystemExit(f"{name} gives other views than the cache does")


def whole_pass(batches: DataLoader[Any]) -> None:
    """Read all batches."""
    for _ in batches:
        pass


if __name__ == "__main__":
    main()
