"""The settings of `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dermonas.errors import ConfigError
from dermonas.training.config import LATEST


@dataclass(frozen=True)
class EvaluateConfig:
    """Which model to evaluate, on what.

    Attributes:
        run: Run id of train or benchmark (of several seeds: all of them), or "latest".
        dataset: Name of the data set in which "latest" is looked up; null is that of the prepared folder.
        data: Prepared folder that the model was trained on; null is what its run says.
        split: "test" or "validation". Only the first is counted as a read of test.
        external: Prepared folder of another test set, evaluated in place of `split`: its test rows, or all labelled
            rows where it has none.
        mapping: External class -> the model's classes that belong to it, such as {"AKIEC": ["AK", "SCC"]}; null where
            the external set has the same classes.
        tta: Average the logits over the flips that training drew.
        melanoma: Class with an F1 and a sensitivity of its own, where there is one of this name.
        resamples: Bootstrap resamples of the lesions.
        batch_size: Images a step.
        device: Where to compute.
        threads: CPU threads; 0 is torch's default.
        seed: Of resamples and folds.
    """

    run: str = LATEST
    dataset: str | None = None
    data: Path | None = None
    split: Literal["test", "validation"] = "test"
    external: Path | None = None
    mapping: dict[str, list[str]] | None = None
    tta: bool = False
    melanoma: str = "MEL"
    resamples: int = 2000
    batch_size: int = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for key, least in (("resamples", 1), ("batch_size", 1), ("threads", 0), ("seed", 0)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key} is {getattr(self, key)}, must be at least {least}")
        if self.mapping is not None and self.external is None:
            raise ConfigError("mapping is given, but no external test set: give --external FOLDER")
