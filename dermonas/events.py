"""What library code tells the outside world while it works.

Library code calls an `Observer`; the MLflow tracker and the progress bar implement it; tests use an
in-memory one. An observer may raise: the exception passes through the library code unchanged, which
is how a pruner stops a candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

AGAIN = "again"
"""In the info of a trial that began: whether an attempt at it came before."""
ELSEWHERE = "elsewhere"
"""In the info of a trial that ended: whether this process was not the one that worked on it."""


@dataclass(frozen=True)
class TrialEvent:
    """One trial that began or ended.

    Attributes:
        number: The trial's number in its study, from 0.
        state: "running", "complete", "duplicate", "pruned", "bounded" (too large, never built) or "failed".
        digest: Functional digest of the genotype, empty while unknown.
        value: The score (lower is better) of a complete or duplicate trial.
        epochs: The score after each epoch so far.
        seconds: Wall time spent on it.
        info: Further facts: genotype, theta, parameters, counts of the search so far; `AGAIN`, `ELSEWHERE`.
    """

    number: int
    state: str
    digest: str = ""
    value: float | None = None
    epochs: tuple[float, ...] = ()
    seconds: float = 0.0
    info: Mapping[str, Any] = field(default_factory=dict)


class Observer(Protocol):
    """The events. `total` counts the unit of progress that the stage names."""

    def started(self, stage: str, total: int | None, info: Mapping[str, Any]) -> None:
        """A stage began."""

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Epoch `epoch` (from 0) of trial or run `number` ended with `metrics`."""

    def trial(self, event: TrialEvent) -> None:
        """A trial began or ended."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """A file worth keeping was written."""

    def finished(self, stage: str, metrics: Mapping[str, float]) -> None:
        """A stage ended well."""


class Silent:
    """An observer that ignores everything; base class for those that need few events."""

    def started(self, stage: str, total: int | None, info: Mapping[str, Any]) -> None: ...
    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None: ...
    def trial(self, event: TrialEvent) -> None: ...
    def artifact(self, path: Path, folder: str = "") -> None: ...
    def finished(self, stage: str, metrics: Mapping[str, float]) -> None: ...


class Fanout:
    """Passes every event to several observers, in order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = tuple(observers)

    def started(self, stage: str, total: int | None, info: Mapping[str, Any]) -> None:
        for observer in self.observers:
            observer.started(stage, total, info)

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        for observer in self.observers:
            observer.epoch(number, epoch, metrics)

    def trial(self, event: TrialEvent) -> None:
        for observer in self.observers:
            observer.trial(event)

    def artifact(self, path: Path, folder: str = "") -> None:
        for observer in self.observers:
            observer.artifact(path, folder)

    def finished(self, stage: str, metrics: Mapping[str, float]) -> None:
        for observer in self.observers:
            observer.finished(stage, metrics)
