"""How one of many workers comes by its next trial, and how the trial ends: each step under the study's lock.

Source: DESIGN 5; docs/decisions/many-workers.md.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.storages._heartbeat import BaseHeartbeat, is_heartbeat_enabled
from optuna.trial import FrozenTrial, TrialState

from dermonas.events import TrialEvent
from dermonas.search.ledger import Ledger
from dermonas.search.owner import is_me
from dermonas.search.samplers.base import DomainSampler, proposal, stalled
from dermonas.search.samplers.history import DUPLICATE, THETA
from dermonas.search.storage import Exclusive
from dermonas.search.study import ATTEMPTS, OWNER, RESULT, WAITS, orphans
from dermonas.search.trials import LOSSES, held, losses_of, owner_record, theta_of
from dermonas.space.domain import Theta


@dataclass(frozen=True)
class Claim:
    """A trial that this worker holds.

    Attributes:
        trial: Its handle.
        theta: What it evaluates.
        digest: The network's.
        losses: Workers that died at it.
        again: Whether another attempt came before.
    """

    trial: optuna.Trial
    theta: Theta
    digest: str
    losses: int = 0
    again: bool = False


@dataclass(frozen=True)
class Turn:
    """What a worker does next.

    Attributes:
        kind: "evaluate" or "duplicate" (a known network) with a claim, "waiting" (proposed what another worker is
            evaluating), "wait" (the others are at the last trials), "done", or "failed" (more than tolerated).
        claim: The trial.
    """

    kind: Literal["evaluate", "duplicate", "waiting", "wait", "done", "failed"]
    claim: Claim | None = None


class Claims:
    """A worker's dealings with its study.

    Args:
        study: The study.
        sampler: Its sampler.
        ledger: Kept up to date with what other workers end.
        trials: Distinct genotypes to evaluate.
        max_failures: Failed trials that are tolerated.
        max_attempts: Attempts at a trial whose workers die.

    Attributes:
        heard: Ends of trials that this worker has not told its observer: others', and those it settled.
    """

    def __init__(
        self,
        study: optuna.Study,
        sampler: DomainSampler,
        ledger: Ledger,
        *,
        trials: int,
        max_failures: int,
        max_attempts: int,
    ) -> None:
        self.study, self.sampler, self.ledger = study, sampler, ledger
        self.trials, self.max_failures, self.max_attempts = trials, max_failures, max_attempts
        self.exclusive = Exclusive(study)
        self.heard: list[TrialEvent] = []

    def turn(self) -> Turn:
        """Take up a lost trial, or propose a new one, or learn that there is none to be had."""
        return self.exclusive(self._turn)

    def _turn(self) -> Turn:
        trials = self.study.get_trials(deepcopy=False)
        self.heard += self.ledger.news(trials)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        gone = orphans(self.study, running)
        settled = [self._settle(trial, trials) for trial in running if WAITS in trial.user_attrs]
        hopeless = [left for left in gone if losses_of(left) >= self.max_attempts]
        for left in hopeless:
            self._give_up(left)
        if any(settled) or hopeless:
            return self._turn()
        if self.ledger.counts["failed"] > self.max_failures:
            return Turn("failed")
        taken = [trial for trial in running if WAITS not in trial.user_attrs]
        living = [trial for trial in taken if trial not in gone and THETA in trial.user_attrs]
        busy = {self._digest(trial): trial.number for trial in living}
        if gone:
            return self._resume(gone[0], busy)
        if self.ledger.counts["complete"] + len(taken) >= self.trials:
            return Turn("wait" if running else "done")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that `ask` sends no heartbeats: `Pulse` does
            asked = self.study.ask()
        return self._begin(asked, None, 0, busy)

    def _settle(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
        """End a trial that waited as the one ended that it waited for; nothing fails or is pruned twice by that."""
        first = trials[trial.user_attrs[WAITS]]
        if first.state == TrialState.RUNNING:
            return False
        handle = optuna.Trial(self.study, trial._trial_id)
        handle.set_user_attr(DUPLICATE, True)
        self.study.tell(handle, first.value if first.state == TrialState.COMPLETE else None, state=first.state)
        return True

    def _give_up(self, trial: FrozenTrial) -> None:
        owner = trial.user_attrs[OWNER]
        who = f"process {owner['pid']} on {owner['host']}" if "pid" in owner else "a process that was stopped"
        theta = theta_of(trial)
        result = {
            "digest": "" if theta is None else self.sampler.domain.digest(theta),
            "epochs": [],
            "seconds": 0.0,
            "error": f"lost {losses_of(trial)} times, last with {who}: it died without a word (memory? a kill?); "
            f"max_attempts is {self.max_attempts}",
        }
        handle = optuna.Trial(self.study, trial._trial_id)
        handle.set_user_attr(RESULT, result)
        self.study.tell(handle, state=TrialState.FAIL)

    def _digest(self, trial: FrozenTrial) -> str:
        theta = theta_of(trial)
        return "" if theta is None else self.sampler.domain.digest(theta)

    def _resume(self, left: FrozenTrial, busy: dict[str, int]) -> Turn:
        """Take up a lost trial under its own number and theta."""
        handle = optuna.Trial(self.study, left._trial_id)
        attempts = {**left.user_attrs.get(ATTEMPTS, {})}
        attempts[str(len(attempts))] = [left.intermediate_values[k] for k in sorted(left.intermediate_values)]
        handle.set_user_attr(ATTEMPTS, attempts)
        return self._begin(handle, theta_of(left), losses_of(left), busy)

    def _begin(self, trial: optuna.Trial, theta: Theta | None, losses: int, busy: dict[str, int]) -> Turn:
        if is_heartbeat_enabled(self.study._storage):
            assert isinstance(self.study._storage, BaseHeartbeat)
            self.study._storage.record_heartbeat(trial._trial_id)
        again = theta is not None
        trial.set_user_attr(OWNER, owner_record(losses))
        if theta is None:  # the sampler proposes from (seed, number, history): the same as before a crash
            theta = proposal(trial)
            trial.set_user_attr(THETA, json.dumps(theta))
            if self._stalled(trial.number):
                trial.set_user_attr("stalled", True)
        claim = Claim(trial, theta, self.sampler.domain.digest(theta), losses, again)
        if claim.digest in self.ledger.known:
            return Turn("duplicate", claim)
        if claim.digest in busy:
            trial.set_user_attr(WAITS, busy[claim.digest])
            return Turn("waiting", claim)
        return Turn("evaluate", claim)

    def _stalled(self, number: int) -> bool:
        return stalled(self.sampler.records(self.study, before=number), self.sampler.running(self.study, number))

    def end(self, claim: Claim, state: TrialState, value: float | None, result: dict[str, Any]) -> bool:
        """Store a trial's end; False, with nothing stored, if another worker took it up in between."""
        done = False

        def section() -> bool:
            nonlocal done
            if not done and held(claim.trial):
                claim.trial.set_user_attr(RESULT, result)
                self.study.tell(claim.trial, value, state=state)
                done = True
            return done

        return self.exclusive(section)

    def release(self) -> None:
        """Leave what this process holds, also what it was just claiming, to whoever comes next; no loss is counted."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            owner = trial.user_attrs.get(OWNER) or {}
            if is_me(owner):
                optuna.Trial(self.study, trial._trial_id).set_user_attr(OWNER, {LOSSES: owner.get(LOSSES, 0)})
