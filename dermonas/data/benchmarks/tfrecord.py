"""TensorFlow's record files without TensorFlow.

A record is: length (8 bytes), its checksum (4), the data, their checksum (4); all little-endian. A checksum is CRC-32C
(Castagnoli), rotated and shifted so that the checksum of data which hold checksums stays a good one.

Source: TensorFlow, core/lib/io/record_writer.h and core/lib/hash/crc32c.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from dermonas.errors import DataError

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_MASK_DELTA = 0xA282EAD8
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_BATCH = 4096  # records whose checksums are computed together: a step over a byte of each costs one NumPy call


def crc32c(chunks: Sequence[bytes]) -> np.ndarray:
    """Return the CRC-32C of each chunk, uint32, shape (chunks,)."""
    order = sorted(range(len(chunks)), key=lambda index: -len(chunks[index]))
    lengths = np.array([len(chunks[index]) for index in order])
    width = int(lengths.max(initial=0))
    padded = b"".join(chunks[index].ljust(width, b"\0") for index in order)
    columns = np.frombuffer(padded, dtype=np.uint8).reshape(len(chunks), width).T.copy()
    # alive[i]: how many chunks are longer than i; they come first.
    alive = np.searchsorted(-lengths, -np.arange(width), side="left")
    state = np.full(len(chunks), 0xFFFF_FFFF, dtype=np.uint32)
    table = _table()
    for column, count in zip(columns, alive.tolist(), strict=True):
        part = state[:count]
        state[:count] = table[(part ^ column[:count]) & 0xFF] ^ (part >> 8)
    checksums = np.empty_like(state)
    checksums[order] = ~state
    return checksums


def masked(checksums: np.ndarray) -> np.ndarray:
    """Return CRC-32C values as record files store them, uint32, same shape."""
    return ((checksums >> 15) | (checksums << 17)) + np.uint32(_MASK_DELTA)


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each record's offset in the file and its data, in order, every checksum verified.

    Raises:
        DataError: If the file cannot be opened, or a record is damaged or cut short; names its offset. Records before
            it have been yielded, up to the last 4,096.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            offset, batch = 0, list[tuple[int, bytes, bytes]]()
            while offset < size:
                header = file.read(_HEADER.size)
                left = size - offset - _HEADER.size - _FOOTER.size
                length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else 0
                if left < 0 or length > left:
                    yield from _verified(path, batch)
                    _check(path, [(offset, header)])
                    raise DataError(f"{path}: the record at byte {offset} is cut short; fetch the file again")
                batch.append((offset, header, file.read(length + _FOOTER.size)))
                offset += _HEADER.size + length + _FOOTER.size
                if len(batch) == _BATCH:
                    yield from _verified(path, batch)
                    batch = []
            yield from _verified(path, batch)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the path") from error


def _verified(path: Path, batch: Sequence[tuple[int, bytes, bytes]]) -> Iterator[tuple[int, bytes]]:
    bodies = [body[: -_FOOTER.size] for _, _, body in batch]
    _check(path, [(offset, header) for offset, header, _ in batch])
    stored = np.array([_FOOTER.unpack(body[-_FOOTER.size :])[0] for _, _, body in batch], dtype=np.uint32)
    wrong = np.flatnonzero(masked(crc32c(bodies)) != stored)
    if len(wrong):
        raise DataError(
            f"{path}: the data of the record at byte {batch[wrong[0]][0]} are damaged; fetch the file again"
        )
    for (offset, _, _), body in zip(batch, bodies, strict=True):
        yield offset, body


def _check(path: Path, headers: Sequence[tuple[int, bytes]]) -> None:
    """Check the checksums of lengths; a header that the file's end cuts off is left to the caller."""
    whole = [(offset, header) for offset, header in headers if len(header) == _HEADER.size]
    stored = np.array([_HEADER.unpack(header)[1] for _, header in whole], dtype=np.uint32)
    wrong = np.flatnonzero(masked(crc32c([header[:8] for _, header in whole])) != stored)
    if len(wrong):
        raise DataError(
            f"{path}: the length of the record at byte {whole[wrong[0]][0]} is damaged; fetch the file again"
        )
