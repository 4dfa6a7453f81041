"""The operations an edge can carry, and the blocks that cells and stems share.

All convolutions are bias-free, every ReLU stands before its convolution and is out of place (in-place
ReLUs break Grad-CAM hooks), and batch norm is affine with torch's momentum and eps.

Source: DARTS (Liu et al. 2019) as used by CSNAS; spec/csnas.md 1.1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dermonas.errors import GenotypeError
from dermonas.nn.depthwise import DepthwiseConv

Input = Float[Tensor, "batch channels_in height width"]
Output = Float[Tensor, "batch channels_out height_out width_out"]


class ReLUConvBN(nn.Sequential):
    """ReLU, 1x1 convolution, batch norm: the preprocessing of a cell's input."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(nn.ReLU(), nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out))


class FactorizedReduce(nn.Module):
    """Halve height and width without losing half of the pixels.

    ReLU, then two 1x1 stride-2 convolutions of half the channels each, the second on the input
    shifted by one pixel in both axes, concatenated, batch norm. Height and width must be even.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        half = channels_out // 2
        self.even = nn.Conv2d(channels_in, half, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out - half, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: Input) -> Output:
        """Map (B, Ci, H, W) to (B, Co, H/2, W/2)."""
        x = self.relu(x)
        return self.bn(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))


class Zero(nn.Module):
    """The operation 'none': zeros of the output's shape. No decoded genotype carries it."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Input) -> Output:
        """Map (B, C, H, W) to zeros of (B, C, H/stride, W/stride)."""
        return x[:, :, :: self.stride, :: self.stride] * 0.0


def _depthwise_pointwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    return [
        nn.ReLU(),
        DepthwiseConv(channels, kernel, stride, dilation),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]


def separable(channels: int, kernel: int, stride: int) -> nn.Sequential:
    """Two rounds of ReLU, depthwise, pointwise, batch norm; the first round carries the stride."""
    return nn.Sequential(*_depthwise_pointwise(channels, kernel, stride), *_depthwise_pointwise(channels, kernel, 1))


def dilated(channels: int, kernel: int, stride: int) -> nn.Sequential:
    """One round of ReLU, depthwise with dilation 2, pointwise, batch norm."""
    return nn.Sequential(*_depthwise_pointwise(channels, kernel, stride, dilation=2))


def _conv_7x1_1x7(channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
        nn.BatchNorm2d(channels),
    )


_BUILDERS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": lambda c, s: Zero(s),
    "max_pool_3x3": lambda c, s: nn.MaxPool2d(3, s, 1),
    "avg_pool_3x3": lambda c, s: nn.AvgPool2d(3, s, 1, count_include_pad=False),
    "skip_connect": lambda c, s: nn.Identity() if s == 1 else FactorizedReduce(c, c),
    "sep_conv_3x3": lambda c, s: separable(c, 3, s),
    "sep_conv_5x5": lambda c, s: separable(c, 5, s),
    "sep_conv_7x7": lambda c, s: separable(c, 7, s),
    "dil_conv_3x3": lambda c, s: dilated(c, 3, s),
    "dil_conv_5x5": lambda c, s: dilated(c, 5, s),
    "conv_7x1_1x7": _conv_7x1_1x7,
}


def build_operation(name: str, channels: int, stride: int) -> nn.Module:
    """Build one operation, `channels` to `channels`.

    Args:
        name: One of the eight primitives, or `sep_conv_7x7` / `conv_7x1_1x7` (NASNet, AmoebaNet).
        channels: Channels in and out.
        stride: 1, or 2 on the input edges of a reduction cell.

    Raises:
        GenotypeError: If the name is not an operation.
    """
    if name not in _BUILDERS:
        raise GenotypeError(f"operation {name!r} is not known; use one of {', '.join(_BUILDERS)}")
    return _BUILDERS[name](channels, stride)
