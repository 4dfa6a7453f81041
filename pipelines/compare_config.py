"""The settings of `compare`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dermonas.errors import ConfigError

ALL = "all"
"""Every evaluated model of the data: of one name and label fraction the newest."""


@dataclass(frozen=True)
class CompareConfig:
    """Which evaluated models to compare, and how to show it.

    Attributes:
        runs: Run ids of train or benchmark, in the order of the table, or "all".
        data: Prepared folder; null is what the first run says, for "all" the recipe's.
        layout: "isic" (the paper's Table IV), "cifar10" (Table I), "imagenet" (Table II), or "auto" by data set.
        reference: Name of the model that all others are tested against; null tests each network of cells against
            every baseline.
        explain: Run id of an explain run whose grid the report shows, "latest", or "none".
        melanoma: Class whose F1 is shown, where there is one of this name.
        resamples: Bootstrap resamples of the lesions, at least.
        seed: Of the resamples.
    """

    runs: list[str] = field(default_factory=lambda: [ALL])
    data: Path | None = None
    layout: Literal["auto", "isic", "cifar10", "imagenet"] = "auto"
    reference: str | None = None
    explain: str = "latest"
    melanoma: str = "MEL"
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        for key, least in (("resamples", 1), ("seed", 0)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key} is {getattr(self, key)}, must be at least {least}")
        if not self.runs or (ALL in self.runs and len(self.runs) > 1):
            raise ConfigError("runs must be run ids of train or benchmark, or all")
