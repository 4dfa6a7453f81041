"""Tree-structured Parzen estimator over categories, with hyperopt's rules and an exact proposal."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dermonas.errors import ConfigError
from dermonas.search.samplers.base import DomainSampler
from dermonas.search.samplers.history import Record, scored
from dermonas.search.samplers.kbest import best_unevaluated
from dermonas.space.domain import Domain, Theta

FORGETTING = 25  # hyperopt's DEFAULT_LF: the newest 25 of a group weigh 1, and a group of "good" trials is no larger
PRIOR_WEIGHT = 1.0  # hyperopt's _default_prior_weight: pseudocount a category


@dataclass(frozen=True)
class TPESettings:
    """What a TPE is set to.

    Args:
        n_startup: Scored records that the history must hold before the densities are used, 1 or more.
        n_candidates: Draws from l of which the best ratio is proposed, 1 or more.
        gamma: The good group has min(ceil(gamma * sqrt(T)), 25) of T records; above 0.

    Raises:
        ConfigError: If a value is out of range.
    """

    n_startup: int
    n_candidates: int
    gamma: float

    def __post_init__(self) -> None:
        for key in ("n_startup", "n_candidates"):
            if getattr(self, key) < 1:
                raise ConfigError(f"tpe.{key} is {getattr(self, key)}: use 1 or more")
        if not (math.isfinite(self.gamma) and self.gamma > 0):
            raise ConfigError(f"tpe.gamma is {self.gamma}: use a number above 0")


PRESETS: dict[str, TPESettings] = {
    # The settings the published code builds and never passes (spec/csnas.md 4.2).
    "paper": TPESettings(n_startup=20, n_candidates=20_000, gamma=0.2),
    # hyperopt's defaults, which the published run therefore used.
    "code": TPESettings(n_startup=20, n_candidates=24, gamma=0.25),
}


def settings_of(preset: str) -> TPESettings:
    """Return the settings of a preset by name.

    Raises:
        ConfigError: If there is no such preset.
    """
    if preset not in PRESETS:
        raise ConfigError(f"tpe preset is {preset!r}: use {' or '.join(PRESETS)}")
    return PRESETS[preset]


class TPESampler(DomainSampler):
    """hyperopt's TPE for categories, each position on its own.

    Of T records the best min(ceil(gamma * sqrt(T)), 25) make l, the others g. A category's probability is
    (1 + its weighted count) / sum; within each group, taken in trial order, the newest 25 weigh 1 and older ones
    less by a linear ramp. Fewer than n_startup records: a prior draw.

    Equal to hyperopt 0.3.0 but for two things. Failed trials leave no record, where hyperopt puts them in g with an
    infinite loss. Equal values are split earlier trial first, where hyperopt leaves it to an unstable sort whose
    result depends on the processor.

    Args:
        domain: The searched space.
        seed: The search's seed.
        preset: "paper" (20 start-ups, 20,000 candidates, gamma .2), "code" (20, 24, .25), or settings of your own.
        mode: "paper" or "modern"; in modern mode pruned trials are records too, ranked behind all complete ones.
        zero_start: Propose all zeros for trial 0.

    Raises:
        ConfigError: If the preset or mode is unknown.

    Source: spec/csnas.md 4.2; hyperopt 0.3.0 tpe.py (ap_split_trials, ap_randint_sampler, linear_forgetting_weights).
    """

    name = "tpe"

    def __init__(
        self,
        domain: Domain,
        seed: int,
        preset: str | TPESettings = "paper",
        mode: str = "modern",
        *,
        zero_start: bool = False,
    ) -> None:
        super().__init__(domain, seed, mode, zero_start=zero_start)
        self.settings = settings_of(preset) if isinstance(preset, str) else preset
        self._seen = _Seen(len(self.domain.choices))

    def densities(self, records: Sequence[Record]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return what the records say of each position.

        Args:
            records: The history in trial-number order; may be empty (both are then the prior).

        Returns:
            l and g, each one float64 array a position of shape (choices,), positive and summing to 1.
        """
        n_below = min(math.ceil(self.settings.gamma * math.sqrt(len(records))), FORGETTING)
        thetas, best = self._seen.after(records)
        below = np.zeros(len(records), dtype=bool)
        below[best[:n_below]] = True
        return self._density(thetas[below]), self._density(thetas[~below])

    def propose(self, records: Sequence[Record], number: int, rng: np.random.Generator) -> Theta:
        """Draw from the prior at the start, then from the law of the best of n candidates of l."""
        if len(scored(records)) < self.settings.n_startup:
            return self.domain.sample(rng)
        good, bad = self.densities(records)
        draws = rng.random((len(good), 2))
        return tuple(
            best_of(p, score, self.settings.n_candidates, *draw)
            for p, score, draw in zip(good, log_ratios(good, bad), draws.tolist(), strict=True)
        )

    def escape(self, records: Sequence[Record], rng: np.random.Generator, taken: frozenset[str]) -> Theta:
        """Return the theta not taken with the highest sum of log l/g; pruned networks count as evaluated."""
        return best_unevaluated(self.domain, log_ratios(*self.densities(records)), taken, rng)

    def _density(self, thetas: np.ndarray) -> list[np.ndarray]:
        """Return the density of each position from a group of thetas in time order, shape (records, positions)."""
        weights = forgetting_weights(len(thetas))
        densities = []
        for column, count in zip(thetas.T, self.domain.choices, strict=True):
            pseudocounts = np.bincount(column, weights, minlength=count) + PRIOR_WEIGHT
            densities.append(pseudocounts / pseudocounts.sum())
        return densities


