"""The settings of one training run, and a recipe: such settings with the size of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from dermonas.data.augmentation import AugmentSettings
from dermonas.data.samples import Balance
from dermonas.errors import ConfigError
from dermonas.nn.network import Stem

Schedule = Literal["cosine", "exponential"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Select = Literal["balanced_accuracy", "accuracy", "loss"]
_CHOICES = {"schedule": Schedule, "balance": Balance, "precision": Precision, "select": Select}


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained; the optimizer is SGD with momentum, as in every recipe of the papers.

    Attributes:
        epochs: Passes over the train samples.
        batch_size: Images a step, over all devices together.
        learning_rate: At the start, after the warm-up.
        momentum: SGD's, in [0, 1).
        weight_decay: SGD's L2 term, on every parameter as in the papers' code.
        schedule: "cosine" to 0, or "exponential": times `decay` every `period` epochs.
        decay: Factor in (0, 1] of the exponential schedule.
        period: Epochs between two decays, by floor(epoch / period); need not be whole.
        warmup: Epochs of linear warm-up before the schedule; 0 for none.
        clip_norm: Largest gradient norm; 0 for no clipping.
        drop_path: p at the end, in [0, 1); epoch e trains with p * e / epochs.
        auxiliary: Weight of the auxiliary head's loss; 0 for none.
        label_smoothing: In [0, 1).
        mixup: alpha of the Beta distribution; 0 for none.
        cutmix: alpha; 0 for none. With both, each step takes one of them at even odds.
        ema_decay: Decay in [0, 1) a step of the averaged weights that are then validated and kept; 0 for none.
        balance: What is done about unequal classes: "none", "sampler" or "loss".
        precision: "auto" is bfloat16 autocast on CUDA, float32 on CPU; float16 scales the loss.
        select: Which validation figure chooses the best epoch; the earliest of equals.
        patience: Stop after this many epochs without a better one; 0 for never.
        seed: Keys everything random.
        augment: What happens to a training image.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 3e-5
    schedule: Schedule = "cosine"
    decay: float = 1.0
    period: float = 1.0
    warmup: int = 0
    clip_norm: float = 5.0
    drop_path: float = 0.0
    auxiliary: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema_decay: float = 0.0
    balance: Balance = "none"
    precision: Precision = "auto"
    select: Select = "balanced_accuracy"
    patience: int = 0
    seed: int = 0
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        for key, kind in _CHOICES.items():
            if getattr(self, key) not in get_args(kind):
                raise ConfigError(f"{key} {getattr(self, key)!r} is unknown; use one of {', '.join(get_args(kind))}")
        for key, least in (("epochs", 1), ("batch_size", 2), ("warmup", 0), ("patience", 0)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key} {getattr(self, key)} must be at least {least}")
        if self.warmup >= self.epochs:
            raise ConfigError(f"warmup {self.warmup} must be less than epochs {self.epochs}")
        for key in ("learning_rate", "period"):
            if not 0 < getattr(self, key) < math.inf:
                raise ConfigError(f"{key} {getattr(self, key)} must be finite and greater than 0")
        for key in ("weight_decay", "clip_norm", "auxiliary", "mixup", "cutmix"):
            if not 0 <= getattr(self, key) < math.inf:
                raise ConfigError(f"{key} {getattr(self, key)} must be finite and at least 0")
        for key in ("momentum", "drop_path", "label_smoothing", "ema_decay"):
            if not 0 <= getattr(self, key) < 1:
                raise ConfigError(f"{key} {getattr(self, key)} must lie in [0, 1)")
        if not 0 < self.decay <= 1:
            raise ConfigError(f"decay {self.decay} must lie in (0, 1]")
        if self.schedule == "cosine" and (self.decay, self.period) != (1.0, 1.0):
            raise ConfigError(
                f"decay {self.decay} and period {self.period} do nothing with schedule cosine; leave them out"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as nested plain values, as they would come from JSON."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Recipe:
    """A network's size and how it is trained.

    Attributes:
        stem: Kind of stem.
        layers: Cells.
        channels: C.
        runs: How many seeds the table behind it averages.
        settings: The training settings.
        sources: What the paper does not state, or where we deviate: key -> where the value comes from and why.
    """

    stem: Stem
    layers: int
    channels: int
    runs: int
    settings: TrainSettings
    sources: Mapping[str, str] = field(default_factory=dict)
