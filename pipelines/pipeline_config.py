"""The settings of `pipeline`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dermonas.errors import ConfigError

STEPS = ("prepare", "search", "train", "benchmark", "evaluate", "explain", "compare", "register")
"""The road, in order."""


@dataclass(frozen=True)
class PipelineConfig:
    """What to take along the road; each step has its own section of the recipe, or `--train.epochs 5` and the like.

    Attributes:
        genotypes: Published genotypes (zoo names or files) to train beside the one that search finds.
        scratch: Train the baselines from random weights too, beside the pretrained ones.
        register: Which model goes to the registry: "best" on validation of all that were trained, the "found" network,
            or "none".
    """

    genotypes: list[str] = field(default_factory=list)
    scratch: bool = False
    register: Literal["best", "found", "none"] = "best"

    def __post_init__(self) -> None:
        if len(set(self.genotypes)) < len(self.genotypes):
            raise ConfigError("genotypes names one twice; each is trained once")
