"""How figures are written for a person: percent, counts, p-values, and what a test says in a sentence."""

from __future__ import annotations

import math

from dermonas.comparison.compare import Cell, Comparison, Row
from dermonas.comparison.layouts import Unit
from dermonas.comparison.pairs import Pair
from dermonas.comparison.published import Printed
from dermonas.comparison.scores import Score

NONE = "–"
"""Stands where there is no value."""

CALLED = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}

# Test images from which a hundredth of a percent is not all noise: one image is then .05 %.
_FINE = 2000


def digits(comparison: Comparison) -> int:
    """Return the decimals that a percentage is worth on this many images."""
    return 2 if comparison.split.images >= _FINE else 1


def number(value: float, places: int) -> str:
    """Write a number with a true minus; `NONE` for NaN."""
    if math.isnan(value):
        return NONE
    text = f"{value:.{places}f}"
    return text.replace("-", "−") if float(text) else text.replace("-", "")


def bounds(lo: float, hi: float, places: int) -> str:
    """Write an interval, or that there is none."""
    return "[no interval]" if math.isnan(lo) else f"[{number(lo, places)}, {number(hi, places)}]"


def count(value: float) -> str:
    """Write a count in millions or thousand millions, four digits."""
    return f"{value / 1e9:.4g} G" if value >= 1e9 else f"{value / 1e6:.4g} M"


def cell_text(cell: Cell, unit: Unit, places: int) -> tuple[str, str]:
    """Write a cell: the value with its spread, and the interval (empty of anything but a `Score`).

    Args:
        cell: What the row has.
        unit: Of the column.
        places: Decimals of a percentage.
    """
    if isinstance(cell, Score | Printed):
        scale, places = (100, places) if unit == "percent" else (1, 3)
        if isinstance(cell, Printed):
            # A paper's own digits: two of a percentage or of an F1.
            spread = "" if cell.spread is None else f" ± {number(scale * cell.spread, 2)}"
            return f"{number(scale * cell.value, 2)}{spread}", ""
        spread = "" if cell.sd is None else f" ± {number(scale * cell.sd, places)}"
        if math.isnan(cell.mean):
            return NONE, ""
        interval = bounds(scale * cell.interval.lo, scale * cell.interval.hi, places)
        return f"{number(scale * cell.mean, places)}{spread}", interval
    if cell is None or isinstance(cell, str):
        return cell or NONE, ""
    if unit == "count":
        return count(cell), ""
    if unit == "number":
        return f"{cell:g}", ""
    return (f"{cell:,.0f}" if cell >= 100 else f"{cell:.3g}"), ""


def p_text(value: float | None) -> str:
    """Write a p-value as "p = .18", "p < .001" or "no p-value"."""
    if value is None or math.isnan(value):
        return "no p-value"
    if value < 0.001:
        return "p < .001"
    if value >= 0.9995:
        return "p = 1"
    return "p = " + f"{value:.{2 if value >= 0.095 else 3}f}".lstrip("0")


def labels_text(fraction: float) -> str:
    """Write a label fraction as "10 %"."""
    return f"{100 * fraction:.3g} %"


def title(comparison: Comparison, row: Row) -> str:
    """Return a model's name, with its label fraction where the comparison has several."""
    if row.published or len({one.label_fraction for one in comparison.ours}) == 1:
        return row.name
    return f"{row.name}, {labels_text(row.label_fraction)} of labels"


def difference_text(comparison: Comparison, pair: Pair, figure: str) -> str:
    """Say what the paired bootstrap found of one figure, in percentage points."""
    found, corrected = pair.differences[figure], pair.corrected[figure]
    places = digits(comparison)
    sign = "+" if round(100 * found.difference.estimate, places) > 0 else ""
    gap = f"difference {sign}{number(100 * found.difference.estimate, places)} points"
    if corrected is None:
        return f"{gap}, no interval can be made: too few lesions, or a class that most resamples lack"
    interval = bounds(100 * found.difference.lo, 100 * found.difference.hi, places)
    first, second = (comparison.rows[place].name for place in (pair.first, pair.second))
    verdict = "not resolved"
    if corrected < 1 - comparison.split.level:
        verdict = f"{first if found.difference.estimate > 0 else second} is higher"
    return f"{gap} {interval}, {p_text(corrected)} after Holm: {verdict}"


def mcnemar_text(comparison: Comparison, pair: Pair) -> str:
    """Say what McNemar's test found."""
    found = pair.mcnemar
    text = f"{found.only_first} images right by the first alone, {found.only_second} by the second alone, "
    verdict = "not resolved"
    if pair.mcnemar_corrected < 1 - comparison.split.level:
        place = pair.first if found.only_first > found.only_second else pair.second
        verdict = f"{comparison.rows[place].name} is right more often"
    return f"{text}{p_text(pair.mcnemar_corrected)} after Holm: {verdict}"


def resampled(comparison: Comparison) -> str:
    """Name what the bootstrap resamples: lesions, or images where each is a group of its own."""
    return "images" if comparison.split.lesions == comparison.split.images else "lesions"
