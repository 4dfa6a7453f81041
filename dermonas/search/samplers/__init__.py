"""Samplers: each proposes the next theta from (seed, trial number, history) alone.

    DomainSampler (an optuna BaseSampler)   base.py       the interface, the duplicate rule
    ├── RandomSampler                       random.py     the prior
    ├── TPESampler                          tpe.py        hyperopt's TPE over categories, exact proposals
    ├── EvolutionSampler                    evolution.py  tournament among the newest, the winner's mutant next
    ├── LocalSampler                        local.py      hill climbing by neighbours, with restarts
    └── NaoSampler                          nao.py        a controller learns the cells, decodes better ones

nao_rounds.py trains and asks NAO's controller; history.py reads a study into records; kbest.py lists thetas by
decreasing score.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dermonas.errors import ConfigError

if TYPE_CHECKING:
    from dermonas.controller.model import Controller
    from dermonas.search.samplers.base import DomainSampler
    from dermonas.search.samplers.nao import NaoSettings
    from dermonas.space.domain import Domain

NAMES = ("tpe", "random", "evolution", "local", "nao")


def make(
    name: str,
    domain: Domain,
    seed: int,
    mode: str = "modern",
    tpe: str = "paper",
    *,
    population: int = 20,
    tournament: int = 20,
    nao: NaoSettings | None = None,
    controller: Controller | None = None,
    folder: Path | None = None,
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
        nao: Settings of NAO; None takes its defaults.
        controller: What NAO begins with; needed for it, read by no other.
        folder: Keeps NAO's rounds; None keeps them in memory alone.
        zero_start: Propose all zeros for trial 0.

    Raises:
        ConfigError: If a name, mode or preset is unknown, a number is out of range, or NAO has no controller; says
            what is allowed.
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
    if name == "nao":
        from dermonas.search.samplers.nao import NaoSampler  # torch comes with it

        if controller is None:
            raise ConfigError("sampler is 'nao': give a controller")
        return NaoSampler(domain, seed, controller, nao, mode, zero_start=zero_start, folder=folder)
    return TPESampler(domain, seed, settings, mode, zero_start=zero_start)
