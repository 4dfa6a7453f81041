"""Open every image once, in several processes, and keep what the audit needs.

What is found stands in columns; the 64 x 64 grey thumbnails stay in a file (`journal.Journal`), from which a prepare
that was interrupted goes on.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dermonas.data.hashing import ORIENTATIONS, SIDE, Fingerprints, fingerprints
from dermonas.data.journal import RECORD, Journal, file_key, seal
from dermonas.errors import DataError, ImageError
from dermonas.events import Observer
from dermonas.imaging.decode import decode_and_inspect
from dermonas.imaging.resize import grey_thumbnail

_CHUNK = 32  # images a task: amortises the messages between processes
_AHEAD = 4  # tasks in flight a worker: bounds what waits in memory
_FEW = 400  # images below which starting processes (about 1 s each) costs more than it saves
_TOLD = 100  # times at most that the observer hears of the progress

Faults = dict[int, str]
"""By position: why an image cannot be used."""


class Inspection:
    """What is known of n image files, in columns; filled as they are read.

    Attributes:
        journal: Holds the thumbnails.
        usable: (n,) bool: the image can be used; all else is set for such images only.
        faults: Why the others cannot, by row.
        sha256: (n, 32) uint8, of the file's bytes.
        prints: Hashes in all orientations and whether the contrast suffices.
        width: (n,) int32, pixels, upright.
        height: (n,) int32, pixels, upright.
        notes: Peculiarities by row, for images that have any, see `imaging.decode.ImageInfo`.
        kept: Images that an interrupted run had read already.
    """

    def __init__(self, count: int, journal: Journal) -> None:
        self.journal = journal
        self.usable = np.zeros(count, dtype=bool)
        self.faults: Faults = {}
        self.sha256 = np.zeros((count, 32), dtype=np.uint8)
        self.prints = Fingerprints(np.zeros((ORIENTATIONS, count), dtype=np.uint64), np.zeros(count, dtype=bool))
        self.width, self.height = np.zeros(count, dtype=np.int32), np.zeros(count, dtype=np.int32)
        self.notes: dict[int, tuple[str, ...]] = {}
        self.kept = 0
        self._record = np.zeros(count, dtype=np.int64)

    def fill(self, rows: NDArray[np.int64], facts: NDArray[np.void], numbers: NDArray[np.int64]) -> None:
        """Set the rows of some images from the journal's records `numbers`."""
        self.usable[rows] = True
        self.sha256[rows] = facts["sha256"]
        self.prints.hashes[:, rows] = facts["hashes"].T
        self.prints.clear[rows] = facts["clear"]
        self.width[rows], self.height[rows] = facts["width"], facts["height"]
        self._record[rows] = numbers
        for at in np.flatnonzero(facts["notes"] != b""):
            self.notes[int(rows[at])] = tuple(sys.intern(note) for note in facts["notes"][at].decode().split(","))

    def thumbnails(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read the thumbnails of usable rows, repeated or not, uint8 (k, 64, 64)."""
        return self.journal.thumbnails(self._record[rows])


def inspect_files(
    root: Path, paths: Sequence[str], journal: Journal, *, workers: int, max_pixels: int, observer: Observer
) -> Inspection:
    """Open every file that the journal does not know, with a progress bar when standard error is a terminal.

    Args:
        root: Folder that the paths are relative to.
        paths: Files, any number.
        journal: Of an interrupted run, or empty. Files that cannot be used are not kept in it.
        workers: Processes; 0 or few files: this process.
        max_pixels: See `imaging.decode.decode`.
        observer: Hears up to 100 times epoch(0, step, {"images", "images_per_second", "seconds_left"}).

    Raises:
        DataError: a worker process died.
    """
    result = Inspection(len(paths), journal)
    left = _resume(root, paths, result)
    chunks = (left[start : start + _CHUNK] for start in range(0, len(left), _CHUNK))
    work = partial(_inspect_chunk, str(root), max_pixels=max_pixels)
    tasks = ((rows, [paths[row] for row in rows]) for rows in chunks)
    results = (
        ((rows, work(part)) for rows, part in tasks)
        if workers == 0 or len(left) < _FEW
        else _in_processes(work, tasks, workers)
    )
    began, told, done = time.monotonic(), 0, result.kept
    bar = tqdm(total=len(paths), initial=done, unit="image", desc="prepare", file=sys.stderr, disable=None)
    with bar:
        for rows, (records, faults) in results:
            good = np.array([at not in faults for at in range(len(rows))], dtype=bool)
            result.fill(rows[good], records["facts"], journal.append(records))
            result.faults.update({int(rows[at]): reason for at, reason in faults.items()})
            bar.update(len(rows))
            done += len(rows)
            if done * _TOLD >= (told + 1) * len(paths):
                told = done * _TOLD // len(paths)
                speed = (done - result.kept) / max(time.monotonic() - began, 1e-9)
                figures = {"images": done, "images_per_second": speed, "seconds_left": (len(paths) - done) / speed}
                observer.epoch(0, told - 1, figures)
    return result


def _resume(root: Path, paths: Sequence[str], result: Inspection) -> NDArray[np.int64]:
    """Fill in what the journal knows; return the rows that are left."""
    facts = result.journal.take()
    rows = np.arange(len(paths))
    if not len(facts):
        return rows
    keys = np.zeros((len(paths), 2), dtype=np.uint64)
    for row, path in enumerate(paths):
        try:
            keys[row] = file_key(path, (root / path).stat())
        except OSError:
            continue  # the inspection reports it
    order = np.argsort(facts["key"][:, 0], kind="stable")
    place = np.searchsorted(facts["key"][order, 0], keys[:, 0]).clip(max=len(order) - 1)
    number = order[place]
    known = (facts["key"][number] == keys).all(axis=1) & keys.any(axis=1)
    result.fill(rows[known], facts[number[known]], number[known])
    result.kept = int(known.sum())
    return rows[~known]


def inspect_file(path: Path, name: str, max_pixels: int) -> np.ndarray:
    """Open one file.

    Args:
        path: The file.
        name: Its path relative to the root.
        max_pixels: See `imaging.decode.decode`.

    Returns:
        A record of `journal.RECORD` without hashes and checksum.

    Raises:
        ImageError: it cannot be used; "reason".
    """
    try:
        key = file_key(name, path.stat())  # before the bytes: a change in between makes the record unknown
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"unreadable ({error.strerror or error})") from error
    try:
        image, info = decode_and_inspect(data, max_pixels=max_pixels, name=path.name)
    except ImageError as error:
        raise ImageError(str(error).removeprefix(f"{path.name}: ")) from error
    record = np.zeros((), dtype=RECORD)
    facts = record["facts"]
    facts["key"], facts["width"], facts["height"] = key, info.width, info.height
    facts["sha256"] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
    facts["notes"] = ",".join(info.notes).encode()
    record["thumbnail"] = grey_thumbnail(image, SIDE)
    return record


def _inspect_chunk(root: str, paths: Sequence[str], max_pixels: int) -> tuple[np.ndarray, Faults]:
    records, faults = [], {}
    for at, path in enumerate(paths):
        try:
            records.append(inspect_file(Path(root, path), path, max_pixels))
        except ImageError as error:
            faults[at] = str(error)
    found = np.array(records, dtype=RECORD)
    prints = fingerprints(np.ascontiguousarray(found["thumbnail"]))
    found["facts"]["hashes"], found["facts"]["clear"] = prints.hashes.T, prints.clear
    seal(found)
    return found, faults


Task = tuple[NDArray[np.int64], list[str]]
Result = tuple[NDArray[np.int64], tuple[np.ndarray, Faults]]


def _in_processes(
    work: Callable[[Sequence[str]], tuple[np.ndarray, Faults]], tasks: Iterable[Task], workers: int
) -> Iterator[Result]:
    """Map in order, with a bounded number of tasks in flight."""
    # spawn: a fork of a process that has started torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    waiting: deque[tuple[NDArray[np.int64], Future[tuple[np.ndarray, Faults]]]] = deque()
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            for rows, part in tasks:
                waiting.append((rows, pool.submit(work, part)))
                if len(waiting) >= workers * _AHEAD:
                    rows, future = waiting.popleft()
                    yield rows, future.result()
            while waiting:
                rows, future = waiting.popleft()
                yield rows, future.result()
        except BrokenProcessPool as error:
            raise DataError("a process that decodes images died (out of memory?): try --workers 0") from error
        finally:
            for _, future in waiting:
                future.cancel()
