"""An evaluation as files: report.json, report.txt, report.csv (Table V's layout) and subgroups.csv."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dermonas.evaluation.evaluate import Evaluation
from dermonas.evaluation.files import replacing
from dermonas.metrics.calibration import Reliability
from dermonas.metrics.intervals import Interval

SYNTHETIC = "Synthetic phantom images: these figures say nothing about patients."


def write_documents(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the files and return their paths; subgroups.csv only where metadata exist.

    Raises:
        StorageError: The disk refuses.
    """
    content = json.dumps(as_dict(evaluation), indent=2, allow_nan=False)
    files = {
        "report.json": f"{content}\n",
        "report.txt": as_text(evaluation),
        "report.csv": _csv(report_table(evaluation)),
    }
    if evaluation.subgroups:
        files["subgroups.csv"] = _csv(subgroup_rows(evaluation))
    return [_write(folder / name, text) for name, text in files.items()]


def report_table(evaluation: Evaluation) -> list[list[str]]:
    """Return precision, recall, F1 and support by class with their averages, a header first; "" where undefined.

    Source: CSNAS, Table V.
    """
    rows = [["Class", "Precision", "Recall", "F1-score", "Support"]]
    for row in evaluation.report.rows:
        rows.append([row.name, *map(_number, (row.precision, row.recall, row.f1)), str(row.support)])
    return rows


def subgroup_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return the subgroup table, a header first; figures are "" where too few groups withhold them."""
    names = list(dict.fromkeys(name for row in evaluation.subgroups for name in row.figures))
    figures = [f"{name}{end}" for name in names for end in ("", "_lo", "_hi")]
    rows = [["column", "value", "images", "groups", "classes", "withheld", *figures]]
    for row in evaluation.subgroups:
        found = [row.figures.get(name) for name in names]
        values = [_number(x) for one in found for x in ((one.estimate, one.lo, one.hi) if one else (math.nan,) * 3)]
        counts = [str(row.rows), str(row.groups), str(row.classes), "yes" if row.withheld else "no"]
        rows.append([row.column, row.value, *counts, *values])
    return rows


def as_text(evaluation: Evaluation) -> str:
    """Return the report that a person reads."""
    rows, before, after = evaluation.predictions, evaluation.before, evaluation.after
    lines = [
        f"{rows.model} on {rows.dataset}, {evaluation.split} split: {len(rows)} images in {evaluation.groups} groups"
        + (", averaged over flips" if rows.tta else ""),
        *([SYNTHETIC] if rows.synthetic else []),
        f"data digest {rows.dataset_digest}",
        "",
        *(f"WARNING: {text}" for text in evaluation.warnings),
        *([""] if evaluation.warnings else []),
        "Figures (95 % bootstrap intervals over groups)",
        *_aligned([[name, _shown(x.estimate), _range(x)] for name, x in evaluation.headline.items()]),
    ]
    point = evaluation.melanoma_point
    if point is not None and math.isfinite(point.threshold):
        lines.append(
            f"{evaluation.melanoma} at 90 % specificity: probability >= {point.threshold:.4f}, chosen on these rows"
        )
    lines += ["", "By class", *_aligned(_blank(report_table(evaluation)))]
    lines += [f"Accuracy {_shown(evaluation.report.accuracy)}", "", "Calibration"]
    lines += _aligned(
        [
            ["temperature", "ECE", "MCE", "ECE of noise alone (95 %)"],
            ["1", _shown(before.ece), _shown(before.mce), _noise(evaluation.noise_before)],
            [
                f"{evaluation.temperature.value:.4f}",
                _shown(after.ece),
                _shown(after.mce),
                _noise(evaluation.noise_after),
            ],
        ]
    )
    if evaluation.subgroups:
        lines += ["", "Subgroups (95 % bootstrap intervals over groups)"]
        names = list(dict.fromkeys(name for row in evaluation.subgroups for name in row.figures))
        table = [["", "", "images", "groups", "classes", *names]]
        for row in evaluation.subgroups:
            figures = [
                f"{_shown(row.figures[name].estimate)} {_range(row.figures[name])}" for name in names if row.figures
            ]
            withheld = [] if not row.withheld else ["withheld: too few groups"]
            table.append([row.column, row.value, str(row.rows), str(row.groups), str(row.classes), *figures, *withheld])
        lines += _aligned(table)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything but the rows as JSON-able values; None where a figure is undefined."""
    rows = evaluation.predictions
    content = {
        "model": rows.model,
        "dataset": rows.dataset,
        "dataset_digest": rows.dataset_digest,
        "synthetic": rows.synthetic,
        "split": evaluation.split,
        "tta": rows.tta,
        "images": len(rows),
        "groups": evaluation.groups,
        "classes": list(rows.classes),
        "warnings": list(evaluation.warnings),
        "headline": {name: asdict(interval) for name, interval in evaluation.headline.items()},
        "report": [asdict(row) for row in evaluation.report.rows],
        "confusion": evaluation.confusion.tolist(),
        "auroc": evaluation.areas.by_class,
        "melanoma": evaluation.melanoma,
        "melanoma_at_90_specificity": None if evaluation.melanoma_point is None else asdict(evaluation.melanoma_point),
        "temperature": asdict(evaluation.temperature),
        "reliability": {
            "before": _bins(evaluation.before, evaluation.noise_before),
            "after": _bins(evaluation.after, evaluation.noise_after),
        },
        "subgroups": [asdict(row) for row in evaluation.subgroups],
    }
    plain: dict[str, Any] = _plain(content)
    return plain


def _bins(curve: Reliability, noise: tuple[float, float]) -> dict[str, Any]:
    return {
        "ece": curve.ece,
        "mce": curve.mce,
        "ece_of_noise": {"mean": noise[0], "p95": noise[1]},
        "edges": curve.edges.tolist(),
        "counts": curve.counts.tolist(),
        "confidence": curve.confidence.tolist(),
        "accuracy": curve.accuracy.tolist(),
    }


def _plain(value: Any) -> Any:
    """Replace what JSON does not know: tuples by lists, NaN and infinity by None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else ""


def _shown(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "undefined"


def _range(interval: Interval) -> str:
    known = math.isfinite(interval.lo) and math.isfinite(interval.hi)
    return f"[{interval.lo:.3f}, {interval.hi:.3f}]" if known else "[no interval]"


def _noise(noise: tuple[float, float]) -> str:
    return f"{noise[0]:.3f} (up to {noise[1]:.3f})"


def _blank(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[cell or "-" for cell in row] for row in rows]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad the columns; short rows end early."""
    widths = [max(len(row[k]) for row in rows if len(row) > k) for k in range(max(map(len, rows), default=0))]
    return ["  " + "  ".join(cell.ljust(widths[k]) for k, cell in enumerate(row)) for row in rows]


def _csv(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _write(path: Path, text: str) -> Path:
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")
    return path
