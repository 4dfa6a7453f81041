"""Regularised evolution: a tournament among the newest, the winner's mutant next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dermonas.errors import ConfigError
from dermonas.search.samplers.base import DomainSampler
from dermonas.search.samplers.history import Record, scored
from dermonas.space.domain import Domain, Theta


@dataclass(frozen=True)
class EvolutionSettings:
    """What an evolution is set to.

    Args:
        population: Records that are alive, the newest; 1 or more. That many prior draws come first.
        tournament: Draws from the population of which the best is the parent, 1 or more (Real et al. call it the
            sample size).

    The defaults are what did best on NAS-Bench-201, CIFAR-100, at 100 queries (of populations 10 to 50 and
    tournaments 3 to 20; docs/results/controller.md).

    Raises:
        ConfigError: If a value is out of range.
    """

    population: int = 20
    tournament: int = 20

    def __post_init__(self) -> None:
        for key in ("population", "tournament"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key} is {getattr(self, key)}: use 1 or more")


class EvolutionSampler(DomainSampler):
    """Aging evolution over a domain's neighbours.

    The population is the newest records by trial number, so the oldest dies with every record and a good one lives
    on only through its children. The parent is the best of a tournament drawn with replacement; the proposal is one
    of its neighbours, each equally likely.

    A mutant that was evaluated before enters the population again with its known value, as the duplicate rule has it:
    it renews its age, where Real et al. train it again. Failed trials leave no record, so nothing dies for them; in
    modern mode a pruned trial is a member that loses to every complete one, and one beyond a bound, which was never
    scored, is none: a row of them would leave no parent.

    Args:
        domain: The searched space.
        seed: The search's seed.
        settings: Population and tournament.
        mode: "paper" or "modern".
        zero_start: Propose all zeros for trial 0.

    Raises:
        ConfigError: If the mode is unknown.

    Source: Real et al., Regularized Evolution for Image Classifier Architecture Search (AAAI 2019), algorithm 1. The
        paper's mutations are those of its own space; here a mutation is one step to a neighbour.
    """

    name = "evolution"

    def __init__(
        self,
        domain: Domain,
        seed: int,
        settings: EvolutionSettings | None = None,
        mode: str = "modern",
        *,
        zero_start: bool = False,
    ) -> None:
        super().__init__(domain, seed, mode, zero_start=zero_start)
        self.settings = settings or EvolutionSettings()

    def propose(self, records: Sequence[Record], number: int, rng: np.random.Generator) -> Theta:
        """Draw from the prior until the population is full, then a neighbour of a tournament's winner."""
        alive = scored(records)[-self.settings.population :]
        if len(alive) < self.settings.population:
            return self.domain.sample(rng)
        drawn = rng.integers(len(alive), size=self.settings.tournament).tolist()
        parent = min((alive[index] for index in drawn), key=lambda record: record.key)
        mutants = list(self.domain.neighbours(parent.theta))
        # Without neighbours is a space of one network, or a theta that builds none.
        return mutants[int(rng.integers(len(mutants)))] if mutants else self.domain.sample(rng)
