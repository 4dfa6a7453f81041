"""Images decoded once, at the stage's resolution, in files that every trial and worker maps into memory."""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from dermonas.data.arrays import RowWriter, expected_bytes
from dermonas.data.manifest import Manifest
from dermonas.data.shards import Images, Shards
from dermonas.errors import DataError, ImageError, StorageError
from dermonas.imaging.decode import MAX_PIXELS, decode
from dermonas.imaging.resize import FILTER, resize

Rows = Literal["all", "search", "train", "validation", "test"]
"""Which rows of a manifest, in manifest order."""

SHARD = 128 * 1024 * 1024
"""Bytes of a file: a search set fits one, and no more than this is decoded twice after a kill."""

_DIGITS = 16  # of the manifest's digest in a folder's name: no collision in practice
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_THREADS = min(8, _CORES)  # Pillow decodes and resizes outside the interpreter lock
_BATCH = 64  # images in flight: bounds memory
_FEW = 2000  # images below which starting processes (about 1 s each) costs more than it saves


def decoded_cache(
    manifest: Manifest, folder: Path, resolution: int, rows: Rows | None = None, *, max_pixels: int = MAX_PIXELS
) -> Images:
    """Return the images of a manifest as pixels, decoding them on the first call only.

    They are kept in shards of `SHARD` bytes. A shard appears whole, under its name, or not at all; a call that was
    killed is gone on with. Several processes may call at once: each decodes shards that no other is decoding, then
    waits for the others'. Shards of another manifest digest are removed, truncated ones decoded again. What is returned
    stays valid for as long as it is referenced.

    Args:
        manifest: The prepared data set.
        folder: Where prepare wrote it; the shards go to `<folder>/cache/<name>/`.
        resolution: Side in pixels, at least 1.
        rows: Which rows; None is "all". The order is the manifest's.
        max_pixels: See `imaging.decode.decode`; raise it as for prepare.

    Returns:
        Read-only uint8 (n, resolution, resolution, 3): a `numpy.memmap` of one shard, or `Shards`.

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
    target = cache / f"{resolution}px-{FILTER.name.lower()}-{kind}-{manifest.digest[:_DIGITS]}"
    shards = _plan(target, manifest.root, frame, resolution, max_pixels)
    if not all(shard.whole() for shard in shards):
        try:
            target.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / ".lock"):
                _remove_stale(cache, manifest.digest)
            _fill(shards)
        except FileNotFoundError as error:
            raise DataError(f"{target} was removed by a process with another manifest: start again") from error
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(f"cannot write {target}: {reason}; free space or move the folder") from error
    paths = [shard.path for shard in shards]
    return np.load(paths[0], mmap_mode="r") if len(paths) == 1 else Shards(paths)


def _select(manifest: Manifest, kind: Rows) -> pd.DataFrame:
    if kind == "all":
        return manifest.frame
    return manifest.search_frame() if kind == "search" else manifest.split_frame(kind)


@dataclass(frozen=True)
class _Shard:
    """Some rows of a cache, and the file that holds them."""

    path: Path
    root: Path
    files: pd.DataFrame  # columns path and sha256
    resolution: int
    max_pixels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.resolution, self.resolution, 3)

    def whole(self) -> bool:
        """Tell whether the file is there, of this shape and as long as its header promises."""
        try:
            return self.path.stat().st_size == expected_bytes(self.path, len(self.files), self.shape)
        except FileNotFoundError:
            return False

    def build(self, wait: bool, threads: int) -> None:
        """Decode and write the file unless it is there; leave it to another process that is at it unless `wait`."""
        lock = self.path.with_suffix(".lock")  # of the operating system: it goes with the process that holds it
        try:
            with FileLock(lock, timeout=-1 if wait else 0):
                try:
                    if not self.whole():
                        self._write(threads)
                finally:
                    # A process that waits for this very file may then hold a lock that nobody sees: it finds the
                    # shard whole; at worst two write the same bytes, each under its own name.
                    lock.unlink(missing_ok=True)
        except Timeout:
            return

    def _write(self, threads: int) -> None:
        for left in self.path.parent.glob(f"{self.path.name}.*.partial"):  # of a process that was killed
            left.unlink(missing_ok=True)
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}.partial")
        try:
            with RowWriter(fresh, len(self.files), self.shape) as writer:
                for pixels in self._pixels(threads):
                    writer.append(pixels)
            fresh.replace(self.path)
        finally:
            fresh.unlink(missing_ok=True)

    def _pixels(self, threads: int) -> Iterator[np.ndarray]:
        """Decode in several threads, yield in order."""
        items = list(zip(self.files["path"], self.files["sha256"], strict=True))
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(items), _BATCH):
                yield from pool.map(self._read, items[start : start + _BATCH])

    def _read(self, item: tuple[str, str]) -> np.ndarray:
        path, sha256 = self.root / item[0], item[1]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ImageError(f"{path}: unreadable ({error.strerror or error}); run prepare again") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise DataError(f"{path} changed since prepare: run prepare again")
        return resize(decode(data, max_pixels=self.max_pixels, name=str(path)), self.resolution)


def _plan(target: Path, root: Path, frame: pd.DataFrame, resolution: int, max_pixels: int) -> list[_Shard]:
    """Cut the rows into shards."""
    length = max(1, SHARD // (resolution * resolution * 3))
    files = frame[["path", "sha256"]]
    return [
        _Shard(target / f"{start // length:05d}.npy", root, files.iloc[start : start + length], resolution, max_pixels)
        for start in range(0, len(files), length)
    ]


def _fill(shards: Sequence[_Shard]) -> None:
    """Decode what is missing on all cores, then wait for what other processes are decoding."""
    missing = [shard for shard in shards if not shard.whole()]
    workers = min(_CORES, len(missing))
    # A daemon, such as a data loader's worker, may not start processes.
    many = sum(len(shard.files) for shard in missing) >= _FEW and not multiprocessing.current_process().daemon
    if workers > 1 and many:
        _fill_in_processes(missing, workers)
    for wait in (False, True):
        for shard in missing:
            if not shard.whole():
                shard.build(wait, _THREADS)


def _fill_in_processes(missing: Sequence[_Shard], workers: int) -> None:
    # spawn: a fork of a process that has started torch's threads can hang.
    threads = math.ceil(_CORES / workers)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(shard.build, False, threads) for shard in missing]
        try:
            for future in as_completed(futures):
                future.result()
        except BrokenProcessPool as error:
            raise DataError("a process that decodes images died (out of memory?): start again, it goes on") from error
        finally:
            for future in futures:
                future.cancel()


def _remove_stale(cache: Path, digest: str) -> None:
    """Remove what belongs to other manifests, and files of the time before there were shards."""
    for path in cache.iterdir():
        if path.is_dir() and not path.name.endswith(digest[:_DIGITS]):
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix in (".partial", ".npy"):
            path.unlink(missing_ok=True)
