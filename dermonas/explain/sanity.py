"""Does a map depend on what the model learned? One that survives random weights shows the image, not the model.

Source: Adebayo et al. 2018, Sanity Checks for Saliency Maps, 3 (independent randomisation). They draw new
weights; here each tensor's values are shuffled, which keeps its scale, so that a trained network's batch
statistics still fit and its maps do not end in infinities.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from torch import nn

from dermonas.seeding import torch_generator


@contextlib.contextmanager
def shuffled_weights(model: nn.Module, seed: int) -> Iterator[None]:
    """Shuffle the values of every parameter by (seed, its name) within the block; restore them bit for bit.

    Buffers (batch statistics) stay. A parameter whose values are all equal cannot change.
    """
    kept = [(name, parameter, parameter.detach().clone()) for name, parameter in model.named_parameters()]
    try:
        with torch.no_grad():
            for name, parameter, value in kept:
                order = torch.randperm(value.numel(), generator=torch_generator(seed, "sanity", name))
                parameter.copy_(value.flatten()[order.to(value.device)].view_as(value))
        yield
    finally:
        with torch.no_grad():
            for _, parameter, value in kept:
                parameter.copy_(value)


def similarity(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Return Spearman's rank correlation of two sets of maps over pixels, image by image.

    Args:
        first: (images, height, width).
        second: Same shape.

    Returns:
        float64 (images,), in [-1, 1]; NaN where a map is constant. Near 1 between a trained and a shuffled
        model: the map does not depend on the weights.

    Raises:
        ValueError: Shapes that do not fit each other.
    """
    one, two = np.asarray(first), np.asarray(second)
    if one.ndim != 3 or one.shape != two.shape:
        raise ValueError(f"maps {one.shape} and {two.shape} must both be (images, height, width)")
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (one, two)]
    a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return np.asarray((a * b).sum(axis=1) / np.where(scale > 0, scale, np.nan), dtype=np.float64)
