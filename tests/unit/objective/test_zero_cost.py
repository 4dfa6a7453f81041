"""Scores of untrained networks against slow references and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from dermonas.events import Silent
from dermonas.objective.candidate import trunk_of
from dermonas.objective.contrastive import ContrastiveSettings
from dermonas.objective.score import NotFinite
from dermonas.objective.scores import UNTRAINED
from dermonas.objective.untrained import UntrainedObjective, objective_of
from dermonas.objective.zero_cost import naswot, synflow
from dermonas.space import zoo


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2), nn.BatchNorm2d(5), nn.ReLU()
    )


def slow_naswot(codes: list[np.ndarray]) -> tuple[float, float]:
    """Count agreeing units pair by pair."""
    n = len(codes[0])
    kernel, shares = np.zeros((n, n)), np.zeros((n, n))
    for code in codes:
        flat = code.reshape(n, -1)
        for i in range(n):
            for j in range(n):
                agree = sum(a == b for a, b in zip(flat[i], flat[j], strict=True))
                kernel[i, j] += agree
                shares[i, j] += agree / flat.shape[1]
    return np.linalg.slogdet(kernel)[1], np.linalg.slogdet(shares / len(codes))[1]


def test_naswot_equals_counting_and_leaves_the_network_alone():
    net = small_net().eval()
    images = torch.randn(5, 3, 9, 9, generator=torch.Generator().manual_seed(3))
    seen: list[np.ndarray] = []
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out: seen.append((out > 0).numpy()))
        for layer in net
        if isinstance(layer, nn.ReLU)
    ]
    before = {key: value.clone() for key, value in net.state_dict().items()}
    found = naswot(net, images)
    for hook in hooks:
        hook.remove()
    assert found == pytest.approx(slow_naswot(seen), rel=1e-6)
    assert not net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_naswot_of_equal_images_is_minus_infinity():
    image = torch.randn(1, 3, 9, 9)
    assert naswot(small_net(), image.repeat(4, 1, 1, 1))[0] == -math.inf


def test_synflow_of_a_chain_is_its_closed_form():
    """Of a product of positive layers each layer's flow is the output itself."""
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 4, 1, bias=False), nn.ReLU())
    with torch.no_grad():
        net[0].weight.normal_()
        net[2].weight.normal_()
    first, second = (net[k].weight.detach().double().abs()[..., 0, 0] for k in (0, 2))
    output = (second @ first @ torch.ones(3, dtype=torch.float64)).sum() * 4 * 4
    assert synflow(net, 4) == pytest.approx(math.log(2 * output), rel=1e-9)


def test_synflow_gives_the_network_back():
    trunk = trunk_of(zoo.load("DARTS_V2"), 4, 3, 0).train()
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    value = synflow(trunk, 8)
    assert math.isfinite(value)
    assert trunk.training
    assert all(torch.equal(kept, before[key]) for key, kept in trunk.state_dict().items())
    assert next(trunk.parameters()).dtype == torch.float32


def settings(score: str) -> ContrastiveSettings:
    return ContrastiveSettings(epochs=1, channels=4, layers=3, resolution=8, batch_size=6, width=6, score=score)


NAMES = ("DermoCSNAS_4", "DermoCSNAS_5", "DARTS_V2", "PDARTS")
PICTURES = np.random.default_rng(0).integers(0, 256, (12, 10, 10, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", UNTRAINED)
def test_an_untrained_search_score_is_repeatable_and_tells_networks_apart(name):
    objective = objective_of(PICTURES, settings(name), torch.device("cpu"))
    assert isinstance(objective, UntrainedObjective)
    one, two = (zoo.load(each) for each in ("DermoCSNAS_5", "DARTS_V2"))
    first, second, third = (objective.score(each, Silent()) for each in (one, two, one))
    assert first.value == third.value == first.epochs[-1]
    assert first.value != second.value


def test_parameters_prefers_the_larger_network():
    objective = UntrainedObjective(PICTURES, settings("parameters"), torch.device("cpu"))
    found = sorted((objective.score(zoo.load(name), Silent()) for name in NAMES), key=lambda one: one.value)
    sizes = [one.parameters - one.dead_parameters for one in found]
    assert sizes == sorted(sizes, reverse=True)


def test_images_that_cannot_be_told_apart_fail_the_candidate():
    same = np.repeat(PICTURES[:1], 12, axis=0)
    same = np.ascontiguousarray(np.broadcast_to(same.mean(axis=(1, 2), keepdims=True), same.shape)).astype(np.uint8)
    objective = UntrainedObjective(same, settings("naswot"), torch.device("cpu"))
    with pytest.raises(NotFinite, match="naswot"):
        objective.score(zoo.load("DARTS_V2"), Silent())
