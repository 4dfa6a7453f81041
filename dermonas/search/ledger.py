"""What a search knows of its study's ended trials, whichever worker ended them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial, TrialState

from dermonas.events import ELSEWHERE, TrialEvent
from dermonas.search.trials import event_of
from dermonas.space.darts import DartsSpace


class Ledger:
    """Counts each ended trial once.

    Args:
        space: The searched space.

    Attributes:
        known: Score by digest of every evaluated network.
        counts: Trials by kind.
        device_seconds: Paid for so far, by all workers.
        epochs: Of candidates, trained so far; those of an attempt that died are lost.
    """

    def __init__(self, space: DartsSpace) -> None:
        self.space = space
        self.known: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self.device_seconds = 0.0
        self.epochs = 0
        self._seen: set[int] = set()

    def read(self, study: optuna.Study) -> list[TrialEvent]:
        """Count what ended since; see `news`."""
        return self.news(study.get_trials(deepcopy=False))

    def news(self, trials: Sequence[FrozenTrial]) -> list[TrialEvent]:
        """Count the trials that ended since and were not counted by `add`; return their events, in number order."""
        found = [
            event_of(trial, self.space)
            for trial in trials
            if trial.state != TrialState.RUNNING and trial.number not in self._seen
        ]
        for event in found:
            self.add(event)
        return [replace(event, info={**event.info, ELSEWHERE: True}) for event in found]

    def add(self, event: TrialEvent) -> None:
        """Count an ended trial."""
        if event.number in self._seen:
            return
        self._seen.add(event.number)
        self.counts[event.state] += 1
        self.epochs += len(event.epochs)
        # A pruned or failed trial returns no score; its wall time stands for its device time.
        self.device_seconds += event.info.get("device_seconds", event.seconds)
        if event.state == "complete" and event.value is not None:
            self.known[event.digest] = event.value

    def totals(self) -> dict[str, int]:
        """Return counts by kind, bounded ones where there are any; only complete trials are distinct ones."""
        names = ("duplicate", "pruned", "failed", *(("bounded",) if self.counts["bounded"] else ()))
        return {"distinct": self.counts["complete"], **{name: self.counts[name] for name in names}}

    def told(self, event: TrialEvent) -> TrialEvent:
        """Return an event with the counts and the best so far, as observers get it."""
        best = min(self.known.values(), default=None)
        return replace(event, info={**event.info, **{f"total/{k}": v for k, v in self.totals().items()}, "best": best})
