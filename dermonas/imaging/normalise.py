"""Channel means and deviations, and the step from uint8 pixels to network input."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Channels = tuple[float, float, float]

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
"""RGB mean on 0..1. Source: torchvision's ImageNet reference training."""
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
"""RGB standard deviation on 0..1. Source: torchvision's ImageNet reference training."""

ISIC_MEAN: Channels = (0.763, 0.545, 0.570)
"""RGB mean on 0..1. Source: the CSNAS authors' ISIC code (spec/csnas.md)."""
ISIC_STD: Channels = (0.141, 0.152, 0.169)
"""RGB standard deviation on 0..1. Source: the CSNAS authors' ISIC code (spec/csnas.md)."""

CIFAR_MEAN: Channels = (0.49139968, 0.48215827, 0.44653124)
"""RGB mean on 0..1 of the CIFAR-10 training set. Source: DARTS, utils.py."""
CIFAR_STD: Channels = (0.24703233, 0.24348505, 0.26158768)
"""RGB standard deviation on 0..1 of the CIFAR-10 training set. Source: DARTS, utils.py."""


def normalise(pixels: torch.Tensor, mean: Channels, std: Channels) -> torch.Tensor:
    """Turn uint8 pixels into network input: (x / 255 - mean) / std by channel.

    Args:
        pixels: uint8 (..., 3, height, width), channels before height and width.
        mean: By channel, on 0..1.
        std: By channel, on 0..1, positive.

    Returns:
        float32 tensor of the same shape, on the same device.
    """
    import torch

    shape = (3, 1, 1)
    centre = torch.tensor(mean, device=pixels.device).view(shape)
    spread = torch.tensor(std, device=pixels.device).view(shape)
    return (pixels.float() / 255.0 - centre) / spread
