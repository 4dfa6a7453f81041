"""A comparison as comma-separated values and as JSON: plain numbers for the next program."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from typing import Any

from dermonas.comparison.compare import Cell, Comparison, Row
from dermonas.comparison.pairs import Pair
from dermonas.comparison.published import Printed
from dermonas.comparison.scores import Score

_ABOUT = ("mark", "name", "source", "label_fraction", "start", "seeds", "run_ids")
_SCORES = ("accuracy", "balanced_accuracy", "melanoma_f1", "top5_accuracy", "error", "top5_error")
_PLAIN = ("parameters", "multiply_adds", "latency_ms", "search_days", "operations", "strategy")


def to_csv(comparison: Comparison) -> str:
    """Return one line a model: shares in [0, 1], counts, milliseconds, days; empty where there is no value.

    A published spread stands in a column of its own, never under `_sd`.
    """
    present = [name for name in _SCORES if any(name in row.cells for row in comparison.rows)]
    heads = [f"{name}{end}" for name in present for end in ("", "_sd", "_lo", "_hi", "_published_spread")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_ABOUT, *_PLAIN, "dead_parameters", *heads, "note"])
    for row in comparison.rows:
        candidate = row.candidate
        writer.writerow(
            [
                row.mark,
                row.name,
                "published" if candidate is None else "measured",
                "" if candidate is None else candidate.label_fraction,
                "" if candidate is None else candidate.start,
                "" if candidate is None else " ".join(str(run.seed) for run in candidate.runs),
                "" if candidate is None else " ".join(run.run_id for run in candidate.runs),
                *(row.cells.get(name) for name in _PLAIN),
                "" if candidate is None else candidate.dead_parameters,
                *(number for name in present for number in _numbers(row.cells.get(name))),
                "; ".join(filter(None, (row.note, row.differs))),
            ]
        )
    return text.getvalue()


def to_json(comparison: Comparison) -> str:
    """Return everything but the answers; null where a value does not exist."""
    content = {
        "layout": comparison.layout.name,
        "split": asdict(comparison.split),
        "rows": [_row(row) for row in comparison.rows],
        "tests": [_pair(comparison, pair) for pair in comparison.tests],
        "fronts": {cost: [row.mark for row in comparison.front(cost)] for cost in ("parameters", "multiply_adds")},
        "notes": list(comparison.notes),
    }
    return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _numbers(cell: Cell) -> tuple[float | None, ...]:
    """Return value, sd, lower and upper bound, and published spread."""
    if isinstance(cell, Score):
        lo, hi = _finite([cell.interval.lo, cell.interval.hi])
        return _finite(cell.mean), cell.sd, lo, hi, None
    return (cell.value, None, None, None, cell.spread) if isinstance(cell, Printed) else (None,) * 5


def _row(row: Row) -> dict[str, Any]:
    candidate = row.candidate
    measured = {} if candidate is None else {
        "kind": candidate.kind,
        "start": candidate.start,
        "label_fraction": candidate.label_fraction,
        "dead_parameters": candidate.dead_parameters,
        "runs": [{"run_id": run.run_id, "seed": run.seed} for run in candidate.runs],
    }  # fmt: skip
    cells = {name: asdict(cell) if isinstance(cell, Score | Printed) else cell for name, cell in row.cells.items()}
    source = "published" if row.published else "measured"
    return {
        "mark": row.mark,
        "name": row.name,
        "source": source,
        "note": row.note,
        "differs": row.differs,
        **measured,
        "cells": cells,
    }


def _pair(comparison: Comparison, pair: Pair) -> dict[str, Any]:
    marks = {"first": comparison.rows[pair.first].mark, "second": comparison.rows[pair.second].mark}
    return {**asdict(pair), **marks}


def _finite(content: Any) -> Any:
    """Return the content with None for NaN: JSON has none."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content
