"""The sanity check: shuffled weights, restored exactly, and maps that change with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from explained import Pooled, noise
from scipy.stats import spearmanr

from dermonas.explain.gradcam import gradcam
from dermonas.explain.sanity import shuffled_weights, similarity
from dermonas.nn.network import Network


def test_weights_are_shuffled_and_restored(network: Network) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with shuffled_weights(network, 0):
        changed = 0
        for name, parameter in network.named_parameters():
            changed += not torch.equal(parameter, before[name])
            assert torch.equal(parameter.detach().flatten().sort()[0], before[name].flatten().sort()[0])
        assert changed > 10
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(ZeroDivisionError), shuffled_weights(network, 0):
        raise ZeroDivisionError
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_seed_decides(pooled: Pooled) -> None:
    found = []
    for seed in (1, 1, 2):
        with shuffled_weights(pooled, seed):
            found.append(pooled.head.weight.detach().clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_maps_change_with_the_weights(pooled: Pooled) -> None:
    images = noise(6, 3, 16, 16)
    maps, classes = gradcam(pooled, images)
    with shuffled_weights(pooled, 0):
        others = gradcam(pooled, images, classes)[0]
    assert np.nanmean(similarity(maps, others)) < 0.7
    assert similarity(maps, gradcam(pooled, images, classes)[0]) == pytest.approx(np.ones(6))


def test_similarity_is_spearmans() -> None:
    first, second = noise(3, 5, 4), noise(3, 5, 4, seed=1).relu()  # with ties
    wanted = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    assert similarity(first, second) == pytest.approx(wanted)
    assert similarity(first, -first) == pytest.approx(-np.ones(3))
    assert np.isnan(similarity(first, torch.zeros(3, 5, 4))).all()
    with pytest.raises(ValueError, match="must both be"):
        similarity(first, second[:2])
