"""What changes from epoch to epoch, in closed form: a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from dermonas.training.settings import TrainSettings


def learning_rate(settings: TrainSettings, epoch: int) -> float:
    """Return the learning rate of an epoch.

    Warm-up: lr (epoch + 1) / warmup. Then, with e epochs since the warm-up: cosine, lr (1 + cos(pi e / E)) / 2 over the
    E remaining epochs; or exponential, lr decay ** floor(e / period).

    Args:
        settings: The settings.
        epoch: In [0, epochs).

    Source: cosine and warm-up as DARTS and P-DARTS step them, once an epoch; floor(epoch / 3.5) from spec/csnas.md 5.
    """
    if epoch < settings.warmup:
        return settings.learning_rate * (epoch + 1) / settings.warmup
    since = epoch - settings.warmup
    if settings.schedule == "cosine":
        return settings.learning_rate * (1 + math.cos(math.pi * since / (settings.epochs - settings.warmup))) / 2
    return settings.learning_rate * settings.decay ** math.floor(since / settings.period)


def drop_path_probability(settings: TrainSettings, epoch: int) -> float:
    """Return p of an epoch in [0, epochs): drop_path * epoch / epochs. Source: spec/csnas.md 1.5."""
    return settings.drop_path * epoch / settings.epochs