class _Seen:
    """The records of the last call as arrays: a history mostly grows by one record between two asks."""

    def __init__(self, positions: int) -> None:
        self._records: list[Record] = []
        self._thetas = np.empty((64, positions), dtype=np.intp)
        self._best: list[tuple[tuple[int, int, float], int]] = []

    def after(self, records: Sequence[Record]) -> tuple[np.ndarray, list[int]]:
        """Return all thetas, shape (records, positions), and the indices of the 25 best, equal keys in order."""
        if self._records != list(records[: len(self._records)]):
            self._records, self._best = [], []
        for record in records[len(self._records) :]:
            index = len(self._records)
            if index == len(self._thetas):
                self._thetas = np.concatenate([self._thetas, np.empty_like(self._thetas)])
            self._thetas[index] = record.theta
            bisect.insort(self._best, (record.key, index))
            del self._best[FORGETTING:]
            self._records.append(record)
        return self._thetas[: len(self._records)], [index for _, index in self._best]


def forgetting_weights(count: int) -> np.ndarray:
    """Return the weights of `count` trials, oldest first: 1 for the newest 25, before them a ramp up from 1/count."""
    ramp = np.linspace(1.0 / max(count, 1), 1.0, num=max(count - FORGETTING, 0))
    return np.concatenate([ramp, np.ones(min(count, FORGETTING))])


def log_ratios(good: Sequence[np.ndarray], bad: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return log l - log g of each position (hyperopt's form: its rounding decides which scores are equal)."""
    return [np.log(p) - np.log(q) for p, q in zip(good, bad, strict=True)]


def best_of(p: np.ndarray, score: np.ndarray, n: int, u: float, v: float) -> int:
    """Draw the first best-scored of n draws from p, without making the draws.

    Let C be the mass under p of all categories scoring at least s. All n draws miss them with probability
    (1 - C)**n, so P(best score >= s) = 1 - (1 - C)**n, and u picks the score: the highest with C > 1 - (1 - u)**(1/n).
    Which of the draws have that score says nothing about which of its tied categories they are, so the first
    of them, argmax's choice, is distributed as p within the tie, and v picks it.

    Args:
        p: Probabilities, shape (choices,), positive.
        score: Scores, shape (choices,); exactly equal ones are ties.
        n: Number of draws, 1 or more.
        u: Uniform in [0, 1).
        v: Uniform in [0, 1).

    Returns:
        A category.
    """
    order = np.argsort(-score, kind="stable")
    mass = np.cumsum(p[order])
    # Computed as -expm1(log1p(-u) / n): 1 - (1 - u)**(1/n) is about 1/n and would lose its digits.
    reach = int(np.searchsorted(mass, -math.expm1(math.log1p(-u) / n), side="right"))
    # Rounding may leave the total mass below 1; the worst category is then the answer.
    tied = np.sort(order[score[order] == score[order[min(reach, len(order) - 1)]]])
    if len(tied) == 1:
        return int(tied[0])
    within = np.cumsum(p[tied])
    return int(tied[min(int(np.searchsorted(within, v * within[-1], side="right")), len(tied) - 1)])
