"""The settings of `register`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dermonas.errors import ConfigError
from dermonas.training.config import LATEST


@dataclass(frozen=True)
class RegisterConfig:
    """Which trained model to register, and when it answers.

    Attributes:
        run: Run id of an evaluated training; "latest" is the newest one of the data set.
        data: Folder that prepare wrote; None is the one that the run was trained on. Giving another one judges the
            model on that one's validation images, of which it may have seen some in training.
        name: Registered model; "" is dermonas-<dataset>.
        coverage: Share of validation images that the model answers, in (0, 1]; it abstains where its largest
            probability is below that of the others.
        abstain_below: That probability itself, in [0, 1], instead of `coverage`.
        familiar: Share of validation images that are near enough to the training images to be answered, in (0, 1]; the
            model abstains from what is farther away than they are. None leaves this rule out.
        familiar_images: Training images by which nearness is learned, drawn by `seed`.
        force: Make it champion whatever the comparison says; needs a reason.
        reason: Why, in words.
        replicates: Resamples of the comparison with the champion.
        seed: Of these resamples and of that draw.
    """

    run: str = LATEST
    data: Path | None = None
    name: str = ""
    coverage: float = 0.95
    abstain_below: float | None = None
    familiar: float | None = 0.97
    familiar_images: int = 2000
    force: bool = False
    reason: str = ""
    replicates: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.coverage <= 1:
            raise ConfigError(f"coverage {self.coverage} must lie in (0, 1]")
        if self.abstain_below is not None and not 0 <= self.abstain_below <= 1:
            raise ConfigError(f"abstain_below {self.abstain_below} must lie in [0, 1]")
        if self.familiar is not None and not 0 < self.familiar <= 1:
            raise ConfigError(f"familiar {self.familiar} must lie in (0, 1], or be null")
        if self.familiar_images < 1:
            raise ConfigError(f"familiar_images {self.familiar_images} must be at least 1")
        if self.force and not self.reason.strip():
            raise ConfigError("force is true without a reason: say why with --reason")
        if self.reason and not self.force:
            raise ConfigError(f"reason {self.reason!r} is given without --force true, and would do nothing")
        if self.replicates < 1:
            raise ConfigError(f"replicates {self.replicates} must be at least 1")
