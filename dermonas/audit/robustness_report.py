"""The study as files: every number as JSON and parquet, a page of tables, and the figure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from dermonas.audit.robustness import PUBLISHED, Outcome, differences, frame_of, summary
from dermonas.audit.robustness_figures import Cost, write_figure
from dermonas.errors import StorageError

JSON, TABLE, PAGE = "robustness.json", "robustness.parquet", "robustness.md"


@dataclass(frozen=True)
class About:
    """What the study is of.

    Attributes:
        dataset: Name of the data set.
        digest: Of the manifest.
        synthetic: Whether the images are generated.
        classes: How many.
        search: What all searches share, by key.
        train: What all trainings share, by key.
        notes: What a reader must know.
        device: Type of the device that searched; on "cpu" the cost that is drawn is CPU seconds.
    """

    dataset: str
    digest: str
    synthetic: bool
    classes: int
    search: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    device: str = "cpu"

    @property
    def cost(self) -> Cost:
        """Attribute of an outcome that says what a search cost."""
        return "cpu_seconds" if self.device == "cpu" else "device_seconds"

    @property
    def title(self) -> str:
        """The figure's title."""
        return (
            f"{'SYNTHETIC images: ' if self.synthetic else ''}{self.dataset}: labels, images and samplers of a search"
        )


def write_study(outcomes: Sequence[Outcome], about: About, folder: Path) -> list[Path]:
    """Write robustness.json, .parquet, .md, .svg and .png, and return the paths.

    Raises:
        StorageError: The disk refuses.
    """
    content = {
        "about": {
            "dataset": about.dataset,
            "digest": about.digest,
            "synthetic": about.synthetic,
            "classes": about.classes,
            "search": dict(about.search),
            "train": dict(about.train),
            "notes": _notes(about),
            "device": about.device,
        },
        "outcomes": frame_of(outcomes).to_dict("records"),
        "summary": summary(outcomes).to_dict("records"),
        "differences": {
            figure: differences(outcomes, figure).to_dict("records") for figure in ("test_error", about.cost)
        },
    }
    paths = [folder / name for name in (JSON, TABLE, PAGE)]
    try:
        text = json.dumps(_finite(content), indent=2, allow_nan=False, default=str)
        paths[0].write_text(text + "\n", encoding="utf-8")
        frame_of(outcomes).to_parquet(paths[1], index=False)
        paths[2].write_text(as_page(outcomes, about), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}; free space") from error
    return [*paths, *write_figure(outcomes, about.title, about.cost, folder)]


def as_page(outcomes: Sequence[Outcome], about: About) -> str:
    """Return the tables as Markdown: arms and samplers, then paired differences, then every search."""
    found, apart = summary(outcomes), differences(outcomes)
    lines = [f"# Robustness study: {about.title}", "", *(f"- {note}" for note in _notes(about)), ""]
    lines += ["Means over seeds +- half the 95 % interval (Student's t). Errors in percent.", ""]
    lines += _table(
        ["arm", "sampler", "seeds", "images", "trials", "test error", "validation error", "device seconds",
         "CPU seconds"],
        [
            [
                row["arm"], row["sampler"], row["seeds"], _count(row["images"]), _count(row["distinct"]),
                _with_half(row, "test_error", 100), _with_half(row, "validation_error", 100),
                _with_half(row, "device_seconds", 1), _with_half(row, "cpu_seconds", 1),
            ]
            for row in found.to_dict("records")
        ],
    )  # fmt: skip
    lines += ["", "Differences of the test error in points, paired by seed, all else equal:", ""]
    lines += _table(
        ["difference", "within", "seeds", "mean", "interval"],
        [
            [row["what"], row["within"], row["seeds"], f"{100 * row['mean']:+.2f}", _interval(row)]
            for row in apart.to_dict("records")
        ],
    )
    lines += ["", "Every search:", ""]
    lines += _table(
        ["arm", "sampler", "seed", "genotype", "trial", "score", "test error", "M parameters", "search", "training"],
        [
            [
                one.arm, one.sampler, one.seed, one.digest[:8], one.trial, f"{one.score:.4f}",
                f"{100 * one.test_error:.2f}", f"{one.parameters_m:.4f}", one.search_run[:8], one.train_run[:8],
            ]
            for one in outcomes
        ],
    )  # fmt: skip
    return "\n".join(lines) + "\n"


def _notes(about: About) -> list[str]:
    notes = [f"data {about.dataset} ({about.digest[:8]})" + (", synthetic phantoms" * about.synthetic)]
    return [*notes, *about.notes, *([PUBLISHED] if about.dataset == "cifar10" else [])]


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (heads, ["---"] * len(heads), *rows)]


def _count(mean: float) -> str:
    """Return a mean over seeds of a count: they may differ by a few."""
    return f"{mean:.1f}".removesuffix(".0")


def _with_half(row: Mapping[Any, Any], name: str, scale: float) -> str:
    digits = 2 if scale > 1 else 1
    half = row[f"{name}/half"]
    return f"{scale * row[name]:.{digits}f}" + ("" if math.isnan(half) else f" +- {scale * half:.{digits}f}")


def _interval(row: Mapping[Any, Any]) -> str:
    if math.isnan(row["half"]):
        return "one seed: none"
    return f"[{100 * (row['mean'] - row['half']):+.2f}, {100 * (row['mean'] + row['half']):+.2f}]"


def _finite(content: Any) -> Any:
    """Return the content with None for NaN: JSON has none."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and pd.isna(content) else content
