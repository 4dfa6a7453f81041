"""The depthwise convolution's own backward pass is torch's, and is taken in training on the CPU only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dermonas.nn.depthwise import DepthwiseConv

CHANNELS_LAST = torch.channels_last
SIZES = ((1, 1), (2, 2), (3, 3), (3, 5), (4, 4), (7, 6), (8, 8))  # smaller than the kernel, odd, even


def images(height: int, width: int) -> Tensor:
    x = torch.randn(4, 8, height, width, generator=torch.Generator().manual_seed(height * 10 + width))
    return x.contiguous(memory_format=CHANNELS_LAST)


def own(y: Tensor) -> bool:
    assert y.grad_fn is not None
    return y.grad_fn.name().startswith("_Depthwise")


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 2), (2, 2), (2, 1)])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_values_and_gradients_are_those_of_torch_in_float64(kernel: int, stride: int, dilation: int) -> None:
    layer = DepthwiseConv(8, kernel, stride, dilation)
    reference = nn.Conv2d(8, 8, kernel, stride, dilation * (kernel // 2), dilation, groups=8, bias=False).double()
    reference.load_state_dict(layer.state_dict())
    for height, width in SIZES:
        x = images(height, width)
        ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
        y, expected = layer(ours), reference(theirs)
        assert own(y) == (stride in (1, dilation))
        direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        found = torch.autograd.grad(y, [ours, layer.weight], direction)
        wanted = torch.autograd.grad(expected, [theirs, reference.weight], direction.double())
        for one, other in zip((y, *found), (expected, *wanted), strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=5e-5)


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    layer, x = DepthwiseConv(8, 5, 1, 2), images(8, 8)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    layer.requires_grad_(False)
    frozen = x.clone().requires_grad_()
    layer(frozen).sum().backward()
    assert frozen.grad is not None


def test_elsewhere_it_is_torchs_convolution() -> None:
    layer, x = DepthwiseConv(8, 5, 1, 2), images(8, 8)
    assert own(layer(x))
    assert not own(layer(x.contiguous()))  # NCHW
    assert not own(layer.double()(x.double()))
    layer.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not own(layer(x))
    with torch.no_grad():
        assert layer(x).grad_fn is None
    assert not own(layer.eval()(x))


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    layer, x = DepthwiseConv(8, 3), images(4, 4).requires_grad_()
    (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
