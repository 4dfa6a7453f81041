"""Columns of text: of a million rows, kept in Arrow where each row has its own, shared where few texts recur."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_CHUNK = 1 << 16  # rows a time: NumPy makes eight bytes of each byte that it looks up


def optional_text(values: pd.Series) -> pd.Series:
    """Return a text column with None, not NaN, where it is missing (pandas turns one into the other)."""
    codes, known = pd.factorize(values)
    # Rows with the same text share it: a million labels are a thousand objects.
    texts = np.array([*known, None], dtype=object)
    return pd.Series(texts[codes], index=values.index, name=values.name, dtype=object)


def hexadecimal(values: np.ndarray) -> pd.Series:
    """Return bytes, uint8 (n, k), as a text column of 2 k digits."""
    digits = np.array([f"{value:02x}".encode() for value in range(256)], dtype="S2").view(np.uint16)
    text = np.empty(values.shape, dtype=np.uint16)
    for start in range(0, len(values), _CHUNK):
        text[start : start + _CHUNK] = digits[values[start : start + _CHUNK]]
    offsets = np.arange(len(values) + 1, dtype=np.int64) * (2 * values.shape[1])
    column = pa.LargeStringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(text))
    return pa.table({"": column}).to_pandas()[""].astype("str")


def ascending(values: pd.Series) -> bool:
    """Tell whether a text column, every row of which is there, is sorted.

    pandas' `is_monotonic_increasing` would make an object of each text first.
    """
    column = pa.array(values.astype("str"))
    return bool(pc.all(pc.less_equal(column[:-1], column[1:]), min_count=0).as_py())


def repeated(values: pd.Series) -> np.ndarray:
    """Tell which rows of a text column, every row of which is there, have the text of another; bool (n,).

    pandas' `duplicated` would make an object of each text first.
    """
    codes, known = pd.factorize(values)
    return np.bincount(codes, minlength=len(known))[codes] > 1
