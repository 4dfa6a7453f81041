"""The settings of `controller-report`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dermonas.data.benchmarks.nasbench201 import DATASETS
from dermonas.errors import ConfigError
from pipelines.controller_pretrain_config import DomainName

ALL = "all"
"""The newest finished pretraining of each metric, and the newest finished search of each arm."""

_LEAST = {"window": 1, "pairs": 2, "performance_pairs": 2, "random_pairs": 2, "seed": 0}


@dataclass(frozen=True)
class ControllerReportConfig:
    """Which runs of the controller to report, and how.

    Attributes:
        domain: Whose runs: "nasbench101", "nasbench201", "darts4" or "darts5".
        runs: Run ids of controller-pretrain and controller-search, or "all".
        table: nasbench201_tss.csv.gz; for nasbench101 nasbench_only108.tfrecord or the folder of the published subset.
            Null leaves out what needs one: Fig 1b, regrets and rankings.
        dataset: Of NAS-Bench-201: "cifar10", "cifar100" or "imagenet16" (ImageNet16-120). Searches of another one do
            not count.
        queries: After how many the arms are compared.
        references: Arms that the others are compared with, seed by seed.
        window: Queries of Fig 4's moving average.
        pairs: Pairs a distance whose embeddings are compared.
        performance_pairs: Pairs a distance whose accuracies are compared.
        random_pairs: Pairs of the histogram of distances.
        seed: Of pairs, resamples and layouts.
        out: Folder that gets the files too, besides the run.
    """

    domain: DomainName = "nasbench201"
    runs: list[str] = field(default_factory=lambda: [ALL])
    table: Path | None = None
    dataset: str = "cifar10"
    queries: list[int] = field(default_factory=lambda: [50, 100])
    references: list[str] = field(default_factory=lambda: ["evolution", "nao-NoMetricLoss"])
    window: int = 128
    pairs: int = 200
    performance_pairs: int = 1000
    random_pairs: int = 10_000
    seed: int = 0
    out: Path | None = None

    def __post_init__(self) -> None:
        for key, least in _LEAST.items():
            if getattr(self, key) < least:
                raise ConfigError(f"{key}: {getattr(self, key)} is not possible; give {least} or more")
        if not self.queries or min(self.queries) < 1:
            raise ConfigError(f"queries: {self.queries} is not possible; give numbers of 1 or more")
        if not self.runs or (ALL in self.runs and len(self.runs) > 1):
            raise ConfigError(f"runs: {self.runs} is not possible; give run ids, or all")
        twice = [name for place, name in enumerate(self.runs) if name in self.runs[:place]]
        if twice:
            raise ConfigError(f"runs: {twice[0]} stands there twice; give each run once")
        if self.dataset not in DATASETS:
            raise ConfigError(f"dataset: {self.dataset!r} is not possible; give one of {', '.join(DATASETS)}")
        if self.domain != "nasbench201" and self.dataset != "cifar10":
            raise ConfigError(f"dataset: {self.dataset!r} is not possible with {self.domain}; leave it")
        if self.domain.startswith("darts") and self.table is not None:
            raise ConfigError(f"table: {self.table} is not possible with {self.domain}, which has none; leave it out")
