"""The observer that writes a training to its MLflow run: figures by epoch, the best epoch, the model's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.entities import Run as MlflowRun

from dermonas.events import Silent
from dermonas.nn.measure import Cost
from dermonas.tracking.runs import Run

MODEL = "model"
"""Artifact folder of a trained run: record.json and best.pt."""


class TrainTracker(Silent):
    """Writes one training; epochs that an earlier, killed run of the same training did are written again."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def started(self, stage: str, total: int | None, info: Mapping[str, Any]) -> None:
        """Bring the run's curves up to where the training goes on."""
        for epoch, metrics in enumerate(info["epochs"]):
            self.run.metrics(metrics, epoch)

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch's figures."""
        self.run.metrics(metrics, epoch)

    def finished(self, stage: str, metrics: Mapping[str, float]) -> None:
        """Log the best epoch and its validation figures, apart from the curves, which end with the last epoch."""
        kept = {f"best/{key}": value for key, value in metrics.items() if key.startswith("validation/")}
        self.run.metrics({"best/epoch": metrics["best_epoch"], **kept})

    def model(self, folder: Path, names: Sequence[str]) -> None:
        """Keep the model's files with the run."""
        for name in names:
            self.run.artifact(folder / name, MODEL)


def cost_metrics(cost: Cost) -> dict[str, float]:
    """Return what a network costs, under the names that every model shares."""
    metrics = {
        "model/params_m": cost.parameters / 1e6,
        "model/dead_params_m": cost.dead_parameters / 1e6,
        "model/macs_g": cost.multiply_adds / 1e9,
        "model/dead_macs_g": cost.dead_multiply_adds / 1e9,
    }
    return metrics if cost.latency_ms is None else {**metrics, "model/latency_ms": cost.latency_ms}


def average(run: Run, children: Sequence[MlflowRun], prefixes: tuple[str, ...]) -> None:
    """Log the mean over children, and the standard deviation (n - 1) as `/sd`, of every metric that all have.

    Args:
        run: The parent.
        children: One run a seed.
        prefixes: Of the metrics' names; bounds (`/lo`, `/hi`) are of one seed and left out.
    """
    shared = set.intersection(*({*child.data.metrics} for child in children))
    metrics = {}
    for key in sorted(shared):
        if key.startswith(prefixes) and not key.endswith(("/lo", "/hi")):
            values = [child.data.metrics[key] for child in children]
            metrics[key] = float(np.mean(values))
            if len(values) > 1:
                metrics[f"{key}/sd"] = float(np.std(values, ddof=1))
    run.metrics(metrics)
