"""The settings of `controller-search`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dermonas.controller.pool import PoolSettings, Target
from dermonas.controller.proposal import Ascent
from dermonas.data.benchmarks.nasbench201 import DATASETS
from dermonas.errors import ConfigError
from dermonas.search.config import Mode
from dermonas.search.samplers import NAMES

if TYPE_CHECKING:
    from dermonas.search.samplers.nao import NaoSettings

# The paper's search (spec/nao.md 5, its published code where the paper is silent).
PAPER: dict[str, Any] = {
    "queries": 6528, "initial": 128, "nao_initial": 128, "nao_seeds": 128, "nao_count": 128, "nao_epochs": 100,
    "nao_learning_rate": 0.1, "nao_batch_size": 64, "nao_milestones": [1200, 2400], "nao_steps": 100,
    "nao_ascent": "growing", "nao_constrained": False, "nao_at_least": 0, "nao_predictor_only": False,
    "nao_target": "paper", "noise": "draw",
}  # fmt: skip

_LEAST = {"seeds": 1, "first_seed": 0, "queries": 1, "initial": 0, "population": 1, "tournament": 1, "threads": 0}

# Read by one sampler alone.
_OF = {"tpe": ("tpe",), "evolution": ("population", "tournament")}

# What a seed's result does not depend on, or depends on by what it names (table, controller).
_FREE = ("table", "controller", "arm", "seeds", "first_seed", "out", "threads", "fresh")


@dataclass(frozen=True)
class ControllerSearchConfig:
    """Which table to search, with which sampler.

    Attributes:
        domain: "nasbench201" or "nasbench101".
        table: nasbench201_tss.csv.gz or nasbench_only108.tfrecord.
        dataset: Of NAS-Bench-201: "cifar10", "cifar100" or "imagenet16" (ImageNet16-120).
        sampler: "tpe", "random", "evolution", "local" or "nao".
        controller: What nao begins with: run id or file of controller-pretrain, "scratch" for one that was not
            pretrained, empty to pretrain one on first use, as a run of its own.
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
        nao_initial: Networks evaluated before nao's first round.
        nao_seeds: Best networks from which a round's candidates are decoded.
        nao_count: Candidates a round.
        nao_epochs: Passes over the pool a round.
        nao_learning_rate: Of these.
        nao_batch_size: Cells a step.
        nao_milestones: Passes over all rounds after which the learning rate falls to a tenth.
        nao_steps: Steps along the gradient until there are enough candidates.
        nao_ascent: "growing" (one gradient, steps 1, 2, 3, ... times as long) or "iterative" (a new one each step).
        nao_constrained: Whether the decoder may only use symbols that a position can have.
        nao_at_least: Candidates that a round has at any rate, made up by random edits of the best networks.
        nao_predictor_only: Whether encoder and decoder stay as they are.
        nao_target: Accuracies that the predictor learns as 0 and 1: "pool" (from the initial pool: its worst, and its
            best plus its range), "paper" (.8 and 1), or two numbers, as "0.5,0.9".
        out: Where seeds are kept until the run is over, and after.
        device: Where nao's controller is trained, "cpu" or "cuda".
        threads: CPU threads; 0 is torch's default.
        fresh: Search anew even if an equal search is finished or begun.
    """

    domain: Literal["nasbench201", "nasbench101"] = "nasbench201"
    table: Path | None = None
    dataset: str = "cifar10"
    sampler: str = "nao"
    controller: str = ""
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
    nao_initial: int = 20
    nao_seeds: int = 20
    nao_count: int = 10
    nao_epochs: int = 400
    nao_learning_rate: float = 1.0
    nao_batch_size: int = 64
    nao_milestones: list[int] = field(default_factory=list)
    nao_steps: int = 100
    nao_ascent: Ascent = "growing"
    nao_constrained: bool = False
    nao_at_least: int = 1
    nao_predictor_only: bool = False
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
        if self.sampler != "nao" and self.controller:
            raise ConfigError(f"controller: {self.controller!r} is not possible with {self.sampler}; leave it empty")
        if self.sampler == "nao" and self.queries <= self.nao_initial:
            raise ConfigError(
                f"queries: {self.queries} is not possible; give more than nao_initial ({self.nao_initial})"
            )
        _check_sampler(self)


# Functions and not methods: jsonargparse makes a subcommand of every public member of a class.


def nao_settings(config: ControllerSearchConfig) -> NaoSettings:
    """Return the settings of nao.

    Raises:
        ConfigError: If a value is impossible; names the key.
    """
    from dermonas.search.samplers.nao import NaoSettings

    if config.nao_learning_rate <= 0:
        raise ConfigError(f"learning_rate: {config.nao_learning_rate} is not possible; give a number above 0")
    return NaoSettings(
        initial=config.nao_initial,
        seeds=config.nao_seeds,
        count=config.nao_count,
        pool=PoolSettings(
            epochs=config.nao_epochs,
            batch_size=config.nao_batch_size,
            learning_rate=config.nao_learning_rate,
            milestones=tuple(config.nao_milestones),
            predictor_only=config.nao_predictor_only,
        ),
        steps=config.nao_steps,
        ascent=config.nao_ascent,
        constrained=config.nao_constrained,
        at_least=config.nao_at_least,
        target=_target(config.nao_target),
    )


def depends_on(config: ControllerSearchConfig, table: str, controller: str) -> dict[str, Any]:
    """Return what a seed's result depends on.

    Args:
        config: The settings.
        table: Digest of the table.
        controller: Identity of the controller, empty but for nao.
    """
    left = {key for sampler, keys in _OF.items() if sampler != config.sampler for key in keys} | {*_FREE}
    values = {key: value for key, value in asdict(config).items() if key not in left}
    if config.sampler != "nao":
        values = {key: value for key, value in values.items() if key != "device" and not key.startswith("nao_")}
    return {**values, "table": table, "controller": controller}


def deviations(config: ControllerSearchConfig) -> dict[str, dict[str, Any]]:
    """Return every setting of nao that differs from the paper's, as {key: {"paper": ..., "here": ...}}."""
    if config.sampler != "nao":
        return {}
    return {
        key: {"paper": value, "here": getattr(config, key)}
        for key, value in PAPER.items()
        if getattr(config, key) != value
    }


def _check_sampler(config: ControllerSearchConfig) -> None:
    """Have the samplers' own checks of their settings made now, the message under the key as it is called here."""
    if config.sampler == "nao":
        try:
            nao_settings(config)
        except ConfigError as error:
            raise ConfigError(f"nao_{error}") from error
    elif config.sampler == "tpe":
        from dermonas.search.samplers.tpe import settings_of

        settings_of(config.tpe)


def _target(text: str) -> Target | None:
    """Return what accuracies become, of losses (1 - accuracy) as the search sees them."""
    if text == "pool":
        return None
    try:
        worst, best = (0.8, 1.0) if text == "paper" else map(float, text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"target: {text!r} is not possible; give pool, paper, or two accuracies as 0.5,0.9"
        ) from error
    if not 0 <= worst < best <= 1:
        raise ConfigError(f"target: {text!r} is not possible; give two accuracies in 0 to 1, the worst first")
    return Target(1 - worst, 1 - best)
