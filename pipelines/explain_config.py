"""The settings of `explain`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dermonas.errors import ConfigError
from dermonas.explain.cam import ROI_THRESHOLD
from dermonas.training.config import LATEST


@dataclass(frozen=True)
class ExplainConfig:
    """Which models to explain, on which images.

    Attributes:
        runs: Run ids of train or benchmark, a column each (of several seeds the first), or "latest".
        dataset: Name of the data set in which "latest" is looked up; null is that of the prepared folder.
        data: Prepared folder that the models were trained on; null is what the first run says.
        images: Rows of the grid: validation images, as many of each class as can be, by seed. Test is not touched.
        threshold: Of the region of interest, in (0, 1]; the paper's is .7.
        method: "cam" (exact, from a linear head), "gradcam", or "auto": the first where the model has such a head and
            is one of cells, Grad-CAM for every baseline.
        device: Where to compute.
        threads: CPU threads; 0 is torch's default.
        seed: Draws the images and shuffles the weights of the sanity check.
    """

    runs: list[str] = field(default_factory=lambda: [LATEST])
    dataset: str | None = None
    data: Path | None = None
    images: int = 10
    threshold: float = ROI_THRESHOLD
    method: Literal["auto", "cam", "gradcam"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for key, least in (("images", 1), ("threads", 0), ("seed", 0)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key} is {getattr(self, key)}, must be at least {least}")
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold is {self.threshold}, must lie in (0, 1]")
        if not self.runs:
            raise ConfigError("runs is empty: give run ids of train or benchmark, or latest")
        if len(set(self.runs)) < len(self.runs):
            raise ConfigError("runs names a run twice; each is one column")
