"""Open every image once, in several processes, and keep what the audit needs.

Only a 64 x 64 grey thumbnail of each image is kept, in a file that is mapped into memory, so a data set
of any size fits.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dermonas.data.arrays import RowWriter
from dermonas.data.leakage import SIDE, phash
from dermonas.errors import DataError, ImageError
from dermonas.imaging.decode import decode_and_inspect
from dermonas.imaging.resize import grey_thumbnail

_CHUNK = 32  # images a task: amortises the messages between processes
_AHEAD = 4  # tasks in flight a worker: bounds what waits in memory
_FEW = 400  # images below which starting processes (about 1 s each) costs more than it saves


@dataclass(frozen=True)
class Inspected:
    """What is known of one image file.

    Attributes:
        reason: Why the image cannot be used; None when it can, and then all else is set.
        sha256: Of the file's bytes, 64 hex digits.
        phash: 16 hex digits.
        width: Pixels, upright.
        height: Pixels, upright.
        notes: Peculiarities, see `imaging.decode.ImageInfo`.
    """

    reason: str | None
    sha256: str = ""
    phash: str = ""
    width: int = 0
    height: int = 0
    notes: tuple[str, ...] = ()


def inspect_file(path: Path, max_pixels: int) -> tuple[Inspected, np.ndarray]:
    """Open one file.

    Returns:
        What is known of it, and its uint8 (64, 64) grey thumbnail (zeros when it cannot be used).
    """
    try:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ImageError(f"{path.name}: unreadable ({error.strerror or error})") from error
        image, info = decode_and_inspect(data, max_pixels=max_pixels, name=path.name)
    except ImageError as error:
        return Inspected(str(error).removeprefix(f"{path.name}: ")), np.zeros((SIDE, SIDE), np.uint8)
    thumbnail = grey_thumbnail(image, SIDE)
    digest = hashlib.sha256(data).hexdigest()
    return Inspected(None, digest, f"{phash(thumbnail):016x}", info.width, info.height, info.notes), thumbnail


def _inspect_chunk(paths: Sequence[Path], max_pixels: int) -> list[tuple[Inspected, np.ndarray]]:
    return [inspect_file(path, max_pixels) for path in paths]


def inspect_files(
    paths: Sequence[Path], *, workers: int, max_pixels: int, thumbnails: Path
) -> tuple[list[Inspected], np.ndarray]:
    """Open every file, with a progress bar when standard error is a terminal.

    Args:
        paths: Files, any number.
        workers: Processes; 0 or few files: this process.
        max_pixels: See `imaging.decode.decode`.
        thumbnails: File to keep the thumbnails in (.npy).

    Returns:
        One `Inspected` a path, and the thumbnails as a memory map, uint8 (n, 64, 64).

    Raises:
        DataError: a worker process died.
    """
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    work = partial(_inspect_chunk, max_pixels=max_pixels)
    found: list[Inspected] = []
    results = map(work, chunks) if workers == 0 or len(paths) < _FEW else _in_processes(work, chunks, workers)
    progress = tqdm(total=len(paths), unit="image", desc="prepare", file=sys.stderr, disable=None)
    with progress as bar, RowWriter(thumbnails, len(paths), (SIDE, SIDE)) as pictures:
        for chunk in results:
            for item, thumbnail in chunk:
                pictures.append(thumbnail)
                found.append(item)
            bar.update(len(chunk))
    return found, np.load(thumbnails, mmap_mode="r")


def _in_processes(
    work: Callable[[Sequence[Path]], list[tuple[Inspected, np.ndarray]]], chunks: Iterable[Sequence[Path]], workers: int
) -> Iterator[list[tuple[Inspected, np.ndarray]]]:
    """Map in order, with a bounded number of tasks in flight."""
    # spawn: a fork of a process that has started torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[list[tuple[Inspected, np.ndarray]]]] = deque()
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            for chunk in chunks:
                waiting.append(pool.submit(work, chunk))
                if len(waiting) >= workers * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataError("a process that decodes images died (out of memory?): try --workers 0") from error
        finally:
            for future in waiting:
                future.cancel()
