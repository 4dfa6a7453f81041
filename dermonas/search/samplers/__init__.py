"""Samplers: each proposes the next theta from (seed, trial number, history) alone.

    DomainSampler (an optuna BaseSampler)   base.py     the interface, the duplicate rule
    ├── RandomSampler                       random.py   the prior
    └── TPESampler                          tpe.py      hyperopt's TPE over categories, exact proposals

history.py reads a study into records; kbest.py lists thetas by decreasing score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dermonas.errors import ConfigError

if TYPE_CHECKING:
    from dermonas.search.samplers.base import DomainSampler
    from dermonas.space.domain import Domain

NAMES = ("tpe", "random")


def make(
    name: str, domain: Domain, seed: int, mode: str = "modern", tpe: str = "paper", *, zero_start: bool = False
) -> DomainSampler:
    """Build a sampler by name.

    Args:
        name: "tpe" or "random".
        domain: The searched space.
        seed: The search's seed, any integer.
        mode: "paper" or "modern".
        tpe: Preset of the TPE, "paper" or "code"; checked, though not read, for other samplers.
        zero_start: Propose all zeros for trial 0.

    Raises:
        ConfigError: If a name, mode or preset is unknown; the message lists what is allowed.
    """
    if name not in NAMES:
        raise ConfigError(f"sampler is {name!r}: use {' or '.join(NAMES)}")
    # Optuna is imported here, not with the package: naming the samplers must stay cheap.
    from dermonas.search.samplers.random import RandomSampler
    from dermonas.search.samplers.tpe import TPESampler, settings_of

    settings = settings_of(tpe)
    if name == "random":
        return RandomSampler(domain, seed, mode, zero_start=zero_start)
    return TPESampler(domain, seed, settings, mode, zero_start=zero_start)
