"""One array of images in several files: written a file at a time, read as if it were one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Shards:
    """A read-only array of uint8 (n, *shape) over `.npy` files of equal length (the last may be shorter).

    The files are mapped into memory. A number gives a row; a slice, an array of numbers or a mask gathers rows into
    memory; `numpy.asarray` reads everything. It is pickled as its paths, so that processes share the files.

    Args:
        paths: The files, in order; mapped at once, so that they may be removed while this is in use.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._parts = [np.load(path, mmap_mode="r") for path in self.paths]
        self._length = len(self._parts[0])
        self.shape: tuple[int, ...] = (sum(len(part) for part in self._parts), *self._parts[0].shape[1:])
        self.dtype = np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | np.integer | slice | Sequence[int] | NDArray[Any]) -> NDArray[np.uint8]:
        if isinstance(index, (int, np.integer)):
            row = int(index)
            if not -len(self) <= row < len(self):
                raise IndexError(f"row {row} is outside {len(self)} rows")
            return self._parts[row % len(self) // self._length][row % len(self) % self._length]
        rows = np.arange(len(self))[index]
        found = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        parts, inside = np.divmod(rows, self._length)
        for part in np.unique(parts):
            chosen = np.flatnonzero(parts == part)
            found[chosen] = self._parts[part][inside[chosen]]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("rows lie in several files: they can only be copied")
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def __reduce__(self) -> tuple[type[Shards], tuple[tuple[Path, ...]]]:
        return type(self), (self.paths,)


Images = np.ndarray | Shards
"""Decoded images, uint8 (n, side, side, 3)."""
