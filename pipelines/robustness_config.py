"""The settings of `robustness`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dermonas.audit.arms import ARMS, SAMPLERS
from dermonas.errors import ConfigError
from dermonas.search.config import SearchConfig
from dermonas.training.config import TrainConfig
from pipelines.evaluate_config import EvaluateConfig

STEPS = ("search", "train", "evaluate")
"""Stages whose keys the study takes from the recipe, from its own section, and as `--search.trials 30`."""

_KINDS: dict[str, type[Any]] = {"search": SearchConfig, "train": TrainConfig, "evaluate": EvaluateConfig}

DECIDED = {
    "search": ("sampler", "seed", "study", "pruner", "reduction_factor", "least_epochs", "images", "workers",
               "controller"),
    "train": ("data", "genotype", "seed", "devices", "num_nodes"),
    "evaluate": ("run", "dataset", "data", "split", "external", "mapping"),
}  # fmt: skip
"""Keys that the study sets itself. No candidate is pruned and one process searches, or the samplers' costs would
differ; each training has one device."""
SETTLED: dict[str, dict[str, Any]] = {"search": {"pruner": "none"}, "train": {}, "evaluate": {}}
"""What these are set to where a key's default would not do."""


@dataclass(frozen=True)
class RobustnessConfig:
    """Which of Fig 3's arms to search, how often; how is said by the recipe's sections search, train and evaluate.

    Attributes:
        arms: Of SL-10, SL-100, CSSL-10, CSSL-100: supervised or contrastive, a tenth or all of the training images.
        samplers: Of random and tpe; each searches every arm at equal trials, images and epochs.
        seeds: Searches of each; a search's seed is its trainings' first, and also chooses its images.
        first_seed: The first of them; the others follow it.
        images: Training images that count as all, of each class its share; null is every labelled one.
        search: Keys of section search that this study changes, such as {trials: 30}; also --search.trials 30.
        train: Likewise of section train.
        evaluate: Likewise of section evaluate.
        out: Folder of the lock that keeps two processes from the same study.
    """

    arms: list[str] = field(default_factory=lambda: list(ARMS))
    samplers: list[str] = field(default_factory=lambda: list(SAMPLERS))
    seeds: int = 3
    first_seed: int = 0
    images: int | None = None
    search: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    out: Path = Path("outputs/robustness")

    def __post_init__(self) -> None:
        for key, least in (("seeds", 1), ("first_seed", 0), ("images", 20)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ConfigError(f"{key} is {value}, must be at least {least}")
        for key, allowed in (("arms", tuple(ARMS)), ("samplers", SAMPLERS)):
            names = getattr(self, key)
            if not names or len(set(names)) < len(names) or set(names) - set(allowed):
                raise ConfigError(f"{key} is {names}, must name some of {', '.join(allowed)}, each once")
        for step, kind in _KINDS.items():
            known = {item.name for item in dataclasses.fields(kind)}
            for name in getattr(self, step):
                if name not in known:
                    raise ConfigError(f"robustness.{step} has the unknown key {name!r}; see --help of {step}")
                if name in DECIDED[step]:
                    raise ConfigError(f"robustness.{step} has the key {name!r}, which the study sets: leave it out")
