"""An audit as files: figures, a table, a page in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from dermonas.audit.columns import Table
from dermonas.audit.correlation import RIVALS, Choice, recommendation
from dermonas.audit.figures import cost_figure, epochs_figure, scatter_figure
from dermonas.comparison.canvas import image
from dermonas.errors import StorageError
from dermonas.metrics.intervals import Interval
from dermonas.metrics.ranks import RankCorrelation


def write_audit(table: Table, found: Mapping[str, RankCorrelation], choice: Choice, folder: Path) -> list[Path]:
    """Write audit.md, correlations.json, scores.parquet and the figures (SVG and PNG); return the paths.

    Raises:
        StorageError: The disk refuses.
    """
    figures = {
        "correlation-cost": cost_figure(table, found),
        "correlation-epochs": epochs_figure(table, found),
        "scores-accuracy": scatter_figure(table, found, choice),
    }
    files: dict[str, bytes] = {
        "audit.md": page(table, found, choice).encode(),
        "correlations.json": json.dumps(numbers(table, found, choice), indent=1).encode(),
        **{f"{name}.{kind}": image(figure, kind) for name, figure in figures.items() for kind in ("svg", "png")},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        frame = pd.DataFrame({name: column.values for name, column in table.columns.items()})
        frame.insert(0, "accuracy", table.quality)
        frame.insert(0, "network", table.names)
        frame.to_parquet(folder / "scores.parquet", index=False)
    except OSError as error:
        raise StorageError(f"cannot write the audit to {folder}: {error.strerror or error}; free space") from error
    return [folder / name for name in (*files, "scores.parquet")]


def numbers(table: Table, found: Mapping[str, RankCorrelation], choice: Choice) -> dict[str, object]:
    """Return all figures, JSON-able."""
    return {
        "networks": len(table.quality),
        "recommendation": recommendation(table, dict(found)),
        "choice": asdict(choice),
        "columns": {
            name: {
                "kind": table.columns[name].kind,
                "seconds": table.columns[name].seconds,
                "kendall": asdict(one.kendall),
                "spearman": asdict(one.spearman),
                "networks": one.networks,
                "omitted": one.omitted,
            }
            for name, one in found.items()
        },
    }


def page(table: Table, found: Mapping[str, RankCorrelation], choice: Choice) -> str:
    """Return the audit in Markdown."""
    spread = 100 * table.quality
    lines = [
        "# Does the score rank networks as training does?",
        "",
        f"{len(spread)} networks, accuracy {spread.min():.2f} to {spread.max():.2f} %, standard deviation "
        f"{spread.std(ddof=1):.2f} points. All scores are turned so that the higher is the better; intervals are 95 %, "
        "over networks.",
        "",
        f"Recommended: {recommendation(table, dict(found))}.",
        "",
        "## Chosen on one half, judged on the other",
        "",
        f"{choice.splits} random halvings. With so many networks a difference of {choice.detectable:.2f} shows in 80 % "
        "of tries (two scores that know nothing of each other; known before the scores were).",
        "",
        "| | Kendall tau on the judging halves | chosen score less this |",
        "|---|---|---|",
        f"| chosen score | {_text(choice.tau)} | |",
        *(f"| {name} | {_text(choice.rivals[name])} | {_text(choice.differences[name])} |" for name in RIVALS),
        "",
        "Chosen: " + ", ".join(f"{name} ({count})" for name, count in choice.chosen.items()) + ".",
        "",
        "**" + _verdict(choice) + "**",
        "",
        "## All scores",
        "",
        "| score | kind | s a candidate | Kendall tau | Spearman rho | networks without it |",
        "|---|---|---|---|---|---|",
    ]
    ordered = sorted(found, key=lambda name: -found[name].kendall.estimate)
    for name in ordered:
        column, one = table.columns[name], found[name]
        lines.append(
            f"| {name} | {column.kind} | {column.seconds:.2f} | {_text(one.kendall)} | {_text(one.spearman)} "
            f"| {one.omitted} |"
        )
    constant = [name for name in table.columns if name not in found]
    if constant:
        lines += ["", "Alike for all networks, so without a rank: " + ", ".join(constant) + "."]
    return "\n".join(lines) + "\n"


def _verdict(choice: Choice) -> str:
    if choice.shown:
        return "The chosen score is better than size, the best operation count and the papers' score."
    open_ = [name for name in RIVALS if not choice.differences[name].lo > 0]
    return f"Not shown: that the chosen score is better than {' or '.join(open_)}."


def _text(value: Interval) -> str:
    return f"{value.estimate:.2f} [{value.lo:.2f}, {value.hi:.2f}]"
