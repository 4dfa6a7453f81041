"""Neural architecture optimisation: a controller learns the evaluated cells and decodes better ones, in rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dermonas.controller.languages import language_of
from dermonas.controller.model import Controller
from dermonas.controller.pool import PoolSettings, Target
from dermonas.controller.proposal import Ascent, ProposalSettings
from dermonas.errors import ConfigError
from dermonas.search.samplers.base import DomainSampler
from dermonas.search.samplers.history import Record
from dermonas.search.samplers.nao_rounds import Round, Rounds
from dermonas.space.domain import Domain, Theta

POOL = PoolSettings(epochs=100, learning_rate=4.0, weight=0.99, milestones=())
"""The default training of a round. The paper's (rate .1, weight .5) leaves the predictor useless on a pool of some
dozen cells; chosen on NAS-Bench-201, CIFAR-100 (docs/results/controller.md)."""


@dataclass(frozen=True)
class NaoSettings:
    """How a search by NAO goes.

    Attributes:
        initial: Networks that are evaluated, from the prior, before the first round.
        seeds: Best cells of the pool from which a round's candidates are decoded.
        count: Candidates of a round, at most; the controller then learns from their scores.
        pool: How the controller is trained in a round.
        steps: See `ProposalSettings`, as for the next two.
        ascent: "growing" or "iterative".
        constrained: Whether the decoder may only use symbols that a position can have.
        neighbours: Of how many of the best seeds the neighbours are considered too; see `ProposalSettings`. Decoding
            alone finds too little beside the best cells of a small pool (docs/results/controller.md).
        near: Their share of a round.
        at_least: Candidates that a round has at any rate, made up with random positives of the seeds.
        target: What the predictor learns; None is made from the initial pool (`Target.of_losses`). Of scores as the
            search sees them, where smaller is better: worst is the larger one.

    Raises:
        ConfigError: If a value is impossible.

    Source: spec/nao.md 5 (initial, seeds and count 128 on a table) and 8 (about 20, 20 and 10 where every evaluation
    is a training).
    """

    initial: int = 20
    seeds: int = 20
    count: int = 10
    pool: PoolSettings = POOL
    steps: int = 100
    ascent: Ascent = "growing"
    constrained: bool = False
    neighbours: int = 5
    near: float = 0.8
    at_least: int = 1
    target: Target | None = None

    def __post_init__(self) -> None:
        for key, low in (("initial", 2), ("seeds", 1)):
            if getattr(self, key) < low:
                raise ConfigError(f"{key} is {getattr(self, key)}: use {low} or more")
        if self.target is not None and self.target.worst < self.target.best:
            raise ConfigError(
                f"target: worst {self.target.worst} is below best {self.target.best}; smaller scores are better"
            )
        self.proposal  # noqa: B018  its checks are these settings' too

    @property
    def proposal(self) -> ProposalSettings:
        """The settings of a round's proposal."""
        return ProposalSettings(
            self.count, self.steps, self.ascent, self.constrained, self.neighbours, self.near, self.at_least
        )


class NaoSampler(DomainSampler):
    """Rounds of NAO over a domain that a controller speaks of.

    Prior draws come first, until `initial` networks are evaluated. Then each round trains the controller, as the last
    round left it, on every cell evaluated so far, and the trials after it propose its candidates, each once. The
    rounds are a function of the history: the one that begins at trial n has learned from the trials before n. They
    are kept, and made again from where another history differs. A trial that failed, or still runs, is no part of a
    pool, and a round's cell is not proposed again. A pruned one is part of it with target 0. With parallel workers a
    late result makes anew the round that should have learned from it, and a trial after that may repeat one that
    still runs.

    Args:
        domain: The searched space.
        seed: The search's seed.
        controller: Pretrained or not; not changed. Rounds are trained on its device.
        settings: How.
        mode: "paper" or "modern".
        zero_start: Propose all zeros for trial 0.
        folder: Keeps the controller after each round, so that a resumed search does not train anew.

    Raises:
        ConfigError: If no controller speaks of the domain, this one speaks of another, or the mode is unknown.

    Source: the NAO paper, section 3 and appendix; spec/nao.md 5 and 8.
    """

    name = "nao"

    def __init__(
        self,
        domain: Domain,
        seed: int,
        controller: Controller,
        settings: NaoSettings | None = None,
        mode: str = "modern",
        *,
        zero_start: bool = False,
        folder: Path | None = None,
    ) -> None:
        super().__init__(domain, seed, mode, zero_start=zero_start)
        self.settings = settings or NaoSettings()
        language = language_of(domain)
        sizes = controller.settings
        if (sizes.vocabulary, sizes.length) != (language.vocabulary, language.length):
            raise ConfigError(
                f"the controller speaks {sizes.length} tokens of {sizes.vocabulary} symbols, {domain.name} needs "
                f"{language.length} of {language.vocabulary}: give one that was pretrained on {language.name}"
            )
        self._rounds = Rounds(domain, language, controller, self.settings, seed, folder)

    @property
    def rounds(self) -> list[Round]:
        """The rounds made so far for the history last seen, the first one first."""
        return self._rounds.made

    def rounds_of(self, records: Sequence[Record]) -> list[Round]:
        """Return the rounds that a history's trials belong to, made where they are not: also without a proposal."""
        last = records[-1].number if records else -1
        if last >= 0:
            self._rounds.at(records, last)
        return [made for made in self.rounds if made.first <= last]

    def propose(self, records: Sequence[Record], number: int, rng: np.random.Generator) -> Theta:
        """Draw from the prior until the initial pool is full, then take the round's candidates in order."""
        current = self._rounds.at(records, number)
        if current is None:
            return self.domain.sample(rng)
        return current.candidates[number - current.first]
