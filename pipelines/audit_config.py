"""The settings of `audit`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dermonas.audit.budgets import PAPER, Budget, check_budgets
from dermonas.errors import ConfigError
from dermonas.space.darts import DartsSpace
from dermonas.space.encoding import EncodingName

_LEAST = {"networks": 0, "splits": 1, "replicates": 100, "workers": 1, "threads": 0}


def _budgets() -> list[Budget]:
    """Return a small audit: the papers' score, the same at fifty times its learning rate, and untrained scores."""
    small = {"images": 300, "channels": 8, "layers": 5, "epochs": 4, "batch_size": 60}
    return [
        Budget("untrained", kind="untrained", epochs=1, channels=16, layers=8, batch_size=64),
        Budget(PAPER, **small),  # type: ignore[arg-type]
        Budget("fast", **small, learning_rate=0.05),  # type: ignore[arg-type]
    ]


@dataclass(frozen=True)
class AuditConfig:
    """Which networks to score, at which budgets.

    Attributes:
        data: Folder that prepare wrote; None is the recipe's own, prepared first when it is missing.
        known: Networks with known accuracy: a JSON list of genotypes (as darts214.json) or NAS-Bench-201's table. None
            draws `networks` genotypes of the searched space and trains each by the recipe's `train` section.
        known_dataset: Whose accuracies NAS-Bench-201's table is read for: cifar10, cifar100 or imagenet16.
        networks: How many, drawn by seed; 0 is all of `known`.
        budgets: What is compared; see `dermonas.audit.budgets.Budget`. One must be named "paper".
        nodes: Of drawn genotypes, 4 or 5.
        encoding: Of drawn genotypes.
        splits: Random halvings: a score is chosen on one half and judged on the other.
        replicates: Bootstrap resamples.
        seed: Of draws, weights, views, splits and resamples.
        device: "auto", "cpu" or "cuda".
        workers: Processes that score.
        threads: CPU threads of each; 0 is an equal share of the cores.
        out: Where scorings are kept until the audit is over, and after; the same command goes on there.
    """

    data: Path | None = None
    known: Path | None = None
    known_dataset: str = "cifar10"
    networks: int = 20
    budgets: list[Budget] = field(default_factory=_budgets)
    nodes: int = 5
    encoding: EncodingName = "pairs"
    splits: int = 20
    replicates: int = 2000
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = 1
    threads: int = 0
    out: Path = Path("outputs/audit")

    def __post_init__(self) -> None:
        for key, least in _LEAST.items():
            if getattr(self, key) < least:
                raise ConfigError(f"{key} is {getattr(self, key)}, must be at least {least}")
        if self.known is None and self.networks < 8:
            raise ConfigError(
                f"networks is {self.networks}, must be at least 8 to be drawn: half of them choose a score"
            )
        made = [Budget(**one) if isinstance(one, dict) else one for one in self.budgets]  # a parser hands dicts on
        object.__setattr__(self, "budgets", made)
        check_budgets(self.budgets)
        DartsSpace(nodes=self.nodes, encoding=self.encoding)
