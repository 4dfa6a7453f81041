"""The keys of the sampler nao, wherever it searches: images or a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from dermonas.controller.pool import PoolSettings, Target
from dermonas.errors import ConfigError

if TYPE_CHECKING:
    from dermonas.search.samplers.nao import NaoSettings

CONTROLLED = "nao"
"""The sampler that these keys are of."""


@dataclass(frozen=True)
class NaoKeys:
    """How a search by nao goes; nothing to other samplers.

    Attributes:
        controller: What nao begins with: run id or file of controller-pretrain, "scratch" for one that was not
            pretrained, empty to pretrain one on first use, as a run of its own.
        nao_initial: Networks evaluated before nao's first round.
        nao_seeds: Best networks from which a round's candidates are decoded.
        nao_count: Candidates a round.
        nao_epochs: Passes over the pool a round.
        nao_learning_rate: Of these.
        nao_weight: lambda, that of the predictor's squared error; the reconstruction has the rest.
        nao_batch_size: Cells a step.
        nao_milestones: Passes over all rounds after which the learning rate falls to a tenth.
        nao_steps: Steps along the gradient until there are enough candidates.
        nao_ascent: "growing" (one gradient, steps 1, 2, 3, ... times as long) or "iterative" (a new one each step).
        nao_constrained: Whether the decoder may only use symbols that a position can have.
        nao_neighbours: Of how many of the best networks the neighbours are considered too, by falling predicted
            value. The paper has none.
        nao_near: Their share of a round.
        nao_at_least: Candidates that a round has at any rate, made up by random edits of the best networks.
        nao_predictor_only: Whether encoder and decoder stay as they are.
    """

    controller: str = ""
    nao_initial: int = 20
    nao_seeds: int = 20
    nao_count: int = 10
    nao_epochs: int = 100
    nao_learning_rate: float = 4.0
    nao_weight: float = 0.99
    nao_batch_size: int = 64
    nao_milestones: list[int] = field(default_factory=list)
    nao_steps: int = 100
    nao_ascent: Literal["growing", "iterative"] = "growing"  # Ascent; spelt out, see docs/decisions/jsonargparse.md
    nao_constrained: bool = False
    nao_neighbours: int = 5
    nao_near: float = 0.8
    nao_at_least: int = 1
    nao_predictor_only: bool = False


# Functions and not methods: jsonargparse makes a subcommand of every public member of a class.


def nao_settings(keys: NaoKeys, target: Target | None = None) -> NaoSettings:
    """Return the settings of nao.

    Args:
        keys: The configuration.
        target: What the predictor learns; None makes it from the initial pool.

    Raises:
        ConfigError: If a value is impossible; names the key.
    """
    from dermonas.search.samplers.nao import NaoSettings

    try:
        if keys.nao_learning_rate <= 0:
            raise ConfigError(f"learning_rate: {keys.nao_learning_rate} is not possible; give a number above 0")
        pool = PoolSettings(
            epochs=keys.nao_epochs,
            batch_size=keys.nao_batch_size,
            learning_rate=keys.nao_learning_rate,
            weight=keys.nao_weight,
            milestones=tuple(keys.nao_milestones),
            predictor_only=keys.nao_predictor_only,
        )
        return NaoSettings(
            initial=keys.nao_initial,
            seeds=keys.nao_seeds,
            count=keys.nao_count,
            pool=pool,
            steps=keys.nao_steps,
            ascent=keys.nao_ascent,
            constrained=keys.nao_constrained,
            neighbours=keys.nao_neighbours,
            near=keys.nao_near,
            at_least=keys.nao_at_least,
            target=target,
        )
    except ConfigError as error:
        raise ConfigError(f"nao_{error}") from error


def unread(keys: NaoKeys, sampler: str) -> tuple[str, ...]:
    """Return the keys here that a sampler does not read."""
    return () if sampler == CONTROLLED else tuple(NaoKeys.__dataclass_fields__)
