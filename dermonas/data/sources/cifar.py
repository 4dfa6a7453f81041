"""CIFAR-10 and CIFAR-100: the python batches (downloaded when absent), or class folders already on disk.

Batches are turned into PNG files once, so that every later step sees files as with any other source.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dermonas.data.sources.folder import list_folder
from dermonas.data.sources.listing import Listing
from dermonas.errors import DataError

_SIDE = 32  # pixels


@dataclass(frozen=True)
class _Layout:
    name: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    names_key: str
    labels_key: str


_TEN = _Layout("CIFAR-10", "cifar-10-batches-py", tuple(f"data_batch_{number}" for number in range(1, 6)),
               ("test_batch",), "batches.meta", "label_names", "labels")  # fmt: skip
_HUNDRED = _Layout("CIFAR-100", "cifar-100-python", ("train",), ("test",), "meta", "fine_label_names", "fine_labels")


class _ArraysOnly(pickle.Unpickler):
    """Unpickles what the batches hold (dictionaries, lists, strings, uint8 arrays) and calls nothing else."""

    _ALLOWED = frozenset(
        (module, name)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy")
        for name in ("_reconstruct", "ndarray", "dtype", "scalar")
    ) | {("_codecs", "encode")}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def list_cifar(root: Path | None, *, hundred: bool, images: Path) -> Listing:
    """List CIFAR.

    Args:
        root: Holds cifar-10-batches-py or cifar-100-python (or is it), or train/ and test/ class folders; otherwise
            the archive is downloaded to it.
        hundred: CIFAR-100 with its fine labels instead of CIFAR-10.
        images: Folder to write the batches' images to, as PNG.

    Returns:
        `official` "train" and "test".

    Raises:
        DataError: a damaged batch, or no data and no way to download them.
    """
    layout = _HUNDRED if hundred else _TEN
    if root is None:
        raise DataError("root is not set: source cifar needs a folder to read from or to download to (--root FOLDER)")
    batches = _batches(root, layout)
    if batches is None and root.is_dir() and any(path.is_dir() for path in root.iterdir()):
        return list_folder(root)
    if batches is None:
        batches = _download(root, layout, hundred)
    if not images.is_dir():
        fresh = images.with_name(f"{images.name}.partial")
        shutil.rmtree(fresh, ignore_errors=True)
        _write_images(batches, layout, fresh)
        fresh.rename(images)
    listing = list_folder(images)
    return dataclasses.replace(listing, notes={**listing.notes, "batches": str(batches)})


def _batches(root: Path, layout: _Layout) -> Path | None:
    return next((path for path in (root / layout.folder, root) if (path / layout.meta).is_file()), None)


def _download(root: Path, layout: _Layout, hundred: bool) -> Path:
    from torchvision.datasets import CIFAR10, CIFAR100  # imports torch: only when it is needed

    try:
        root.mkdir(parents=True, exist_ok=True)
        (CIFAR100 if hundred else CIFAR10)(str(root), download=True)
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors; a wrong checksum is a RuntimeError
        reason = " ".join(str(error).split())
        raise DataError(
            f"{layout.name} is not in {root} and cannot be downloaded ({reason}): put {layout.folder}/ there by hand"
        ) from error
    found = _batches(root, layout)
    if found is None:
        raise DataError(f"the download of {layout.name} to {root} holds no {layout.folder}/{layout.meta}: remove it")
    return found


def _write_images(batches: Path, layout: _Layout, folder: Path) -> None:
    names = [str(name) for name in _load(batches / layout.meta, layout.names_key)[layout.names_key]]
    for split, files in (("train", layout.train), ("test", layout.test)):
        for name in names:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
        for index, (pixels, label) in enumerate(_rows(batches, files, layout, len(names))):
            # Numbered across classes, so that a name says one image only.
            target = folder / split / names[label] / f"{split}_{index:06d}.png"
            Image.fromarray(pixels).save(target, compress_level=1)


def _rows(batches: Path, files: tuple[str, ...], layout: _Layout, classes: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (uint8 (32, 32, 3), label) image by image."""
    for file in files:
        content = _load(batches / file, "data", layout.labels_key)
        data, labels = np.asarray(content["data"]), [int(label) for label in content[layout.labels_key]]
        if data.dtype != np.uint8 or data.shape != (len(labels), 3 * _SIDE * _SIDE):
            raise DataError(
                f"{batches / file} holds {data.shape} {data.dtype}, not images: download {layout.name} again"
            )
        if labels and not 0 <= min(labels) <= max(labels) < classes:
            raise DataError(f"{batches / file} has a label outside 0..{classes - 1}: download {layout.name} again")
        for pixels, label in zip(data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1), labels, strict=True):
            yield np.ascontiguousarray(pixels), label


def _load(path: Path, *keys: str) -> dict[str, Any]:
    try:
        content = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: download the archive again") from error
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}): download the archive again") from error
    absent = [key for key in keys if not isinstance(content, dict) or key not in content]
    if absent:
        raise DataError(f"{path} has no {', '.join(absent)}: download the archive again")
    return content
