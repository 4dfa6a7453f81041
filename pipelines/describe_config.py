"""The settings of `describe`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dermonas.errors import ConfigError
from dermonas.nn.network import check_resolution


@dataclass(frozen=True)
class DescribeConfig:
    """Which genotype to describe, in which network.

    Attributes:
        genotype: A zoo name, a genotype file, or the run id of a search.
        stem: "cifar" or "imagenet".
        layers: Cells.
        channels: C, channels of the first cell's nodes.
        classes: Classes of the classifier; 0 describes the trunk alone.
        resolution: Side of the input in pixels; 0 is 32 (cifar) or 224 (imagenet).
        latency: Whether to time one image on this machine's CPU.
        out: Folder for the drawings; None is outputs/<digest>.
    """

    genotype: str = "DermoCSNAS_5"
    stem: Literal["cifar", "imagenet"] = "imagenet"
    layers: int = 18
    channels: int = 48
    classes: int = 8
    resolution: int = 0
    latency: bool = True
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.resolution == 0:
            object.__setattr__(self, "resolution", 32 if self.stem == "cifar" else 224)
        check_resolution(self.resolution, self.stem)
        if self.classes < 0:
            raise ConfigError(f"classes is {self.classes}, must be at least 0 (0: no classifier)")
