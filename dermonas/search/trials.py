"""One trial as the study stores it, as events tell it, and while it is being scored."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from dermonas.events import Observer, Silent, TrialEvent
from dermonas.search.attempts import Attempt
from dermonas.search.owner import is_me, me
from dermonas.search.samplers.history import DUPLICATE, THETA
from dermonas.search.study import OWNER, RESULT
from dermonas.space.darts import DartsSpace
from dermonas.space.domain import Theta

LOSSES = "losses"
"""In an owner's record: how many workers died at the trial before."""


def theta_of(trial: FrozenTrial) -> Theta | None:
    """Return a stored trial's theta, None if it died before storing it."""
    stored = trial.user_attrs.get(THETA)
    return None if stored is None else tuple(json.loads(stored))


def kind_of(trial: FrozenTrial) -> str:
    """Return "complete", "duplicate", "pruned", "bounded", "failed" or "running"."""
    if trial.state.is_finished() and trial.user_attrs.get(DUPLICATE) is True:
        return "duplicate"
    if "bounded" in trial.user_attrs.get(RESULT, {}):
        return "bounded"
    kinds = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    return kinds.get(trial.state, "running")


def event_of(trial: FrozenTrial, space: DartsSpace) -> TrialEvent:
    """Describe a stored trial as the event that observers got when it ended."""
    theta, kind = theta_of(trial), kind_of(trial)
    result = trial.user_attrs.get(RESULT, {})
    info = {key: value for key, value in result.items() if key not in ("epochs", "seconds", "digest")}
    if theta is not None:
        info |= {"theta": list(theta), "genotype": space.genotype(theta).to_dict()}
    return TrialEvent(
        number=trial.number,
        state=kind,
        digest=result.get("digest", "" if theta is None else space.digest(theta)),
        value=trial.value if kind in ("complete", "duplicate") else None,
        epochs=tuple(result.get("epochs", ())),
        seconds=float(result.get("seconds", 0.0)),
        info=info,
    )


def owner_record(losses: int) -> dict[str, Any]:
    """Describe this process as a trial's owner, after so many that died at it."""
    return {**me(), **({LOSSES: losses} if losses else {})}


def losses_of(trial: FrozenTrial) -> int:
    """Count the workers that died at a trial that nobody holds; one that left it orderly did not."""
    owner = trial.user_attrs.get(OWNER) or {}
    return int(owner.get(LOSSES, 0)) + ("pid" in owner and not is_me(owner))


def held(handle: optuna.Trial) -> bool:
    """Tell whether this process still holds a trial; after a long silence another one may."""
    trial = handle.study._storage.get_trial(handle._trial_id)
    return trial.state == TrialState.RUNNING and is_me(trial.user_attrs.get(OWNER) or {})


class TakenOver(Exception):
    """Another worker holds the trial now: this one was silent for too long."""


@dataclass
class Reporter(Silent):
    """Passes a candidate's epochs to the study and the outer observer, and prunes."""

    handle: optuna.Trial
    outer: Observer
    attempt: Attempt
    seconds: dict[str, float]
    losses: int
    epochs: list[float] = field(default_factory=list)

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Store the value and a heartbeat, tell the observer, and raise TrialPruned when the pruner says so.

        Raises:
            TakenOver: Another worker holds the trial.
        """
        start = time.perf_counter()
        if not held(self.handle):
            raise TakenOver
        self.epochs.append(metrics["score"])
        if epoch not in self.attempt.reported:  # Optuna ignores a second report at a step (an earlier attempt's)
            self.handle.report(metrics["score"], epoch)
        self.handle.set_user_attr(OWNER, owner_record(self.losses))
        prune = self.attempt.prune(self.epochs)
        stored = time.perf_counter()
        self.outer.epoch(number, epoch, metrics)
        self.seconds["store"] += stored - start
        self.seconds["observe"] += time.perf_counter() - stored
        if prune:
            raise optuna.TrialPruned
