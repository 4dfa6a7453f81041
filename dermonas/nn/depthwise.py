"""Depthwise convolution whose backward pass is quick on the CPU.

oneDNN's gradients of a dilated depthwise convolution fall back to slow general kernels, and those of all depthwise
convolutions dominate a training step of a cell network. In channels-last memory the same gradients are written here in
terms of what it is quick at:

- to the input: the forward convolution of the output's gradient with the flipped kernel;
- to the kernel: a dilation d takes every d-th pixel, so each of the d x d phases of the map is an undilated
  convolution; they are stacked in the batch;
- a kernel that reaches over the map's edge from everywhere is cut to what meets pixels at all.

Equal to torch's own up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class DepthwiseConv(nn.Conv2d):
    """A bias-free depthwise convolution with an odd kernel, whose parameters are those of `nn.Conv2d`.

    In training on the CPU, in float32 and channels-last memory, it takes its own backward pass, which has no second
    derivative; everywhere else it is `nn.Conv2d`.

    Args:
        channels: In and out.
        kernel: Side in pixels, odd; half of its reach is padded, so that stride 1 keeps the size.
        stride: Of the output.
        dilation: Pixels between two taps.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch channels h_out w_out"]:
        """Map (B, C, H, W) to (B, C, ceil(H / stride), ceil(W / stride))."""
        stride, dilation = self.stride[0], self.dilation[0]
        ours = (
            self.training
            and torch.is_grad_enabled()
            and stride in (1, dilation)
            and x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and x.is_contiguous(memory_format=torch.channels_last)
        )
        if not ours:
            return super().forward(x)
        y: Tensor = _Depthwise.apply(x, self.weight, stride, dilation)
        return y


class _Depthwise(torch.autograd.Function):
    """Of x (B, C, H, W) with weight (C, 1, k, k), at stride 1 or at a stride that equals the dilation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.full = x.shape
        ctx.stride = stride
        if stride > 1:  # then the taps meet every stride-th pixel only: an undilated convolution of those
            x, dilation = x[:, :, ::stride, ::stride].contiguous(memory_format=torch.channels_last), 1
        ctx.dilation = dilation
        middle = weight.shape[2] // 2
        reach = min(middle, (max(x.shape[2:]) - 1) // dilation)
        ctx.cut = middle - reach
        kernel = weight.detach()[:, :, ctx.cut : middle + reach + 1, ctx.cut : middle + reach + 1].contiguous()
        ctx.save_for_backward(x, kernel)
        return _same(x, kernel, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, kernel = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = _same(gradient, kernel.flip(2, 3), ctx.dilation)
            if ctx.stride > 1:
                sparse = torch.zeros(ctx.full, dtype=x.dtype).to(memory_format=torch.channels_last)
                sparse[:, :, :: ctx.stride, :: ctx.stride] = to_x
                to_x = sparse
        if ctx.needs_input_grad[1]:
            channels, _, side, _ = kernel.shape
            to_weight = torch.ops.aten.convolution_backward(
                _phases(gradient, ctx.dilation),
                _phases(x, ctx.dilation),
                kernel,
                None,
                [1, 1],
                [side // 2, side // 2],
                [1, 1],
                False,
                [0, 0],
                channels,
                [False, True, False],
            )[1]
            to_weight = F.pad(to_weight, (ctx.cut,) * 4) if ctx.cut else to_weight
        return to_x, to_weight, None, None


def _same(x: Tensor, kernel: Tensor, dilation: int) -> Tensor:
    """Convolve at stride 1 without changing the size."""
    return F.conv2d(x, kernel, None, 1, dilation * (kernel.shape[2] // 2), dilation, x.shape[1])


def _phases(x: Tensor, dilation: int) -> Tensor:
    """Stack every `dilation`-th pixel, from each of the starts, in the batch; pad with 0 what is not a multiple."""
    if dilation == 1:
        return x
    right, below = -x.shape[3] % dilation, -x.shape[2] % dilation
    if right or below:  # padding by nothing would copy all the same
        x = F.pad(x, (0, right, 0, below))
    batch, channels, height, width = x.shape
    cut = x.permute(0, 2, 3, 1).reshape(batch, height // dilation, dilation, width // dilation, dilation, channels)
    stacked = cut.permute(2, 4, 0, 1, 3, 5).reshape(-1, height // dilation, width // dilation, channels)
    return stacked.permute(0, 3, 1, 2)
