"""What the paper prints: Table 1, and the share of far pairs.

Source: the NAO paper, Table 1; the share of pairs more than 6 apart, its poster (spec/nao.md 2 and 6).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).with_name("published.json")

FIGURES = ("queries", "test_acc", "sd", "regret", "rank")
"""Columns of Table 1, each a mean and a standard deviation over five runs."""


@dataclass(frozen=True)
class PublishedRow:
    """A row of the paper's Table 1.

    Attributes:
        method: As printed.
        role: "metric", "strong baseline" or "weak baseline".
        cells: Mean and standard deviation by column; accuracies in percent.
    """

    method: str
    role: str
    cells: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Published:
    """The paper's figures.

    Attributes:
        benchmark: What they were measured on.
        best_test_accuracy: Of the benchmark, in percent; regrets are against it.
        share_above_6: Of random pairs, the percentage more than 6 edits apart, as printed ("about").
        rows: Of Table 1.
    """

    benchmark: str
    best_test_accuracy: float
    share_above_6: float
    rows: tuple[PublishedRow, ...]


def published() -> Published:
    """Return the paper's figures."""
    content = json.loads(_FILE.read_text(encoding="utf-8"))
    rows = tuple(
        PublishedRow(row["method"], row["role"], {name: (row[f"{name}_mean"], row[f"{name}_std"]) for name in FIGURES})
        for row in content["rows"]
    )
    return Published(content["benchmark"], content["best_test_accuracy"], content["share_above_6"], rows)
