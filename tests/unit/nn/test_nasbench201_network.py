"""NAS-Bench-201's networks: published sizes, and what edges do."""

from __future__ import annotations

import pytest
import torch

from dermonas.errors import ConfigError, GenotypeError
from dermonas.nn.measure import count_multiply_adds, count_parameters
from dermonas.nn.nasbench201 import NasBench201Network
from dermonas.space.nasbench201 import OPERATIONS, theta_of

NONE, SKIP, ONE, THREE, POOL = range(len(OPERATIONS))


# Source: NAS-Bench-201's own range of sizes on CIFAR-10, 0.073306 to 1.531546 million parameters, and of cost, 7.78 to
# 220.12 million multiply-adds.
@pytest.mark.parametrize(("choice", "parameters", "mega"), [(SKIP, 73_306, 7.78), (THREE, 1_531_546, 220.12)])
def test_published_sizes(choice, parameters, mega):
    network = NasBench201Network((choice,) * 6, channels=16, layers=17, classes=10)
    assert count_parameters(network)[0] == parameters
    assert count_multiply_adds(network, 32) / 1e6 == pytest.approx(mega, abs=0.02)


def features(theta, seed=0):
    network = NasBench201Network(theta, channels=4, layers=5, seed=seed).train()
    return network(torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)))


def test_each_edge_that_reaches_the_output_changes_it():
    base = theta_of("|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|")
    plain = features(base)
    for place in range(6):
        other = list(base)
        other[place] = NONE if base[place] != NONE else SKIP
        assert not torch.allclose(features(tuple(other)), plain), place


def test_a_cell_without_a_path_passes_nothing_on():
    left = features((NONE,) * 6)
    assert torch.isfinite(left).all()
    assert torch.equal(left[0], left[1])  # only the residual blocks' batch norm speaks, alike for all images


def test_equal_cells_of_one_class_compute_the_same():
    """Node 1 that nobody reads may hold any operation."""
    unread = [theta_of(f"|{op}~0|+|skip_connect~0|none~1|+|nor_conv_3x3~0|none~1|skip_connect~2|") for op in OPERATIONS]
    first = features(unread[0])
    assert all(torch.equal(features(theta), first) for theta in unread[1:])


@pytest.mark.parametrize("layers", [2, 4, 6, 9])
def test_impossible_depths_are_refused(layers):
    with pytest.raises(ConfigError, match=r"5, 8, 11"):
        NasBench201Network((SKIP,) * 6, channels=4, layers=layers)


def test_an_impossible_cell_is_refused():
    with pytest.raises(GenotypeError):
        NasBench201Network((9,) * 6, channels=4, layers=5)
