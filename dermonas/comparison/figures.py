"""Accuracy against cost with the Pareto front, and accuracy against the share of labels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dermonas.comparison.canvas import COLOURS, SETTINGS, empty, literal, plain_axes
from dermonas.comparison.compare import Comparison, Cost, Row, share, value
from dermonas.comparison.marks import LEADER, LINE, Box, KeyEntry, key, key_width, place
from dermonas.comparison.scores import Score
from dermonas.comparison.wording import labels_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS: dict[Cost, str] = {"parameters": "Parameters", "multiply_adds": "Multiply-adds for one image"}

# Inches.
_LEFT, _BOTTOM, _WIDE, _TALL, _TOP, _GAP = 0.62, 0.55, 5.4, 3.6, 0.3, 0.25

# After Okabe and Ito, of a lightness that shows on white and on black alike; markers tell those apart that share one.
_LINES = ("#2a86c8", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#c79200", "#7a7a7a")
_MARKERS = ("o", "s", "^", "D", "v")
_SHAPES = {"cells": "o", "timm": "s"}


def cost_figure(comparison: Comparison, cost: Cost) -> Figure:
    """Draw accuracy in percent against a cost on a logarithmic axis.

    Our models of the largest label fraction are filled, with their interval; the front is a line of steps. Published
    models are hollow. The mark beside a point is the row's in the table; the key beside the figure names it.
    """
    import matplotlib

    rows = comparison.peers
    theirs = tuple(row for row in comparison.published if not math.isnan(value(row, cost) + share(row)))
    entries = _cost_key(comparison, rows, theirs, cost)
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _page(comparison, entries)
        for row in (*rows, *theirs):
            _point(axes, row, value(row, cost))
        steps = _steps(comparison.front(cost), cost)
        axes.plot(*zip(*steps, strict=True), color=COLOURS["muted"], linewidth=1.2, linestyle=(0, (5, 2)), zorder=2)
        _limits(axes, [value(row, cost) for row in (*rows, *theirs)])
        axes.set_xlabel(COSTS[cost], color=COLOURS["ink"])
        axes.set_ylabel("Test accuracy, %", color=COLOURS["ink"])
        axes.xaxis.set_major_formatter(lambda number, _: _short(number))
        spots = [
            _Spot(row.mark, value(row, cost), row, COLOURS["muted"] if row.candidate is None else
                  COLOURS[row.candidate.kind]) for row in (*rows, *theirs)
        ]  # fmt: skip
        _mark(figure, axes, spots, [steps])
    return figure


def labels_figure(comparison: Comparison) -> Figure | None:
    """Draw accuracy in percent, with intervals, against the share of labels; None of a single share."""
    import matplotlib

    fractions = sorted({row.label_fraction for row in comparison.ours})
    if len(fractions) < 2:
        return None
    names = list(dict.fromkeys(row.name for row in comparison.ours))
    colours = [_LINES[index % len(_LINES)] for index in range(len(names))]
    entries = [
        KeyEntry(str(index + 1), name, colour) for index, (name, colour) in enumerate(zip(names, colours, strict=True))
    ]
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _page(comparison, entries)
        marked, lines = [], []
        for index, name in enumerate(names):
            rows = sorted((row for row in comparison.ours if row.name == name), key=lambda row: row.label_fraction)
            # Apart by less than the eye takes for another share, so that intervals do not hide each other.
            shift = 1.03 ** (index - (len(names) - 1) / 2)
            spots = [row.label_fraction * shift for row in rows]
            lines.append([(spot, 100 * share(row)) for spot, row in zip(spots, rows, strict=True)])
            axes.plot(
                *zip(*lines[-1], strict=True),
                color=colours[index],
                marker=_MARKERS[index // len(_LINES) % len(_MARKERS)],
                markersize=5,
                linewidth=1.4,
            )
            for spot, row in zip(spots, rows, strict=True):
                _interval(axes, row, spot, colours[index])
            marked += [_Spot(str(index + 1), spot, row, colours[index]) for spot, row in zip(spots, rows, strict=True)]
        axes.set_xticks(fractions, [labels_text(fraction) for fraction in fractions])
        axes.set_xticks([], minor=True)
        reach = 1.1 * 1.03 ** (len(names) / 2)
        axes.set_xlim(fractions[0] / reach, fractions[-1] * reach)
        axes.set_xlabel("Share of the training labels used", color=COLOURS["ink"])
        axes.set_ylabel("Test accuracy, %", color=COLOURS["ink"])
        _mark(figure, axes, marked, lines)
    return figure


_PIECE = 4.0  # points of length: marks keep off a line piece by piece


@dataclass(frozen=True, eq=False)
class _Spot:
    """A point to be marked."""

    mark: str
    x: float
    row: Row
    colour: str


def _page(comparison: Comparison, entries: Sequence[KeyEntry]) -> tuple[Figure, Axes]:
    """Return a figure with its key and the data's name, and axes whose x is logarithmic."""
    lines = int((_TALL + _BOTTOM - 0.1) / LINE)
    columns = math.ceil(len(entries) / lines)
    figure = empty(_LEFT + _WIDE + _GAP + key_width(entries) * columns, _BOTTOM + _TALL + _TOP)
    axes = plain_axes(figure, _LEFT, _BOTTOM, _WIDE, _TALL)
    axes.set_xscale("log")
    about = f"{comparison.split.dataset}{', synthetic phantom images' if comparison.split.synthetic else ''}"
    axes.set_title(literal(about), loc="left", fontsize=8.5, color=COLOURS["muted"])
    key(figure, entries, _LEFT + _WIDE + _GAP, _BOTTOM + _TALL + 0.05, lines)
    return figure, axes


