"""The base of every sampler: Optuna's interface around one pure function of seed, number and history."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from dermonas import seeding
from dermonas.search.samplers.history import History, Record, digests, distributions, duplicates_in_a_row
from dermonas.space.domain import Domain, Theta

_log = logging.getLogger(__name__)

STALL = 50  # duplicates in a row after which the sampler is helped out (DESIGN 5)
_ATTEMPTS = 1000  # prior draws tried for an unevaluated theta before a duplicate is accepted


def stalled(records: Sequence[Record], running: Sequence[str] = ()) -> bool:
    """Return whether the last 50 records or more are all duplicates, those that wait for a running trial included.

    Args:
        records: The history.
        running: Digests of the trials that run, or wait for another one of their digest.
    """
    return duplicates_in_a_row(records) + len(running) - len(set(running)) >= STALL


def proposal(trial: optuna.Trial) -> Theta:
    """Return the theta that the study's sampler proposes for a trial just asked for.

    Nothing is stored: Optuna computes `relative_params` on first reading and inserts a parameter only
    when it is suggested. A theta enqueued as parameters by `study.enqueue_trial` is not seen here.

    Raises:
        KeyError: If the study's sampler is not a DomainSampler.
    """
    params = trial.relative_params
    return tuple(params[name] for name in sorted(name for name in params if name.startswith("theta_")))


class DomainSampler(BaseSampler):
    """Proposes thetas of a domain, from (seed, trial number, history) alone.

    A subclass names itself and implements `propose`. Two samplers with equal arguments propose the
    same theta for the same trial number and history whatever either did before, so a restarted search
    goes on as an uninterrupted one would have. Also an ordinary Optuna sampler: `study.optimize` with
    `suggest_categorical` on the names of `history.names` works.

    Args:
        domain: The searched space.
        seed: The search's seed, any integer.
        mode: "paper" or "modern"; decides what the history holds and how a stall ends (DESIGN 5).
        zero_start: Propose all zeros for trial 0 (the paper's "zero initialisation for theta").

    Raises:
        ConfigError: If the mode is unknown.

    Source: spec/csnas.md 4.2, and row 33 of section 10 for zero_start, which the paper states and its code lacks.
    """

    name: ClassVar[str]

    def __init__(self, domain: Domain, seed: int, mode: str = "modern", *, zero_start: bool = False) -> None:
        self.domain = domain
        self.seed = seed
        self.zero_start = zero_start
        self._history = History(domain, mode)
        self.mode = self._history.mode
        self._space: dict[str, BaseDistribution] = dict(distributions(domain.choices))

    @abstractmethod
    def propose(self, records: Sequence[Record], number: int, rng: np.random.Generator) -> Theta:
        """Propose a theta.

        Args:
            records: The history before trial `number`, in trial-number order.
            number: The asking trial's number, from 0.
            rng: The only source of randomness, keyed by (seed, sampler, number).

        Returns:
            One choice index a position; need not be canonical.
        """

    def escape(self, records: Sequence[Record], rng: np.random.Generator, taken: frozenset[str]) -> Theta:
        """Return a theta that is not `taken` (a digest, evaluated or running) after a stall in modern mode.

        Here a prior draw.
        """
        return unevaluated(self.domain, taken, rng)

    def records(self, study: optuna.Study, before: int | None = None) -> list[Record]:
        """Return the study's history as this sampler sees it; see `History.records`."""
        return self._history.records(study, before)

    def running(self, study: optuna.Study, before: int) -> list[str]:
        """Return the digests of the trials below number `before` that other workers are at; see `History.running`."""
        return self._history.running(study, before)

    def theta(self, records: Sequence[Record], number: int, running: Sequence[str] = ()) -> Theta:
        """Return the proposal for trial `number` after `records`: the pure function behind every ask.

        After 50 duplicates in a row the rule of DESIGN 5 replaces the sampler's own proposal: paper
        mode draws from the prior, modern mode takes `escape`. It holds until a trial that is no
        duplicate ends the row. `stalled(records)` says whether it did.

        Args:
            records: The history before the trial.
            number: The trial.
            running: Digests that other workers are at (`running`); only a stall asks for them.
        """
        rng = seeding.numpy_generator(self.seed, "sampler", self.name, number)
        if self.zero_start and number == 0:
            return (0,) * len(self.domain.choices)
        if not stalled(records, running):
            return self.propose(records, number, rng)
        row = duplicates_in_a_row(records) + len(running) - len(set(running))
        if self.mode == "paper":
            _log.warning("trial %d: %d duplicates in a row, theta drawn from the prior", number, row)
            return self.domain.sample(rng)
        _log.warning("trial %d: %d duplicates in a row, theta taken among the unevaluated", number, row)
        return self.escape(records, rng, digests(records).union(running))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return one categorical distribution a position (Optuna's interface)."""
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the proposal by parameter name (Optuna's interface)."""
        running = self.running(study, trial.number)
        theta = self.theta(self.records(study, before=trial.number), trial.number, running)
        return dict(zip(self._space, (int(choice) for choice in theta), strict=True))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a parameter that is no position of the domain from its prior (Optuna's interface)."""
        seed = seeding.derive(self.seed, "sampler", self.name, trial.number, param_name)
        prior = optuna.samplers.RandomSampler(seed=seed & 0xFFFF_FFFF)
        return prior.sample_independent(study, trial, param_name, param_distribution)


def unevaluated(domain: Domain, evaluated: frozenset[str], rng: np.random.Generator) -> Theta:
    """Draw from the prior until the network is not among `evaluated`.

    Returns:
        An unevaluated theta; where there is none (a small space that is searched through) the first draw if
        the counts show it, else the last of 1,000.
    """
    theta = domain.sample(rng)
    if len(evaluated) >= math.prod(domain.choices):
        return theta
    for _ in range(_ATTEMPTS - 1):
        if domain.digest(theta) not in evaluated:
            break
        theta = domain.sample(rng)
    return theta
