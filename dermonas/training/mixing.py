"""Mixup and CutMix: two images and their labels in one."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "batch 3 height width"]
Targets = Float[Tensor, "batch classes"]


def mix(
    images: Images, targets: Targets, generator: np.random.Generator, *, mixup: float, cutmix: float
) -> tuple[Images, Targets]:
    """Mix every image with another of its batch, by mixup or CutMix; with both on, at even odds.

    Args:
        images: (B, 3, H, W); left as they are.
        targets: (B, classes), each row sums to 1.
        generator: Keyed by the caller to (seed, epoch, step).
        mixup: alpha of lambda ~ Beta(alpha, alpha); 0 switches it off.
        cutmix: alpha; 0 switches it off.

    Returns:
        Mixed images and targets of the same shapes; rows of the targets still sum to 1.

    Source: Zhang et al. 2018 (mixup), Yun et al. 2019 (CutMix); one draw a batch and even odds as in timm's Mixup.
    """
    if not mixup and not cutmix:
        return images, targets
    by_patch = bool(generator.random() < 0.5) if mixup and cutmix else bool(cutmix)
    alpha = cutmix if by_patch else mixup
    share = float(generator.beta(alpha, alpha))
    partner = torch.from_numpy(generator.permutation(len(images))).to(images.device)
    if not by_patch:
        return images * share + images[partner] * (1 - share), targets * share + targets[partner] * (1 - share)
    height, width = images.shape[2:]
    top, bottom = _side(height, share, generator)
    left, right = _side(width, share, generator)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (height * width)  # what is left after the cut at the border
    return mixed, targets * share + targets[partner] * (1 - share)


def _side(length: int, share: float, generator: np.random.Generator) -> tuple[int, int]:
    """Return start and end of the patch on one axis: sqrt(1 - share) of it around a uniform centre, cut off."""
    half = int(length * math.sqrt(1 - share)) // 2
    centre = int(generator.integers(length))
    return max(0, centre - half), min(length, centre + half)