def _steps(front: Sequence[Row], cost: Cost) -> list[tuple[float, float]]:
    """Return the corners of the line: the best accuracy that a cost can have."""
    corners: list[tuple[float, float]] = []
    for row in front:
        if corners:
            corners.append((value(row, cost), corners[-1][1]))
        corners.append((value(row, cost), 100 * share(row)))
    return corners


def _point(axes: Axes, row: Row, cost: float) -> None:
    if row.candidate is None:
        axes.plot([cost], [100 * share(row)], "o", markersize=5, color="none", markeredgecolor=COLOURS["muted"],
                  markeredgewidth=1.0, zorder=3)  # fmt: skip
        return
    colour = COLOURS[row.candidate.kind]
    _interval(axes, row, cost, colour)
    axes.plot([cost], [100 * share(row)], _SHAPES[row.candidate.kind], markersize=6, color=colour, zorder=4)


def _interval(axes: Axes, row: Row, x: float, colour: str) -> None:
    cell = row.cells["accuracy"]
    if isinstance(cell, Score) and not math.isnan(cell.interval.lo):
        bounds = 100 * cell.interval.lo, 100 * cell.interval.hi
        axes.vlines(x, *bounds, color=colour, linewidth=1.1, alpha=0.75, zorder=3)


def _limits(axes: Axes, costs: list[float]) -> None:
    """Leave a margin on the logarithmic axis, and at least a factor of four in all, so that it has ticks."""
    low, high = min(costs), max(costs)
    margin = max(1.25, 2 / math.sqrt(high / low))
    axes.set_xlim(low / margin, high * margin)
    bottom, top = axes.get_ylim()
    slack = max(1.0, 0.06 * (top - bottom))
    axes.set_ylim(max(bottom - slack, -3.0), min(top + slack, 103.0))
    low, high = axes.get_xlim()
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = [step * 10.0**power for power in range(13) for step in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) > 3:
            break
    axes.set_xticks(inside)
    axes.set_xticks([], minor=True)


def _mark(figure: Figure, axes: Axes, spots: Sequence[_Spot], lines: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Write each mark beside its point, off the points, the intervals and the lines."""
    scale = 72 / figure.dpi  # pixels to points

    def on_page(x: float, y: float) -> tuple[float, float]:
        across, up = axes.transData.transform((x, y)) * scale
        return float(across), float(up)

    heights = [100 * share(spot.row) for spot in spots]
    points = [on_page(spot.x, height) for spot, height in zip(spots, heights, strict=True)]
    thin: list[Box] = []
    for line in lines:
        for one, other in itertools.pairwise([on_page(*corner) for corner in line]):
            pieces = 1 + int(math.dist(one, other) / _PIECE)
            for part in range(pieces + 1):
                x, y = (a + (b - a) * part / pieces for a, b in zip(one, other, strict=True))
                thin.append((x - 1, y - 1, x + 1, y + 1))
    for spot, (x, _) in zip(spots, points, strict=True):
        cell = spot.row.cells["accuracy"]
        if isinstance(cell, Score) and not math.isnan(cell.interval.lo):
            low, high = (on_page(spot.x, 100 * end)[1] for end in (cell.interval.lo, cell.interval.hi))
            thin.append((x - 1, low, x + 1, high))
    box = axes.get_window_extent()
    area = (box.x0 * scale, box.y0 * scale, box.x1 * scale, box.y1 * scale)
    centres = place([spot.mark for spot in spots], points, thin, area)
    for spot, height, point, centre in zip(spots, heights, points, centres, strict=True):
        x, y = centre[0] - point[0], centre[1] - point[1]
        far = math.hypot(x, y) > LEADER
        axes.annotate(
            spot.mark,
            (spot.x, height),
            xytext=(x, y),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7,
            fontweight="normal" if spot.row.published else "bold",
            color=spot.colour,
            arrowprops={"arrowstyle": "-", "color": COLOURS["muted"], "linewidth": 0.4, "shrinkB": 3} if far else None,
        )


def _cost_key(comparison: Comparison, rows: tuple[Row, ...], theirs: tuple[Row, ...], cost: Cost) -> list[KeyEntry]:
    front = {row.mark for row in comparison.front(cost)}
    entries = []
    for kind, heading in (("cells", "● searched networks"), ("timm", "■ timm baselines")):
        own = [row for row in rows if row.candidate is not None and row.candidate.kind == kind]
        if own:
            entries.append(KeyEntry("", heading, COLOURS["ink"], strong=True))
            entries += [
                KeyEntry(row.mark, f"{row.name}{' ★' if row.mark in front else ''}", COLOURS[kind]) for row in own
            ]
    entries.append(KeyEntry("", "★ - - on the Pareto front", COLOURS["ink"]))
    if theirs:
        entries.append(KeyEntry("", f"○ published, {comparison.table.data}", COLOURS["ink"], strong=True))
        entries += [KeyEntry(row.mark, row.name, COLOURS["muted"]) for row in theirs]
    return entries


def _short(number: float) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:g}{unit}"
    return f"{number:g}"
