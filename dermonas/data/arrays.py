"""Write large arrays row by row.

Plain writes, not a writable memory map: on a full disk a write raises, where a mapped page kills the
process with SIGBUS.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np


class RowWriter:
    """A context manager that writes a `.npy` file of uint8, shape (count, *shape), a row at a time.

    Args:
        path: File to write.
        count: Rows that will be appended.
        shape: Shape of a row.
    """

    def __init__(self, path: Path, count: int, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._left = count
        self._file = path.open("wb")
        header = {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, row: np.ndarray) -> None:
        """Write the next row, uint8 of the given shape."""
        if row.shape != self._shape or row.dtype != np.uint8:
            raise ValueError(f"row is {row.shape} {row.dtype}, must be {self._shape} uint8")
        self._left -= 1
        self._file.write(np.ascontiguousarray(row).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None and self._left:
            raise ValueError(f"{self._left} rows were not written")


def expected_bytes(path: Path, count: int, shape: tuple[int, ...]) -> int | None:
    """Return how long a `RowWriter` file of this shape is, from its own header; None when the header is another."""
    with path.open("rb") as file:
        try:
            if np.lib.format.read_magic(file) != (1, 0):
                return None
            found, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        except ValueError:
            return None
        if found != (count, *shape) or fortran or dtype != np.uint8:
            return None
        return file.tell() + int(np.prod(found, dtype=np.int64))
