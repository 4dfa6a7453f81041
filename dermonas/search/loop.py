"""The search loop: ask, score, tell, until enough distinct genotypes are evaluated.

Source: DESIGN 5. All that a restart needs is in the study; the loop itself keeps nothing.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from dermonas.errors import DermonasError, SearchError, TooManyFailures
from dermonas.events import Observer, TrialEvent
from dermonas.objective.score import NotFinite, Objective, Score
from dermonas.search.owner import me
from dermonas.search.samplers.base import DomainSampler, proposal, stalled
from dermonas.search.samplers.history import DUPLICATE, THETA
from dermonas.search.study import ATTEMPTS, OWNER, RESULT, orphan
from dermonas.search.trials import Reporter, event_of, theta_of
from dermonas.space.darts import DartsSpace
from dermonas.space.domain import Theta
from dermonas.space.genotype import Genotype

_log = logging.getLogger(__name__)

# Far beyond the 50 duplicates after which the sampler is helped: the space must be searched through.
_EXHAUSTED = 5000


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search, read from its study.

    Attributes:
        genotype: The best genotype, as proposed.
        digest: Its functional digest.
        value: Its score.
        number: Its trial.
        theta: Its theta.
        counts: Trials by kind: distinct, duplicate, pruned, failed.
        seconds: This process's wall time by phase: propose, score, store, observe.
    """

    genotype: Genotype
    digest: str
    value: float
    number: int
    theta: Theta
    counts: Mapping[str, int]
    seconds: Mapping[str, float]


