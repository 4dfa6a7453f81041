"""Samplers: each proposes the next theta from (seed, trial number, history) alone.

    DomainSampler (an optuna BaseSampler)   base.py       the interface, the duplicate rule
    ├── RandomSampler                       random.py     the prior
    ├── TPESampler                          tpe.py        hyperopt's TPE over categories, exact proposals
    ├── EvolutionSampler                    evolution.py  tournament among the newest, the winner's mutant next
    └── LocalSampler                        local.py      hill climbing by neighbours, with restarts

history.py reads a study into records; kbest.py lists thetas by decreasing score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dermonas.errors import ConfigError

if TYPE_CHECKING:
    from dermonas.search.samplers.base import DomainSampler
    from dermonas.space.domain import Domain

NAMES = ("tpe", "random", "evolution", "local")


def make(
    name: str,
    domain: Domain,
    seed: int,
    mode: str = "modern",
    tpe: str = "paper",
    *,
    population: int = 20,
    tournament: int = 20,
    zero_start: bool = False,
) -> DomainSampler:
    """Build a sampler by name.

    Args:
        name: One of NAMES.
        domain: The searched space.
        seed: The search's seed, any integer.
        mode: "paper" or "modern".
        tpe: Preset of the TPE, "paper" or "code"; checked, though not read, for other samplers.
        population: How many of the newest trials an evolution breeds from; checked for every sampler, as is the next.
        tournament: Of how many draws the best is an evolution's parent.
        zero_start: Propose all zeros for trial 0.

    Raises:
        ConfigError: If a name, mode or preset is unknown, or a number is out of range; says what is allowed.
    """
    if name not in NAMES:
        raise ConfigError(f"sampler is {name!r}: use one of {', '.join(NAMES)}")
    # Optuna is imported here, not with the package: naming the samplers must stay cheap.
    from dermonas.search.samplers.evolution import EvolutionSampler, EvolutionSettings
    from dermonas.search.samplers.local import LocalSampler
    from dermonas.search.samplers.random import RandomSampler
    from dermonas.search.samplers.tpe import TPESampler, settings_of

    settings, evolution = settings_of(tpe), EvolutionSettings(population, tournament)
    if name == "random":
        return RandomSampler(domain, seed, mode, zero_start=zero_start)
    if name == "evolution":
        return EvolutionSampler(domain, seed, evolution, mode, zero_start=zero_start)
    if name == "local":
        return LocalSampler(domain, seed, mode, zero_start=zero_start)
    return TPESampler(domain, seed, settings, mode, zero_start=zero_start)
