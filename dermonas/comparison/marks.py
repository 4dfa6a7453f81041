"""Where to write beside points so that nothing covers anything, and a key of what the marks mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dermonas.comparison.canvas import COLOURS, literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""

_TALL, _LETTER = 8.0, 5.0  # points, of a mark's text
_RINGS = (8.0, 13.0, 19.0, 26.0, 34.0)  # points from the marker's centre
LEADER = _RINGS[1]
"""From this distance on a line leads from the mark to its point."""

# Of a key: points, letters' mean widths in sizes of DejaVu Sans, inches.
_SIZE, _PLAIN, _BOLD, _INDENT, _WIDEST = 8.0, 0.6, 0.68, 0.45, 3.6


@dataclass(frozen=True)
class KeyEntry:
    """One line of a key.

    Attributes:
        mark: As beside the point; "" for a heading.
        text: What it means.
        colour: Of the mark.
        strong: Whether to set it in bold.
    """

    mark: str
    text: str
    colour: str
    strong: bool = False


def place(texts: Sequence[str], points: Sequence[tuple[float, float]], obstacles: Sequence[Box], area: Box) -> list[
    tuple[float, float]
]:  # fmt: skip
    """Return the centre of each text: near its point, off all points, obstacles and earlier texts.

    The least bad place is taken where there is no free one.

    Args:
        texts: Short.
        points: In points of length (1/72 inch), one a text.
        obstacles: What texts should not cover, besides the points.
        area: Where texts may stand.
    """
    around = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    taken: list[Box] = [*around, *obstacles]
    found = []
    for text, (x, y) in zip(texts, points, strict=True):
        half = (_LETTER * len(text) / 2, _TALL / 2)
        best, least = (x, y), math.inf
        for ring, radius in enumerate(_RINGS):
            for step in range(12):
                angle = math.pi * (0.25 + step / 6)
                centre = x + (radius + half[0] - 2.5) * math.cos(angle), y + radius * math.sin(angle)
                box = centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]
                cost = sum(_overlap(box, other) for other in taken) + 20 * _outside(box, area) + ring + 0.01 * step
                if cost < least:
                    best, least = centre, cost
        found.append(best)
        taken.append((best[0] - half[0], best[1] - half[1], best[0] + half[0], best[1] + half[1]))
    return found


def key_width(entries: Sequence[KeyEntry]) -> float:
    """Return the inches that a column of a key needs."""
    longest = max(len(entry.text) * (_BOLD if entry.strong else _PLAIN) for entry in entries)
    return float(min(_WIDEST, _INDENT + longest * _SIZE / 72))


def key(figure: Figure, entries: Sequence[KeyEntry], left: float, top: float, lines: int) -> None:
    """Write a key in columns, in inches from the left and the bottom.

    Args:
        figure: Where to.
        entries: From top to bottom.
        left: Of the first column.
        top: Of the first line.
        lines: A column.
    """
    size, wide = figure.get_size_inches(), key_width(entries)
    for index, entry in enumerate(entries):
        column, line = divmod(index, lines)
        x, y = (left + wide * column) / size[0], (top - LINE * line) / size[1]
        weight = "bold" if entry.strong else "normal"
        if entry.mark:
            figure.text(x + 0.2 / size[0], y, entry.mark, ha="right", va="top", fontsize=_SIZE, color=entry.colour,
                        fontweight="bold")  # fmt: skip
            x += 0.28 / size[0]
        room = int((wide - _INDENT) * 72 / (_SIZE * (_BOLD if entry.strong else _PLAIN)) + 0.5)
        text = entry.text if len(entry.text) <= room else f"{entry.text[: room - 1]}…"
        figure.text(x, y, literal(text), ha="left", va="top", fontsize=_SIZE, color=COLOURS["ink"], fontweight=weight)


LINE = 0.175
"""Inches from one line of a key to the next."""


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    tall = min(one[3], other[3]) - max(one[1], other[1])
    return 10 + wide * tall if wide > 0 and tall > 0 else 0.0


def _outside(box: Box, area: Box) -> float:
    return float(
        max(area[0] - box[0], 0) + max(area[1] - box[1], 0) + max(box[2] - area[2], 0) + max(box[3] - area[3], 0)
    )