class Search:
    """One process's work on a study.

    Args:
        study: An opened study (see `study.opened`).
        space: The searched space.
        sampler: The study's sampler.
        objective: Scores a genotype.
        trials: Distinct genotypes to evaluate over all resumptions.
        max_failures: Failed trials that are tolerated in the study.
        observer: Told of every trial and epoch. What it raises ends the search; the trial is then taken
            up again by the next one.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: DartsSpace,
        sampler: DomainSampler,
        objective: Objective,
        *,
        trials: int,
        max_failures: int,
        observer: Observer,
    ) -> None:
        self.study, self.space, self.sampler, self.objective = study, space, sampler, objective
        self.trials, self.max_failures, self.observer = trials, max_failures, observer
        self.known: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self.seconds: dict[str, float] = dict.fromkeys(("propose", "score", "store", "observe"), 0.0)
        self.device_seconds = 0.0
        self._in_a_row = 0

    def run(self) -> SearchResult:
        """Search until `trials` distinct genotypes are evaluated.

        Raises:
            TooManyFailures: More trials failed than `max_failures`.
            SearchError: No new genotype could be found.
        """
        for trial in self.study.get_trials(deepcopy=False):
            self._count(event_of(trial, self.space))
        self.observer.started("search", self.trials, {**self.totals(), "study": self.study.study_name})
        while self.counts["complete"] < self.trials or orphan(self.study) is not None:
            self._check_failures()
            self._one()
        self._check_failures()
        return self.result()

    def _check_failures(self) -> None:
        if self.counts["failed"] > self.max_failures:
            failed = self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
            raise TooManyFailures(
                f"{self.counts['failed']} trials failed, more than max_failures {self.max_failures}; "
                f"the last: {failed[-1].user_attrs.get(RESULT, {}).get('error', 'unknown')}"
            )

    def totals(self) -> dict[str, int]:
        """Return counts by kind; a pruned or failed trial is none of the distinct ones."""
        names = (("distinct", "complete"), ("duplicate",) * 2, ("pruned",) * 2, ("failed",) * 2)
        return {name: self.counts[kind] for name, kind in names}

    def result(self) -> SearchResult:
        """Return the best evaluated genotype of the study so far.

        Raises:
            SearchError: If no trial is complete.
        """
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise SearchError(f"study {self.study.study_name!r} has no complete trial")
        best = min(complete, key=lambda trial: (trial.value, trial.number))
        theta = theta_of(best)
        assert theta is not None
        assert best.value is not None
        genotype = self.space.genotype(theta)
        return SearchResult(
            genotype, genotype.digest, best.value, best.number, theta, self.totals(), dict(self.seconds)
        )

    def _one(self) -> None:
        trial, theta = self._propose()
        digest = self.space.digest(theta)
        if digest in self.known:
            self._tell_duplicate(trial, theta, digest)
            return
        self._in_a_row = 0
        self._tell(TrialEvent(trial.number, "running", digest, info={"genotype": self.space.genotype(theta).to_dict()}))
        self._evaluate(trial, theta, digest)

    def _propose(self) -> tuple[optuna.Trial, Theta]:
        """Take up an orphan under its own number and theta, or ask for a new trial."""
        start = time.perf_counter()
        left = orphan(self.study)
        if left is None:
            trial = self.study.ask()
            stored = None
        else:
            trial = optuna.Trial(self.study, left._trial_id)
            stored = theta_of(left)
            attempts = {**left.user_attrs.get(ATTEMPTS, {})}
            attempts[str(len(attempts))] = [left.intermediate_values[k] for k in sorted(left.intermediate_values)]
            trial.set_user_attr(ATTEMPTS, attempts)
        trial.set_user_attr(OWNER, me())
        theta = stored
        if theta is None:  # the sampler proposes from (seed, number, history): the same as before a crash
            theta = proposal(trial)
            trial.set_user_attr(THETA, json.dumps(theta))
            if stalled(self.sampler.records(self.study, before=trial.number)):
                trial.set_user_attr("stalled", True)
        self.seconds["propose"] += time.perf_counter() - start
        return trial, theta

    def _tell_duplicate(self, trial: optuna.Trial, theta: Theta, digest: str) -> None:
        start = time.perf_counter()
        trial.set_user_attr(DUPLICATE, True)
        self.study.tell(trial, self.known[digest])
        self.seconds["store"] += time.perf_counter() - start
        self._in_a_row += 1
        self._ended(TrialEvent(trial.number, "duplicate", digest, self.known[digest], info={"theta": list(theta)}))
        if self._in_a_row >= _EXHAUSTED:
            raise SearchError(
                f"{self._in_a_row} proposals in a row were evaluated before: the space holds no more than "
                f"{self.counts['complete']} genotypes that this sampler finds; lower --trials"
            )

    def _evaluate(self, trial: optuna.Trial, theta: Theta, digest: str) -> None:
        start = time.perf_counter()
        before = self.seconds["store"] + self.seconds["observe"]
        # The frozen copy holds what an earlier attempt reported.
        frozen = self.study._storage.get_trial(trial._trial_id)
        reporter = Reporter(trial, self.observer, set(frozen.intermediate_values), self.seconds)
        score: Score | None = None
        state, message = TrialState.COMPLETE, ""
        try:
            score = self.objective.score(self.space.genotype(theta), reporter, trial.number)
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        except NotFinite as error:
            state, message = TrialState.FAIL, str(error)
        except (DermonasError, optuna.exceptions.StorageInternalError):
            raise
        except Exception as error:  # whatever a candidate does, the search goes on, and says so
            _log.exception("trial %d failed", trial.number)
            state, message = TrialState.FAIL, f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - start
        self.seconds["score"] += seconds - (self.seconds["store"] + self.seconds["observe"] - before)
        result: dict[str, Any] = {"digest": digest, "epochs": reporter.epochs, "seconds": round(seconds, 3)}
        if score is not None:
            result |= {k: v for k, v in asdict(score).items() if k not in ("value", "epochs")}
        if message:
            result["error"] = " ".join(message.split())[:500]
        mark = time.perf_counter()
        trial.set_user_attr(RESULT, result)
        value = score.value if score is not None else None
        self.study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)
        self.seconds["store"] += time.perf_counter() - mark
        self._ended(event_of(self.study._storage.get_trial(trial._trial_id), self.space))

    def _ended(self, event: TrialEvent) -> None:
        self._count(event)
        self._tell(event)

    def _count(self, event: TrialEvent) -> None:
        self.counts[event.state] += 1
        # A pruned or failed trial returns no score; its wall time stands for its device time.
        self.device_seconds += event.info.get("device_seconds", event.seconds)
        if event.state == "complete" and event.value is not None:
            self.known[event.digest] = event.value

    def _tell(self, event: TrialEvent) -> None:
        start = time.perf_counter()
        best = min(self.known.values(), default=None)
        info = {**event.info, **{f"total/{k}": v for k, v in self.totals().items()}, "best": best}
        self.observer.trial(
            TrialEvent(event.number, event.state, event.digest, event.value, event.epochs, event.seconds, info)
        )
        self.seconds["observe"] += time.perf_counter() - start
