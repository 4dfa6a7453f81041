"""The settings of `predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dermonas.errors import ConfigError

SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class PredictConfig:
    """Which registered model answers about which images, and where the answers go.

    Attributes:
        model: models:/NAME@ALIAS or models:/NAME/VERSION; "" is the champion of the recipe's data set.
        images: A folder of images, a folder that prepare wrote, or a CSV file with a column `path` of names beside it.
        split: Of a folder that prepare wrote: train, validation, test or "all".
        out: File to write, .csv or .parquet.
        part: Images that are answered before they are put on disk; what a killed run loses at most.
        tta: Whether to average over flips.
        pixels: Width x height of an image; larger ones are listed as bad.
        threads: Threads that decode, twice those that torch computes with; 0 takes as many as there are cores.
    """

    model: str = ""
    images: Path = Path("images")
    split: str = "all"
    out: Path = Path("predictions.csv")
    part: int = 512
    tta: bool = False
    pixels: int = 50_000_000
    threads: int = 0

    def __post_init__(self) -> None:
        if self.out.suffix.lower() not in SUFFIXES:
            raise ConfigError(f"out {self.out} must end in {' or '.join(SUFFIXES)}")
        if self.split not in ("train", "validation", "test", "all"):
            raise ConfigError(f"split {self.split!r} must be train, validation, test or all")
        for key in ("part", "pixels"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key} {getattr(self, key)} must be at least 1")
        if self.threads < 0:
            raise ConfigError(f"threads {self.threads} must be at least 0")
