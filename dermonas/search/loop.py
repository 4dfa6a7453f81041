"""The search loop: ask, score, tell, until enough distinct genotypes are evaluated.

Source: DESIGN 5. All that a restart needs is in the study; the loop itself keeps nothing.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from dermonas.errors import DermonasError, SearchError, TooManyFailures
from dermonas.events import AGAIN, Observer, TrialEvent
from dermonas.objective.score import NotFinite, Objective, Score
from dermonas.search.attempts import Attempt
from dermonas.search.claims import Claim, Claims, Turn
from dermonas.search.leader import Seconds
from dermonas.search.ledger import Ledger
from dermonas.search.pulse import trial_pulse
from dermonas.search.samplers.base import DomainSampler
from dermonas.search.samplers.history import DUPLICATE
from dermonas.search.storage import let_go
from dermonas.search.study import RESULT
from dermonas.search.trials import Reporter, TakenOver, event_of, theta_of
from dermonas.space.darts import DartsSpace
from dermonas.space.domain import Theta
from dermonas.space.genotype import Genotype

if TYPE_CHECKING:
    from dermonas.search.bounds import Bounds

_log = logging.getLogger(__name__)

# Far beyond the 50 duplicates after which the sampler is helped: the space must be searched through.
_EXHAUSTED = 5000
_POLL, _LONGEST_POLL = 0.1, 2.0  # seconds between two looks at the study while others are at its last trials


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search, read from its study.

    Attributes:
        genotype: The best genotype, as proposed.
        digest: Its functional digest.
        value: Its score.
        number: Its trial.
        theta: Its theta.
        counts: Trials by kind: distinct, duplicate, pruned, failed, and bounded where there are bounds.
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
    """One worker's share of a study.

    Args:
        study: An opened study (see `study.opened`).
        space: The searched space.
        sampler: The study's sampler.
        objective: Scores a genotype.
        trials: Distinct genotypes to evaluate over all resumptions, by all workers.
        max_failures: Failed trials that are tolerated in the study.
        max_attempts: Attempts at a trial whose workers die; one more is a failure.
        observer: Told of every trial and epoch, and of the ends of other workers' trials. What it raises ends the
            search; the trial is then taken up again by the next one.
        shared: Keep this worker's seconds in the study, for the process that leads.
        bounds: On a candidate's size; None has none.
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
        max_attempts: int = 3,
        observer: Observer,
        shared: bool = False,
        bounds: Bounds | None = None,
    ) -> None:
        self.study, self.space, self.objective = study, space, objective
        self.trials, self.max_failures, self.observer, self.bounds = trials, max_failures, observer, bounds
        self.ledger = Ledger(space)
        self.claims = Claims(
            study, sampler, self.ledger, trials=trials, max_failures=max_failures, max_attempts=max_attempts
        )
        self.seconds: dict[str, float] = dict.fromkeys(("propose", "score", "store", "observe"), 0.0)
        self._in_a_row = 0
        self._seconds = Seconds(study) if shared else None

    @property
    def device_seconds(self) -> float:
        """Device time that the study's trials took, on all workers."""
        return self.ledger.device_seconds

    def run(self) -> SearchResult:
        """Search until `trials` distinct genotypes are evaluated, by this worker and others.

        Raises:
            TooManyFailures: More trials failed than `max_failures`.
            SearchError: No new genotype could be found.
        """
        self.ledger.read(self.study)
        self.observer.started("search", self.trials, {**self.ledger.totals(), "study": self.study.study_name})
        try:
            self._work()
        except BaseException as error:
            let_go(error)
            with contextlib.suppress(Exception):  # the storage may be what failed
                self.claims.release()
            raise
        return result_of(self.study, self.space, self.ledger, self.seconds)

    def _work(self) -> None:
        pause = _POLL
        while (turn := self._turn()).kind != "done":
            if turn.claim is None:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_POLL)
                continue
            pause = _POLL
            if turn.kind != "evaluate":
                self._duplicate(turn.claim, known=turn.kind == "duplicate")
            elif not self._refuse(turn.claim):
                self._in_a_row = 0
                self._evaluate(turn.claim)

    def _turn(self) -> Turn:
        start = time.perf_counter()
        turn = self.claims.turn()
        self.seconds["propose"] += time.perf_counter() - start
        heard, self.claims.heard = self.claims.heard, []
        for event in heard:
            self._tell(event)
        if turn.kind == "failed":
            raise too_many(self.study, self.ledger, self.max_failures)
        return turn

    def _duplicate(self, claim: Claim, *, known: bool) -> None:
        """Tell a known network's value; one that another worker is evaluating is told when that one ends."""
        self._in_a_row += 1
        if known:
            value = self.ledger.known[claim.digest]
            start = time.perf_counter()
            claim.trial.set_user_attr(DUPLICATE, True)
            self.study.tell(claim.trial, value)
            self.seconds["store"] += time.perf_counter() - start
            info = {"theta": list(claim.theta)}
            self._ended(TrialEvent(claim.trial.number, "duplicate", claim.digest, value, info=info))
        if self._in_a_row >= _EXHAUSTED:
            raise SearchError(
                f"{self._in_a_row} proposals in a row were evaluated before: the space holds no more than "
                f"{self.ledger.counts['complete']} genotypes that this sampler finds; lower --trials"
            )

    def _refuse(self, claim: Claim) -> bool:
        """Tell whether a proposal lies beyond a bound; it is then stored as pruned before its first epoch."""
        found = None if self.bounds is None else self.bounds.excess(self.space.genotype(claim.theta))
        if self.bounds is None or found is None:
            return False
        if self.claims.end(claim, TrialState.PRUNED, None, {"digest": claim.digest, "bounded": found}):
            self._ended(event_of(self.study._storage.get_trial(claim.trial._trial_id), self.space))
        self.bounds.check_row()
        return True

    def _evaluate(self, claim: Claim) -> None:
        trial, genotype = claim.trial, self.space.genotype(claim.theta)
        try:
            with trial_pulse(self.study, trial._trial_id):
                info = {"genotype": genotype.to_dict(), AGAIN: claim.again}
                self._tell(TrialEvent(trial.number, "running", claim.digest, info=info))
                self._score(claim, genotype)
        except TakenOver:
            _log.warning("trial %d: this worker was silent for so long that another one has taken it up", trial.number)

    def _score(self, claim: Claim, genotype: Genotype) -> None:
        trial = claim.trial
        start = time.perf_counter()
        before = self.seconds["store"] + self.seconds["observe"]
        reporter = Reporter(trial, self.observer, Attempt(trial), self.seconds, claim.losses)
        score: Score | None = None
        state, message = TrialState.COMPLETE, ""
        try:
            score = self.objective.score(genotype, reporter, trial.number)
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        except NotFinite as error:
            state, message = TrialState.FAIL, str(error)
        except (DermonasError, optuna.exceptions.StorageInternalError, TakenOver):
            raise
        except Exception as error:  # whatever a candidate does, the search goes on, and says so
            _log.exception("trial %d failed", trial.number)
            state, message = TrialState.FAIL, f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - start
        self.seconds["score"] += seconds - (self.seconds["store"] + self.seconds["observe"] - before)
        result: dict[str, Any] = {"digest": claim.digest, "epochs": reporter.epochs, "seconds": round(seconds, 3)}
        if score is not None:
            result |= {k: v for k, v in asdict(score).items() if k not in ("value", "epochs")}
        if message:
            result["error"] = " ".join(message.split())[:500]
        mark = time.perf_counter()
        value = score.value if score is not None and state == TrialState.COMPLETE else None
        if not self.claims.end(claim, state, value, result):
            raise TakenOver
        self.seconds["store"] += time.perf_counter() - mark
        self._ended(event_of(self.study._storage.get_trial(trial._trial_id), self.space))

    def _ended(self, event: TrialEvent) -> None:
        self.ledger.add(event)
        self._tell(event)
        if self._seconds is not None:
            self._seconds.keep(self.seconds)

    def _tell(self, event: TrialEvent) -> None:
        start = time.perf_counter()
        self.observer.trial(self.ledger.told(event))
        self.seconds["observe"] += time.perf_counter() - start


def too_many(study: optuna.Study, ledger: Ledger, max_failures: int) -> TooManyFailures:
    """Return the error that names the last failure."""
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    reasons = [trial.user_attrs[RESULT].get("error", "unknown") for trial in failed if RESULT in trial.user_attrs]
    return TooManyFailures(
        f"{ledger.counts['failed']} trials failed, more than max_failures {max_failures}; "
        f"the last: {reasons[-1] if reasons else 'unknown'}"
    )


def result_of(study: optuna.Study, space: DartsSpace, ledger: Ledger, seconds: Mapping[str, float]) -> SearchResult:
    """Return the best evaluated genotype of the study so far.

    Raises:
        SearchError: If no trial is complete.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        raise SearchError(f"study {study.study_name!r} has no complete trial")
    best = min(complete, key=lambda trial: (trial.value, trial.number))
    theta = theta_of(best)
    assert theta is not None
    assert best.value is not None
    genotype = space.genotype(theta)
    return SearchResult(genotype, genotype.digest, best.value, best.number, theta, ledger.totals(), dict(seconds))
