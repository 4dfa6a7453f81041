"""The operations an edge can carry, and the blocks that cells and stems share.

All convolutions are bias-free, every ReLU stands before its convolution and is out of place (in-place
ReLUs break Grad-CAM hooks), and batch norm is affine with torch's momentum and eps.

Source: DARTS (Liu et al. 2019) as used by CSNAS; spec/csnas.md 1.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dermonas.errors import GenotypeError
from dermonas.nn.depthwise import DepthwiseConv

Input = Float[Tensor, "batch channels_in height width"]
Output = Float[Tensor, "batch channels_out height_out width_out"]


class Block(nn.Sequential):
    """Layers in a row of which the first is a ReLU."""

    def forward(self, x: Input, rectified: bool = False) -> Output:
        """Map (B, Ci, H, W) to (B, Co, H', W'); `rectified` says that `x` went through the ReLU already."""
        for layer in list(self)[1:] if rectified else self:
            x = layer(x)
        return x


class ReLUConvBN(Block):
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
        # The stride is taken before: of a strided convolution's gradient most is zeros, written twice.
        self.even = nn.Conv2d(channels_in, half, 1, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out - half, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: Input, rectified: bool = False) -> Output:
        """Map (B, Ci, H, W) to (B, Co, H/2, W/2); `rectified` says that `x` went through the ReLU already."""
        x = x if rectified else self.relu(x)
        grows = self.training and torch.is_grad_enabled()
        even, odd = _Diagonal.apply(x) if grows else (x[:, :, ::2, ::2], x[:, :, 1::2, 1::2])
        return self.bn(torch.cat([self.even(even), self.odd(odd)], dim=1))


class _Diagonal(torch.autograd.Function):
    """Every second pixel of every second row, from the first and from the second on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.shape = x.shape
        memory = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        ctx.memory = memory
        even, odd = (x[:, :, start::2, start::2].contiguous(memory_format=memory) for start in (0, 1))
        return even, odd

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, even: Tensor, odd: Tensor) -> Tensor:
        gradient = torch.empty(ctx.shape, dtype=even.dtype, device=even.device, memory_format=ctx.memory).zero_()
        gradient[:, :, ::2, ::2] = even
        gradient[:, :, 1::2, 1::2] = odd
        return gradient


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


def separable(channels: int, kernel: int, stride: int) -> Block:
    """Two rounds of ReLU, depthwise, pointwise, batch norm; the first round carries the stride."""
    return Block(*_depthwise_pointwise(channels, kernel, stride), *_depthwise_pointwise(channels, kernel, 1))


def dilated(channels: int, kernel: int, stride: int) -> Block:
    """One round of ReLU, depthwise with dilation 2, pointwise, batch norm."""
    return Block(*_depthwise_pointwise(channels, kernel, stride, dilation=2))


def _conv_7x1_1x7(channels: int, stride: int) -> Block:
    return Block(
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
