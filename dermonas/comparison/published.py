"""The papers' own rows, as printed, to stand beside ours and never among them.

Source: CSNAS, Tables I, II and IV; two misprints of Table II are mended and say so in the row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LETTERS = "abcdefghjkmnpqrstuvwxyz"
_FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Printed:
    """A figure as a paper prints it.

    Attributes:
        value: A share in [0, 1].
        spread: What stands behind the paper's plus-minus sign; None where nothing does.
    """

    value: float
    spread: float | None = None


@dataclass(frozen=True)
class PublishedRow:
    """One model of a published table.

    Attributes:
        name: As printed.
        cells: By column: counts, days, text, or `Printed` shares; columns that the table leaves empty are missing.
        note: What a reader must know, or "".
    """

    name: str
    cells: Mapping[str, Printed | float | int | str]
    note: str


@dataclass(frozen=True)
class PublishedTable:
    """A published table.

    Attributes:
        table: Such as "Table IV".
        data: The data set that it is about.
        caption: What it shows, in our words.
        rows: In the printed order.
    """

    table: str
    data: str
    caption: str
    rows: tuple[PublishedRow, ...]


def published(layout: str) -> PublishedTable:
    """Return the published table of a layout: "isic", "cifar10" or "imagenet"."""
    content = json.loads(_FILE.read_text(encoding="utf-8"))[layout]
    rows = tuple(PublishedRow(row["name"], _cells(row), row.get("note", "")) for row in content["rows"])
    return PublishedTable(content["table"], content["data"], content["caption"], rows)


def mark(place: int) -> str:
    """Return what figures call a published row, from 0: "a" to "z", "aa", ..., without i, l and o.

    Those three look like the digits that mark our own rows.
    """
    before, last = divmod(place, len(_LETTERS))
    return (mark(before - 1) if before else "") + _LETTERS[last]


def _cells(row: Mapping[str, Any]) -> dict[str, Printed | float | int | str]:
    """Turn printed units into ours: millions into counts, percent into shares."""
    cells: dict[str, Printed | float | int | str] = {}
    for name in ("parameters", "multiply_adds"):
        if f"{name}_m" in row:
            cells[name] = round(1e6 * row[f"{name}_m"])
    for name in ("search_days", "operations", "strategy"):
        if name in row:
            cells[name] = row[name]
    for name, opposite in (("accuracy", "error"), ("top5_accuracy", "top5_error")):
        if f"{name}_pct" in row or f"{opposite}_pct" in row:
            known = name if f"{name}_pct" in row else opposite
            share = round(row[f"{known}_pct"] / 100, 6)
            spread = row.get(f"{known}_spread_pct")
            spread = None if spread is None else round(spread / 100, 6)
            cells[known] = Printed(share, spread)
            cells[opposite if known == name else name] = Printed(round(1 - share, 6), spread)
    if "melanoma_f1" in row:
        cells["melanoma_f1"] = Printed(row["melanoma_f1"])
    return cells
