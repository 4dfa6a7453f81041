"""Initialisation keyed by module path: common random numbers without global state."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import reference_network as reference
import torch
from torch import nn

from dermonas.nn.initialise import initialise
from dermonas.nn.network import Network
from dermonas.space import zoo


def build(name: str, seed: int = 0, channels: int = 4) -> Network:
    return Network(zoo.load(name), stem="cifar", channels=channels, layers=4, classes=3, seed=seed)


def test_shared_modules_start_equal_whatever_else_the_candidates_hold() -> None:
    genotypes = [*reference.random_genotypes(1, seed=2), zoo.load("DARTS_V2"), zoo.load("DermoCSNAS_5")]
    states = [Network(g, stem="cifar", channels=4, layers=4, seed=0).state_dict() for g in genotypes]
    shared = 0
    for i, first in enumerate(states):
        for second in states[:i]:
            common = first.keys() & second.keys()
            assert any(key.startswith("stem") for key in common)
            assert all(torch.equal(first[key], second[key]) for key in common)
            shared += sum(".nodes." in key for key in common)
    assert shared > 50


def test_repeats_and_depends_on_seed_and_path() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = build("DermoCSNAS_5").state_dict()
        torch.manual_seed(2)
        again = build("DermoCSNAS_5").state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    other = build("DermoCSNAS_5", seed=1).state_dict()
    weights = [key for key, value in first.items() if value.ndim == 4 and value.numel() > 4]
    assert all(not torch.equal(first[key], other[key]) for key in weights)
    kernels = [first[key].flatten()[:4].tolist() for key in weights]
    assert len({tuple(kernel) for kernel in kernels}) == len(kernels)


def test_no_global_generator_moves_or_matters() -> None:
    network = build("DermoCSNAS_5")
    expected = network.state_dict()["cells.0.preprocess0.1.weight"].clone()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    initialise(network, 0)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # noqa: NPY002
    assert torch.equal(network.state_dict()["cells.0.preprocess0.1.weight"], expected)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(32, 64, 1, bias=False),
        nn.Conv2d(64, 64, 5, groups=64, bias=False),
        nn.Conv2d(16, 16, (1, 7), bias=False),
        nn.Linear(200, 40),
    ],
    ids=["pointwise", "depthwise", "1x7", "linear"],
)
def test_distributions_are_torchs_defaults(layer: nn.Conv2d | nn.Linear) -> None:
    """Kaiming uniform with a = sqrt 5 is uniform in +- 1 / sqrt(fan in), for weight and bias alike."""
    bound = 1 / math.sqrt(layer.weight[0].numel())
    drawn = {}
    for name, draw in (("ours", lambda: initialise(nn.Sequential(layer), 0)), ("torch", layer.reset_parameters)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            draw()
        drawn[name] = layer.weight.detach().clone()
    for weight in drawn.values():
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.97 * bound
        assert abs(float(weight.mean())) < 0.1 * bound
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    if layer.bias is not None:
        initialise(nn.Sequential(layer), 0)
        assert 0.8 * bound < layer.bias.detach().abs().max() <= bound


def test_batch_norm_starts_at_one_and_zero() -> None:
    network = build("DermoCSNAS_5")
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.fill_(3)
            norm.bias.fill_(3)
            norm.running_mean.fill_(3)
            norm.running_var.fill_(3)
    initialise(network, 0)
    assert norms
    for norm in norms:
        for value, expected in ((norm.weight, 1), (norm.bias, 0), (norm.running_mean, 0), (norm.running_var, 1)):
            assert torch.equal(value.detach(), torch.full_like(value, expected))
