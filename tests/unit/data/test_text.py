"""Columns of text against Python's own strings."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermonas.data import text
from dermonas.data.text import ascending, hexadecimal, optional_text, repeated

TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=3), max_size=6)


@settings(max_examples=50, deadline=None)
@given(TEXTS, st.sampled_from(["str", object]))
def test_ascending_is_pythons_order(texts: list[str], dtype: object) -> None:
    assert ascending(pd.Series(texts, dtype=dtype)) == (texts == sorted(texts))


@settings(max_examples=50, deadline=None)
@given(TEXTS, TEXTS)
def test_ascending_looks_across_the_parts_of_a_column(first: list[str], second: list[str]) -> None:
    column = pd.concat([pd.Series(part, dtype="str") for part in (first, second)], ignore_index=True)
    assert ascending(column) == (first + second == sorted(first + second))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_hexadecimal_is_pythons_hex(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_CHUNK", 3)
    values = np.random.default_rng(0).integers(0, 256, (count, 32), dtype=np.uint8)
    column = hexadecimal(values)
    assert column.dtype == "str"
    assert column.tolist() == [row.tobytes().hex() for row in values]


def test_rows_with_the_same_text_share_it() -> None:
    column = optional_text(pd.Series(["".join(("M", "EL")), None, "".join(("M", "EL")), float("nan")], dtype=object))
    first, missing, second, other = column.tolist()
    assert first is second
    assert missing is None
    assert other is None


@settings(max_examples=50, deadline=None)
@given(TEXTS, st.sampled_from(["str", object]))
def test_repeated_is_counted_by_text(texts: list[str], dtype: object) -> None:
    assert repeated(pd.Series(texts, dtype=dtype)).tolist() == [texts.count(text) > 1 for text in texts]
