"""Table 1 and the comparison as plain rows, as CSV and as words for a reader."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from dermonas.comparison.controller.material import Report
from dermonas.comparison.controller.published import FIGURES, published
from dermonas.comparison.controller.searches import Difference
from dermonas.comparison.wording import NONE, number

HEADINGS = {
    "queries": "Queries",
    "test_acc": "Test accuracy, %",
    "sd": "SD of queried, %",
    "regret": "Regret, points",
    "rank": "Ranking",
}
"""Of Table 1's columns; the first is the query that found the best."""

_PLACES = {"queries": 0, "test_acc": 2, "sd": 2, "regret": 2, "rank": 0}


def about_published(report: Report) -> str:
    """Say what the published rows are, and why they do not compare where they do not."""
    paper, own = published(), report.material
    text = f"Published: Table 1 of the paper, as printed, {paper.benchmark}, five runs of up to 6,528 queries"
    if own.domain != "nasbench101":
        return f"{text}: another benchmark than {own.place}, not to be compared figure by figure"
    most = max((one.queries for one in own.searches), default=0)
    return f"{text}; ours have {most:,} queries"


def table1_rows(report: Report) -> list[tuple[str, str, dict[str, tuple[float, float]]]]:
    """Return name, source ("measured" or "published") and cells of each row of Table 1, ours first."""
    ours = [
        (arm, "measured", {name: (c.mean, c.spread) for name, c in cells.items()}) for arm, cells in report.rows.items()
    ]
    return ours + [(row.method, "published", row.cells) for row in published().rows]


def table1_csv(report: Report) -> str:
    """Return Table 1 as comma-separated values; empty where there is no value."""
    head = ["method", "source", "benchmark", "seeds", "run_id"]
    head += [f"{name}{end}" for name in FIGURES for end in ("_mean", "_std")]
    known = {one.arm: one for one in report.material.searches}
    lines: list[list[object]] = []
    for name, source, cells in table1_rows(report):
        ours = source == "measured"
        about = [report.material.place if ours else published().benchmark]
        about += [str(len(known[name].seeds)), known[name].run_id] if ours else ["5", ""]
        lines.append(
            [name, source, *about, *(_plain(v) for key in FIGURES for v in cells.get(key, (math.nan, math.nan)))]
        )
    return _csv(head, lines)


def comparison_csv(report: Report) -> str:
    """Return the comparison: one line an arm, number of queries and reference; accuracies in percent."""
    head = ["arm", "queries", "seeds", "seeds_ended_before", "test_acc_mean", "test_acc_std"]
    head += ["reference", "paired_seeds", "difference", "difference_lo", "difference_hi"]
    lines: list[list[object]] = []
    for row in report.standings:
        start = [row.arm, row.queries, row.seeds, row.short, _plain(row.accuracy.mean), _plain(row.accuracy.spread)]
        ends = [[d.reference, d.seeds, *map(_plain, (d.mean, d.lo, d.hi))] for d in row.differences]
        lines += [[*start, *end] for end in ends or [["", "", "", "", ""]]]
    return _csv(head, lines)


def locality_json(report: Report) -> str:
    """Return the locality of each controller."""
    content = [
        {
            "metric": one.metric,
            "run_id": one.run_id,
            "spearman": {"estimate": one.rho.estimate, "lo": one.rho.lo, "hi": one.rho.hi, "level": one.rho.level},
            "pairs": {str(distance): one.pairs.count(distance) for distance in one.medians()},
            "median_cosine": {str(distance): median for distance, median in one.medians().items()},
            "anchors": len(set(one.pairs.anchor.tolist())),
        }
        for one in report.similarities
    ]
    return json.dumps({"domain": report.material.domain, "controllers": _finite(content)}, indent=2) + "\n"


def cell_text(name: str, cell: tuple[float, float] | None, *, printed: bool = False) -> str:
    """Write a cell of Table 1: mean, and its spread where there is one; a paper's spread in its own digits."""
    if cell is None or math.isnan(cell[0]):
        return NONE
    mean, spread = number(cell[0], _PLACES[name]), cell[1]
    if math.isnan(spread):
        return mean
    return f"{mean} ± {f'{spread:g}' if printed else number(spread, _PLACES[name] or 1)}"


def difference_text(found: Difference) -> str:
    """Write a paired difference with its interval and what it says."""
    if math.isnan(found.mean):
        return f"no seed in common with {found.reference}"
    sign = "+" if round(found.mean, 2) > 0 else ""
    if math.isnan(found.lo):
        return f"{sign}{number(found.mean, 2)} (one seed, no interval)"
    verdict = "higher" if found.lo > 0 else "lower" if found.hi < 0 else "not resolved"
    return (
        f"{sign}{number(found.mean, 2)} [{number(found.lo, 2)}, {number(found.hi, 2)}], {found.seeds} seeds: {verdict}"
    )


def comparison_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of the comparison for a reader; a column a reference that is there."""
    present = {d.reference for row in report.standings for d in row.differences}
    shown = [name for name in report.settings.references if name in present]
    head = ["Arm", "Queries", "Seeds", "Test accuracy, %", *(f"Less {name}" for name in shown)]
    rows = []
    for row in report.standings:
        gaps = {d.reference: difference_text(d) for d in row.differences}
        seeds = f"{row.seeds}" + (f" ({row.short} ended before)" if row.short else "")
        accuracy = cell_text("test_acc", row.accuracy)
        rows.append([row.arm, f"{row.queries}", seeds, accuracy, *(gaps.get(name, NONE) for name in shown)])
    return head, rows


def _csv(head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return text.getvalue()


def _plain(value: float) -> object:
    return "" if math.isnan(value) else round(value, 6)


def _finite(content: Any) -> Any:
    """Return the content with None for NaN: JSON has none."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content
