"""The settings of `search`, with the papers' values beside them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from dermonas.errors import ConfigError
from dermonas.objective.contrastive import ContrastiveSettings
from dermonas.search.nao_config import CONTROLLED, NaoKeys, nao_settings, unread
from dermonas.search.samplers import NAMES
from dermonas.space.darts import DartsSpace
from dermonas.space.encoding import EncodingName

Mode = Literal["paper", "modern"]
Pruner = Literal["none", "median", "halving", "hyperband"]

# What `mode` decides where the recipe is silent (DESIGN 3).
_BY_MODE: dict[str, dict[str, Any]] = {
    "paper": {"encoding": "first2", "pruner": "none"},
    "modern": {"encoding": "pairs", "pruner": "median"},
}

# The paper's search, data set aside (spec/csnas.md 4.1, 4.2 and 10).
PAPER: dict[str, Any] = {
    "epochs": 10, "batch_size": 150, "learning_rate": 0.001, "momentum": 0.9, "temperature": 0.07, "balance": 0.5,
    "width": 128, "projection": "linear", "nce": "infonce", "negatives": "memory", "views": "paper", "resolution": 32,
    "score": "train_loss",
    "layers": 8, "sampler": "tpe", "tpe": "paper", "encoding": "first2", "pruner": "none", "images": None,
}  # fmt: skip
PAPER_BY_DATASET: dict[str, dict[str, Any]] = {
    "cifar10": {"trials": 500, "channels": 32},
    "isic2019": {"trials": 120, "channels": 16},
    "imagenet": {"trials": 120, "channels": 32, "nodes": 5},
}

# These may change when a study goes on: they bound or place the work and do not change a score.
_FREE = (
    "trials", "max_failures", "max_attempts", "threads", "workers", "storage", "study", "data", "controller",
)  # fmt: skip

# Read by this sampler alone: to a study of another one they are nothing.
_EVOLUTION = ("population", "tournament")

# What candidates are ranked by.
_SCORE = ("score", "heldout", "size_weight")

# Read by these pruners alone (their names here and not in `pruning`: settings are read without optuna).
_HALVING = ("halving", "hyperband")
_RUNGS = ("reduction_factor", "least_epochs")

_LEAST = {
    "trials": 1,
    "max_failures": 0,
    "max_attempts": 1,
    "threads": 0,
    "workers": 1,
    "seed": 0,
    "population": 1,
    "tournament": 1,
    "reduction_factor": 2,
    "least_epochs": 1,
}


@dataclass(frozen=True)
class SearchConfig(ContrastiveSettings, NaoKeys):
    """What to search, and how; the objective's own keys and those of nao are inherited.

    Attributes:
        data: Folder that prepare wrote; None is the recipe's own, prepared first when it is missing.
        trials: Distinct genotypes to evaluate, over all resumptions of the study.
        sampler: "tpe", "random", "evolution", "local" or "nao".
        tpe: TPE preset: "paper" (20 start-ups, 20,000 candidates, gamma .2) or "code" (20, 24, .25).
        population: How many of the newest trials an evolution breeds from; as many random ones come first.
        tournament: Of how many draws from the population the best is the parent.
        study: Study name; empty is made from recipe, data digest, nodes, sampler and seed.
        storage: Optuna storage URL.
        nodes: Intermediate nodes of a cell, 4 or 5.
        mode: "paper" or "modern"; decides `encoding` and `pruner` where they are not set, and what the sampler learns
            from.
        encoding: "first2", "all" or "pairs"; None is the mode's.
        pruner: "none", "median", "halving" (successive halving) or "hyperband"; None is the mode's.
        reduction_factor: One in so many goes on past a rung, to so many times the epochs; halving and hyperband alone.
        least_epochs: Epochs before the first rung; of these two alone.
        max_parameters_m: Most parameters of a candidate in millions, as computed (without dead ones and projection
            heads); one with more is never trained. None is no bound.
        max_multiply_adds_m: The same of its multiply-adds for one view.
        zero_start: Whether trial 0 proposes the all-zero theta.
        max_failures: Failed trials that the study tolerates.
        max_attempts: Attempts at a trial whose process dies (kill -9, out of memory); then it has failed.
        images: Use that many images of the search set, drawn by seed; None is all.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads, of each worker; 0 is torch's default, and of several workers each one's share.
        workers: Processes on this machine. More than one change no score, but what is known when a proposal is made.
    """

    data: Path | None = None
    trials: int = 20
    sampler: str = "tpe"
    tpe: str = "paper"
    population: int = 20
    tournament: int = 20
    study: str = ""
    storage: str = "sqlite:///studies.db"
    nodes: int = 5
    mode: Mode = "modern"
    encoding: EncodingName | None = None
    pruner: Pruner | None = None
    reduction_factor: int = 3
    least_epochs: int = 1
    max_parameters_m: float | None = None
    max_multiply_adds_m: float | None = None
    zero_start: bool = False
    max_failures: int = 10
    max_attempts: int = 3
    images: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, least in _LEAST.items():
            if getattr(self, key) < least:
                raise ConfigError(f"{key} is {getattr(self, key)}, must be at least {least}")
        if self.images is not None and self.images < 4:
            raise ConfigError(f"images is {self.images}, must be at least 4, or null for all")
        if self.sampler not in NAMES:
            raise ConfigError(f"sampler is {self.sampler!r}, must be one of {', '.join(NAMES)}")
        if self.controller and self.sampler != CONTROLLED:
            raise ConfigError(f"controller is {self.controller!r}, which {self.sampler} does not read: leave it empty")
        if self.mode not in _BY_MODE:
            raise ConfigError(f"mode is {self.mode!r}, must be one of {', '.join(_BY_MODE)}")
        for key, value in _BY_MODE[self.mode].items():
            if getattr(self, key) is None:
                object.__setattr__(self, key, value)
        self._check_pruner()
        for key in ("max_parameters_m", "max_multiply_adds_m"):
            bound = getattr(self, key)
            if bound is not None and not 0 < bound < math.inf:
                raise ConfigError(f"{key} is {bound}, must be above 0 (millions), or null for no bound")
        if "://" not in self.storage:
            raise ConfigError(f"storage is {self.storage!r}, must be a database URL such as sqlite:///studies.db")
        space = space_of(self)
        if self.sampler == CONTROLLED:
            from dermonas.controller.languages import language_of

            language_of(space)
            nao_settings(self)
            if self.trials <= self.nao_initial:
                raise ConfigError(
                    f"trials is {self.trials}, no more than nao_initial ({self.nao_initial}): nao would draw at random "
                    "and never learn; use more trials or a smaller nao_initial"
                )

    def _check_pruner(self) -> None:
        if self.pruner not in get_args(Pruner):
            raise ConfigError(f"pruner is {self.pruner!r}, must be one of {', '.join(get_args(Pruner))}")
        if self.pruner not in _HALVING:
            for key in _RUNGS:
                if getattr(self, key) != getattr(SearchConfig, key):
                    raise ConfigError(f"{key} is {getattr(self, key)}, which {self.pruner} does not read: leave it out")
        elif self.least_epochs >= max(self.epochs, 2):
            raise ConfigError(
                f"least_epochs is {self.least_epochs}, must be below epochs ({self.epochs}): nothing would be pruned"
            )


# Functions and not methods: jsonargparse makes a subcommand of every public member of a class.


def space_of(config: SearchConfig) -> DartsSpace:
    """Return the searched space."""
    assert config.encoding is not None
    return DartsSpace(nodes=config.nodes, encoding=config.encoding)


def identity(config: SearchConfig, data_digest: str, device: str, controller: str = "") -> dict[str, Any]:
    """Return what a study's scores and proposals depend on; a study goes on only under an equal identity.

    Args:
        config: The settings.
        data_digest: Of the manifest.
        device: Its type.
        controller: Identity of nao's controller; not read for other samplers.
    """
    left_out = {*_FREE, *unread(config, config.sampler), *(() if config.sampler == "evolution" else _EVOLUTION)}
    left_out |= set(() if config.pruner in _HALVING else _RUNGS)
    left_out |= set(_SCORE if config.score == PAPER["score"] else ())  # studies made before there were others go on
    kept = {key: value for key, value in asdict(config).items() if key not in left_out}
    nao = {"controller": controller} if config.sampler == CONTROLLED else {}
    return {**kept, **nao, "device": device, "data_digest": data_digest}


def study_name(config: SearchConfig, recipe: str, data_digest: str) -> str:
    """Return the configured study name, or the default one."""
    score = "" if config.score == PAPER["score"] else f"-{config.score}"
    return config.study or f"{recipe}-{data_digest[:8]}-n{config.nodes}-{config.sampler}{score}-s{config.seed}"


def deviations(config: SearchConfig, dataset: str) -> dict[str, dict[str, Any]]:
    """Return every setting that differs from the paper's search, as {key: {"paper": ..., "here": ...}}."""
    paper = {**PAPER, **PAPER_BY_DATASET.get(dataset, {})}
    return {
        key: {"paper": value, "here": getattr(config, key)}
        for key, value in paper.items()
        if getattr(config, key) != value
    }
