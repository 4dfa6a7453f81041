"""Images decoded once, at the stage's resolution, in one memory map that every trial and worker shares."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from filelock import FileLock

from dermonas.data.arrays import RowWriter, expected_bytes
from dermonas.data.manifest import Manifest
from dermonas.errors import DataError, ImageError, StorageError
from dermonas.imaging.decode import MAX_PIXELS, decode
from dermonas.imaging.resize import FILTER, resize

Rows = Literal["all", "search", "train", "validation", "test"]
"""Which rows of a manifest, in manifest order."""

_DIGITS = 16  # of the manifest's digest in a file name: no collision in practice
_THREADS = min(8, os.cpu_count() or 1)  # Pillow decodes and resizes outside the interpreter lock
_BATCH = 64  # images in flight: bounds memory


def decoded_cache(
    manifest: Manifest, folder: Path, resolution: int, rows: Rows | None = None, *, max_pixels: int = MAX_PIXELS
) -> np.memmap:
    """Return the images of a manifest as pixels, decoding them on the first call only.

    Several processes may call it at once: one decodes, the others wait. A file of another manifest digest is
    removed, a truncated one rebuilt. The map stays valid for as long as it is referenced.

    Args:
        manifest: The prepared data set.
        folder: Where prepare wrote it; the file goes to `<folder>/cache/`.
        resolution: Side in pixels, at least 1.
        rows: Which rows; None is "all". The order is the manifest's.
        max_pixels: See `imaging.decode.decode`; raise it as for prepare.

    Returns:
        Read-only uint8 (n, resolution, resolution, 3).

    Raises:
        DataError: no such rows, or an image that changed or vanished since prepare.
        StorageError: the disk refuses.
    """
    kind: Rows = "all" if rows is None else rows
    if kind not in get_args(Rows):
        raise ValueError(f"rows is {kind!r}, must be one of {', '.join(get_args(Rows))}")
    if resolution < 1:
        raise ValueError(f"resolution is {resolution}, must be at least 1 pixel")
    frame = _select(manifest, kind)
    if frame.empty:
        raise DataError(f"{folder} has no {kind} image to decode: check the split sizes and run prepare again")
    cache = folder / "cache"
    name = f"{resolution}px-{FILTER.name.lower()}-{kind}-{manifest.digest[:_DIGITS]}.npy"
    target = cache / name
    shape = (resolution, resolution, 3)
    if not _whole(target, len(frame), shape):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / ".lock"):
                _remove_stale(cache, manifest.digest)
                if not _whole(target, len(frame), shape):
                    _build(target, manifest, frame, resolution, max_pixels)
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(f"cannot write {target}: {reason}; free space or move the folder") from error
    mapped = np.load(target, mmap_mode="r")
    assert isinstance(mapped, np.memmap)  # for the type checker: mmap_mode was given
    return mapped


def _select(manifest: Manifest, kind: Rows) -> pd.DataFrame:
    if kind == "all":
        return manifest.frame
    return manifest.search_frame() if kind == "search" else manifest.split_frame(kind)


def _whole(path: Path, count: int, shape: tuple[int, ...]) -> bool:
    """Tell whether the file is there, of this shape and as long as its header promises."""
    try:
        return path.stat().st_size == expected_bytes(path, count, shape)
    except FileNotFoundError:
        return False


def _remove_stale(cache: Path, digest: str) -> None:
    """Remove files of other manifests and of writers that died; the lock is held, so none is being written."""
    for path in cache.iterdir():
        if path.suffix == ".partial" or (path.suffix == ".npy" and not path.stem.endswith(digest[:_DIGITS])):
            path.unlink(missing_ok=True)


def _build(target: Path, manifest: Manifest, frame: pd.DataFrame, resolution: int, max_pixels: int) -> None:
    fresh = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with RowWriter(fresh, len(frame), (resolution, resolution, 3)) as writer:
            for pixels in _pixels(manifest, frame, resolution, max_pixels):
                writer.append(pixels)
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def _pixels(manifest: Manifest, frame: pd.DataFrame, resolution: int, max_pixels: int) -> Iterator[np.ndarray]:
    """Decode in several threads, yield in order."""

    def read(item: tuple[Path, str]) -> np.ndarray:
        path, sha256 = item
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ImageError(f"{path}: unreadable ({error.strerror or error}); run prepare again") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise DataError(f"{path} changed since prepare: run prepare again")
        return resize(decode(data, max_pixels=max_pixels, name=str(path)), resolution)

    items = list(zip(manifest.paths(frame), frame["sha256"], strict=True))
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(items), _BATCH):
            yield from pool.map(read, items[start : start + _BATCH])
