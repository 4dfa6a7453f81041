"""What an interrupted inspection keeps: one record an image, appended as it is read.

A file of records of one length. A record ends in a checksum of itself, so what a killed process or machine left
half-written is told from what is whole. Records are found again by path, size and time of the last change.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dermonas.data.hashing import ORIENTATIONS, SIDE

FACTS = np.dtype(
    [("key", "<u8", (2,)), ("sha256", "u1", (32,)), ("hashes", "<u8", (ORIENTATIONS,)), ("clear", "?"),
     ("width", "<i4"), ("height", "<i4"), ("notes", "S64")]
)  # fmt: skip
"""What is known of an image: `file_key`, SHA-256 of its bytes, its `hashing.Fingerprints`, pixels upright, and
`imaging.decode.ImageInfo`'s notes joined by commas."""
RECORD = np.dtype([("facts", FACTS), ("thumbnail", "u1", (SIDE, SIDE)), ("checksum", "<u4")])

_FORMAT = 1  # of the records; others are dropped
_CHUNK = 2048  # records a time: 9 MB


def file_key(path: str, stat: os.stat_result) -> tuple[int, int]:
    """Return two 64-bit numbers that stand for a path, its size in bytes and its time of change."""
    text = f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}"
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def seal(records: NDArray[np.void]) -> None:
    """Set the checksums of records, in place."""
    records["checksum"] = [_checksum(record) for record in records]


def _checksum(record: np.void) -> int:
    return zlib.crc32(record.tobytes()[: RECORD.itemsize - 4])


class Journal:
    """A context manager: records on disk, those of an earlier, interrupted run first.

    Args:
        folder: Where they are kept; made when absent.
        settings: What else a record depends on; with other settings or another version all are dropped.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, head = folder / "inspected.bin", folder / "inspected.json"
        facts = json.dumps({"format": _FORMAT, "bytes": RECORD.itemsize, **settings}, sort_keys=True)
        if not head.is_file() or head.read_text(errors="replace") != facts:
            self.path.unlink(missing_ok=True)
            head.write_text(facts)  # first the records, then their head: what is there is always of one kind
        self._file = self.path.open("a+b", buffering=0)
        self._facts = np.concatenate([np.empty(0, FACTS), *self._read()])
        self._file.truncate(len(self._facts) * RECORD.itemsize)
        self.count = len(self._facts)

    def take(self) -> NDArray[np.void]:
        """Return the facts of the records that were there at the start, and forget them."""
        facts, self._facts = self._facts, np.empty(0, FACTS)
        return facts

    def append(self, records: NDArray[np.void]) -> NDArray[np.int64]:
        """Write sealed records; return their numbers."""
        left = memoryview(np.ascontiguousarray(records).tobytes())
        while left:
            left = left[self._file.write(left) :]
        numbers = np.arange(self.count, self.count + len(records))
        self.count += len(records)
        return numbers

    def thumbnails(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read the thumbnails of records, repeated or not, uint8 (k, 64, 64)."""
        single, place = np.unique(numbers, return_inverse=True)
        found = np.empty((len(single), SIDE, SIDE), dtype=np.uint8)
        for row, number in zip(found, single.tolist(), strict=True):
            # Not a memory map: pages that were read would count as this process's memory.
            data = os.pread(self._file.fileno(), SIDE * SIDE, number * RECORD.itemsize + FACTS.itemsize)
            row[...] = np.frombuffer(data, np.uint8).reshape(SIDE, SIDE)
        return found[place]

    def _read(self) -> Iterator[NDArray[np.void]]:
        """Yield the facts of whole records, up to the first that is not."""
        with self.path.open("rb") as file:
            while data := file.read(_CHUNK * RECORD.itemsize):
                records = np.frombuffer(data, RECORD, count=len(data) // RECORD.itemsize)
                whole = np.array([record["checksum"] == _checksum(record) for record in records], dtype=bool)
                end = len(whole) if whole.all() else int(whole.argmin())
                yield records["facts"][:end].copy()
                if end < len(whole):
                    return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
