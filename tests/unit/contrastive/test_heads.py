"""Projection heads g and l."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dermonas.contrastive.heads import ProjectionHeads


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_shapes(kind: str, views: int) -> None:
    heads = ProjectionHeads(10, 4, views, kind)  # type: ignore[arg-type]
    z = heads(torch.randn(5, 10))
    assert z.shape == (5, 4)
    assert heads.combine([z] * views).shape == (5, 4)


def test_linear_is_one_layer_with_bias_as_in_the_authors_code() -> None:
    heads = ProjectionHeads(256)
    layers = [(m.in_features, m.out_features, m.bias is not None) for m in heads.modules() if isinstance(m, nn.Linear)]
    assert layers == [(256, 128, True), (256, 128, True)]
    x = torch.randn(3, 256)
    torch.testing.assert_close(heads(x), x @ heads.image.weight.T + heads.image.bias)


def test_mlp_has_one_hidden_relu_layer() -> None:
    heads = ProjectionHeads(6, 4, 2, "mlp")
    for head, size in ((heads.image, 6), (heads.views, 8)):
        assert [type(m) for m in head] == [nn.Linear, nn.ReLU, nn.Linear]
        assert (head[0].in_features, head[2].out_features) == (size, 4)
    x = torch.randn(64, 6)
    assert not torch.allclose(heads(x) + heads(-x), 2 * heads(torch.zeros(1, 6)))


def test_views_are_told_apart_by_their_order() -> None:
    heads = ProjectionHeads(6, 4)
    a, b = heads(torch.randn(2, 6)), heads(torch.randn(2, 6))
    assert not torch.allclose(heads.combine([a, b]), heads.combine([b, a]))
    expected = torch.cat([a, b], dim=1) @ heads.views.weight.T + heads.views.bias
    torch.testing.assert_close(heads.combine([a, b]), expected)
