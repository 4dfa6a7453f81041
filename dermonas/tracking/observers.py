"""An observer for stages that are one run: artifacts and final figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dermonas.events import Silent
from dermonas.tracking.runs import Run


class RunObserver(Silent):
    """Writes a stage's artifacts and final metrics to its run, the metrics under `<stage>/`."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file with the run."""
        self.run.artifact(path, folder)

    def finished(self, stage: str, metrics: Mapping[str, float]) -> None:
        """Log the stage's final figures."""
        self.run.metrics({f"{stage}/{key}": value for key, value in metrics.items()})
