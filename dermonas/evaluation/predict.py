"""Logits of a trained network for images, with or without test-time augmentation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from dermonas.data.augmentation import AugmentSettings, Evaluate
from dermonas.data.shards import Images
from dermonas.errors import ConfigError, DataError
from dermonas.events import Observer, Silent
from dermonas.metrics.inputs import Floats

_HEIGHT, _WIDTH = 2, 3  # dimensions of a batch (B, 3, H, W)


def flips(view: AugmentSettings) -> tuple[tuple[int, ...], ...]:
    """Return the flips of test-time augmentation: those that training drew, as dimensions of a batch (B, 3, H, W).

    Flips that training never showed would ask the network about images unlike any it knows (digits upside down),
    so a model trained with left-right flips has 2 views, one trained with both flips 4.

    Returns:
        The plain view first, as ().

    Raises:
        ConfigError: training drew no flip, so that test-time augmentation would do nothing.
    """
    found: list[tuple[int, ...]] = [()]
    if view.horizontal_flip > 0:
        found.append((_WIDTH,))
    if view.vertical_flip > 0:
        found += [(_HEIGHT, *dims) for dims in found]
    if len(found) == 1:
        raise ConfigError("tta averages over the flips that training drew, and this model saw none: leave tta out")
    return tuple(found)


def predict(
    model: nn.Module,
    images: Images,
    view: AugmentSettings,
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    tta: bool = False,
    observer: Observer | None = None,
) -> Floats:
    """Return a network's logits for images, in evaluation mode (no drop path, dropout, cutout or batch statistics).

    With `tta` they are the mean of the logits over `flips(view)`. A softmax of it is that of the mean of
    log-probabilities, whatever the temperature: the two differ by a constant in each row. So one temperature still
    calibrates it (fitted on logits made with `tta` too), which a mean of probabilities would not allow.

    Args:
        model: Gives logits (B, classes) for (B, 3, size, size) in evaluation mode. Its modes and its device are
            afterwards as before.
        images: uint8 (n, side, side, 3), such as `data.cache.decoded_cache`; read batch by batch.
        view: `Evaluate` of it makes the inputs.
        batch_size: Images a step, at least 1; changes results by rounding at most.
        device: Where to compute.
        tta: Average over flips.
        observer: Hears started("predict", n), after each batch epoch(0, batch, {"images": done}), and finished.

    Returns:
        float64 (n, classes), in the order of the images.

    Raises:
        ConfigError: batch_size < 1, the model gives no (B, classes), or see `flips`.
        DataError: No images, or logits that are not finite; names the first such row.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size {batch_size} must be at least 1")
    if not len(images):
        raise DataError("no image to predict: check the split sizes and run prepare again")
    watcher, transform = observer or Silent(), Evaluate(view)
    views = flips(view) if tta else ((),)
    watcher.started("predict", len(images), {"views": len(views)})
    parts = []
    with _evaluating(model, torch.device(device)), torch.inference_mode():
        for batch, start in enumerate(range(0, len(images), batch_size)):
            stop = min(start + batch_size, len(images))
            inputs = torch.stack([transform(images[row]) for row in range(start, stop)]).to(device)
            parts.append(_mean_logits(model, inputs, views).numpy())
            watcher.epoch(0, batch, {"images": float(stop)})
    logits: Floats = np.concatenate(parts)
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(wrong):
        raise DataError(f"row {wrong[0]}: the model's logits are not finite ({len(wrong)} such rows): train anew")
    watcher.finished("predict", {})
    return logits


def _mean_logits(model: nn.Module, inputs: Tensor, views: tuple[tuple[int, ...], ...]) -> Tensor:
    total: Tensor | None = None
    for dims in views:
        seen = inputs.flip(dims) if dims else inputs
        logits = model(seen.contiguous(memory_format=torch.channels_last))
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(inputs):
            raise ConfigError("the model gives no logits (images, classes): evaluate a classifier")
        logits = logits.cpu().double()
        total = logits if total is None else total + logits
    assert total is not None
    return total / len(views)


@contextlib.contextmanager
def _evaluating(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Put the model in evaluation mode on a device, then each module back in its mode and all back in place."""
    modes = [(module, module.training) for module in model.modules()]
    parameter = next(iter(model.parameters()), None)
    home = device if parameter is None else parameter.device
    try:
        model.eval().to(device)
        yield
    finally:
        model.to(home)
        for module, training in modes:
            module.training = training
