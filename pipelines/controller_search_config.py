"""The settings of `controller-search`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dermonas.controller.pool import Target
from dermonas.data.benchmarks.nasbench201 import DATASETS
from dermonas.errors import ConfigError
from dermonas.search.config import Mode
from dermonas.search.nao_config import CONTROLLED, NaoKeys, nao_settings, unread
from dermonas.search.samplers import NAMES

# The paper's search (spec/nao.md 5, its published code where the paper is silent).
PAPER: dict[str, Any] = {
    "queries": 6528, "initial": 128, "nao_initial": 128, "nao_seeds": 128, "nao_count": 128, "nao_epochs": 100,
    "nao_learning_rate": 0.1, "nao_batch_size": 64, "nao_milestones": [1200, 2400], "nao_steps": 100,
    "nao_weight": 0.5, "nao_ascent": "growing", "nao_constrained": False, "nao_neighbours": 0, "nao_at_least": 0,
    "nao_predictor_only": False, "nao_target": "paper", "noise": "draw",
}  # fmt: skip

_LEAST = {"seeds": 1, "first_seed": 0, "queries": 1, "initial": 0, "population": 1, "tournament": 1, "threads": 0}

# Read by one sampler alone.
_OF = {"tpe": ("tpe",), "evolution": ("population", "tournament"), CONTROLLED: ("nao_target", "device")}

# What a seed's result does not depend on, or depends on by what it names (table, controller).
_FREE = ("table", "controller", "arm", "seeds", "first_seed", "out", "threads", "fresh")


@dataclass(frozen=True)
class ControllerSearchConfig(NaoKeys):
    """Which table to search, with which sampler; nao's own keys are inherited.

    Attributes:
        domain: "nasbench201" or "nasbench101".
        table: nasbench201_tss.csv.gz or nasbench_only108.tfrecord.
        dataset: Of NAS-Bench-201: "cifar10", "cifar100" or "imagenet16" (ImageNet16-120).
        sampler: "tpe", "random", "evolution", "local" or "nao".
        arm: What reports call this search; empty is the sampler's name, for nao nao-<metric of the pretraining> or
            nao-scratch.
        seeds: How many times to search.
        first_seed: The first of them; the others follow it.
        queries: Distinct networks that a search asks for, `initial` among them.
        initial: Random networks that every sampler is given at a seed, so that they compare in pairs.
        mode: "paper" or "modern"; how a sampler that stalls is helped.
        tpe: TPE preset: "paper" (20 start-ups, 20,000 candidates, gamma .2) or "code" (20, 24, .25).
        population: How many of the newest queries an evolution breeds from; as many random ones come first.
        tournament: Of how many draws from the population the best is the parent.
        noise: Of NAS-Bench-101, whose graphs were trained three times: "draw" answers a query with one of the
            repeats, drawn once a graph and seed, "first" with the first.
        nao_target: Accuracies that the predictor learns as 0 and 1: "pool" (from the initial pool: its median, and as
            far above its best), "paper" (.8 and 1), or two numbers, as "0.5,0.9".
        out: Where seeds are kept until the run is over, and after.
        device: Where nao's controller is trained, "cpu" or "cuda".
        threads: CPU threads; 0 is torch's default.
        fresh: Search anew even if an equal search is finished or begun.
    """

    domain: Literal["nasbench201", "nasbench101"] = "nasbench201"
    table: Path | None = None
    dataset: str = "cifar10"
    sampler: str = "nao"
    arm: str = ""
    seeds: int = 5
    first_seed: int = 0
    queries: int = 100
    initial: int = 10
    mode: Mode = "modern"
    tpe: str = "paper"
    population: int = 20
    tournament: int = 20
    noise: Literal["draw", "first"] = "draw"
    nao_target: str = "pool"
    out: Path = Path("outputs/controller-search")
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 0
    fresh: bool = False

    def __post_init__(self) -> None:
        for key, least in _LEAST.items():
            if getattr(self, key) < least:
                raise ConfigError(f"{key}: {getattr(self, key)} is not possible; give {least} or more")
        if self.sampler not in NAMES:
            raise ConfigError(f"sampler: {self.sampler!r} is not possible; give one of {', '.join(NAMES)}")
        if self.dataset not in DATASETS:
            raise ConfigError(f"dataset: {self.dataset!r} is not possible; give one of {', '.join(DATASETS)}")
        if self.domain == "nasbench101" and self.dataset != "cifar10":
            raise ConfigError(f"dataset: {self.dataset!r} is not possible with nasbench101; give cifar10")
        if self.domain == "nasbench201" and self.noise != "draw":
            raise ConfigError(f"noise: {self.noise!r} is not possible with nasbench201, which has no repeats; leave it")
        if self.sampler != CONTROLLED and self.controller:
            raise ConfigError(f"controller: {self.controller!r} is not possible with {self.sampler}; leave it empty")
        if self.sampler == CONTROLLED and self.queries <= self.nao_initial:
            raise ConfigError(
                f"queries: {self.queries} is not possible; give more than nao_initial ({self.nao_initial})"
            )
        _check_sampler(self)


# Functions and not methods: jsonargparse makes a subcommand of every public member of a class.


def target_of(config: ControllerSearchConfig) -> Target | None:
    """Return what nao's predictor learns, of losses (1 - accuracy) as the search sees them; None is of the pool.

    Raises:
        ConfigError: If it is none of what is allowed.
    """
    text = config.nao_target
    if text == "pool":
        return None
    try:
        worst, best = (0.8, 1.0) if text == "paper" else map(float, text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"nao_target: {text!r} is not possible; give pool, paper, or two accuracies as 0.5,0.9"
        ) from error
    if not 0 <= worst < best <= 1:
        raise ConfigError(f"nao_target: {text!r} is not possible; give two accuracies in 0 to 1, the worst first")
    return Target(1 - worst, 1 - best)


def depends_on(config: ControllerSearchConfig, table: str, controller: str) -> dict[str, Any]:
    """Return what a seed's result depends on.

    Args:
        config: The settings.
        table: Digest of the table.
        controller: Identity of the controller, empty but for nao.
    """
    left = {key for sampler, keys in _OF.items() if sampler != config.sampler for key in keys}
    left |= {*_FREE, *unread(config, config.sampler)}
    values = {key: value for key, value in asdict(config).items() if key not in left}
    return {**values, "table": table, "controller": controller}


def deviations(config: ControllerSearchConfig) -> dict[str, dict[str, Any]]:
    """Return every setting of nao that differs from the paper's, as {key: {"paper": ..., "here": ...}}."""
    if config.sampler != CONTROLLED:
        return {}
    return {
        key: {"paper": value, "here": getattr(config, key)}
        for key, value in PAPER.items()
        if getattr(config, key) != value
    }


def _check_sampler(config: ControllerSearchConfig) -> None:
    """Have the samplers' own checks of their settings made now."""
    if config.sampler == CONTROLLED:
        nao_settings(config, target_of(config))
    elif config.sampler == "tpe":
        from dermonas.search.samplers.tpe import settings_of

        settings_of(config.tpe)
