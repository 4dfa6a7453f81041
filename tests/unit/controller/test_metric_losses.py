"""The eight losses with their miners against loops, and against the library's own at its own pace."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from pytorch_metric_learning import losses as library
from pytorch_metric_learning import miners as library_miners
from torch import Tensor

from dermonas.controller.losses import METRICS, NO_METRIC, MetricLoss, recipe, rescaled_weight
from dermonas.errors import ConfigError

CLASSES, EACH = 4, 4


def batch(spread: float, seed: int) -> tuple[Tensor, Tensor]:
    """Unit vectors in clusters; a wider spread mixes them less with the others."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, 1, 6, generator=generator, dtype=torch.float64)
    points = 1 + spread * centres + 0.6 * spread * torch.randn(CLASSES, EACH, 6, generator=generator).double()
    return torch.nn.functional.normalize(points.flatten(0, 1), dim=1), torch.arange(CLASSES).repeat_interleave(EACH)


def distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).pow(2).sum().sqrt()


def mined(name: str, e: Tensor, y: list[int]) -> list[tuple[int, int, int]]:
    """The triplets by their definitions."""
    e, found = e.detach(), []
    for a, p, n in product(range(len(y)), repeat=3):
        if a == p or y[a] != y[p] or y[a] == y[n]:
            continue
        if name in ("AngularLoss", "MultiSimilarityLoss", "NPairsLoss"):
            angle = math.degrees(math.atan(distance(e[a], e[p]) / (2 * distance(e[n], (e[a] + e[p]) / 2))))
            keep = angle > 20
        else:
            gap = float(distance(e[a], e[n]) - distance(e[a], e[p]))
            keep = 0 < gap <= (0.2 if name == "MarginLoss" else 0.1)
        if keep:
            found.append((a, p, n))
    return found


def mean(values: list[Tensor], over: list[Tensor] | None = None) -> Tensor:
    return torch.stack(values).sum() / len(values if over is None else over) if values else torch.tensor(0.0)


def slow_loss(name: str, e: Tensor, labels: Tensor) -> Tensor:
    """Each loss from its formula, one triplet at a time."""
    y = labels.tolist()
    triplets = mined(name, e, y)
    assert triplets
    apart = {(i, j): distance(e[i], e[j]) for i, j in product(range(len(y)), repeat=2) if i != j}
    positives = [(a, p) for a, p, _ in triplets]
    negatives = [(a, n) for a, _, n in triplets]
    if name == "ContrastiveLoss":
        near = [apart[pair] for pair in positives if apart[pair] > 0]
        far = [1 - apart[pair] for pair in negatives if apart[pair] < 1]
        return mean(near) + mean(far)
    if name in ("TripletMarginLoss", NO_METRIC):
        terms = [apart[a, p] - apart[a, n] + 0.1 for a, p, n in triplets]
        return mean([term for term in terms if term > 0])
    if name == "MarginLoss":
        near = [apart[pair] - 1.2 + 0.2 for pair in positives]
        far = [1.2 - apart[pair] + 0.2 for pair in negatives]
        active = [term for term in near + far if term > 0]
        return mean(active)
    if name == "AngularLoss":
        tan = math.tan(math.radians(45)) ** 2
        terms = []
        for a, p in positives:
            others = [i for i, label in enumerate(y) if label != y[a]]
            f = [4 * tan * (e[a] + e[p]) @ e[n] - 2 * (1 + tan) * e[a] @ e[p] for n in others]
            terms.append(torch.log(1 + torch.exp(torch.stack(f)).sum()))
        return mean(terms)
    if name == "LiftedStructureLoss":
        terms = []
        for a, p in positives:
            lifted = [torch.exp(1 - apart[i, n]) for i, n in negatives if i in (a, p)]
            terms.append(torch.relu(torch.log(torch.stack(lifted).sum()) + apart[a, p]) ** 2 / 2)
        return mean(terms)
    if name == "NPairsLoss":
        first = {y[a]: (a, p) for a, p in reversed(positives)}
        anchors = [first[label] for label in sorted(first)]
        terms = []
        for row, (a, _) in enumerate(anchors):
            scores = torch.stack([e[a] @ e[p] for _, p in anchors])
            terms.append(torch.log(torch.exp(scores).sum()) - scores[row])
        return mean(terms)
    terms = []
    for i in range(len(y)):  # once a pair, however many triplets hold it
        near = [p for p in range(len(y)) if (i, p) in positives]
        far = [n for n in range(len(y)) if (i, n) in negatives]
        if name == "MultiSimilarityLoss":
            pos = sum((torch.exp(2 * (1 - e[i] @ e[p])) for p in near), torch.zeros(())) if near else torch.zeros(())
            neg = sum((torch.exp(30 * (e[i] @ e[n] - 1)) for n in far), torch.zeros(())) if far else torch.zeros(())
            terms.append(torch.log(1 + pos) / 2 + torch.log(1 + neg) / 30)
        else:
            pos = torch.log(torch.exp(torch.stack([apart[i, p] for p in near])).sum()) if near else torch.zeros(())
            neg = torch.log(torch.exp(torch.stack([1 - apart[i, n] for n in far])).sum()) if far else torch.zeros(())
            terms.append(torch.relu(pos + neg).double())
    return mean(terms)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(("spread", "seed"), [(0.5, 0), (1.5, 1)])
def test_losses_are_their_formulas(name, spread, seed):
    embeddings, labels = batch(spread, seed)
    embeddings.requires_grad_()
    value, expected = MetricLoss(name)(embeddings, labels), slow_loss(name, embeddings, labels)
    # the library's distances carry an epsilon of 1e-6, and its angle is kept in single precision
    torch.testing.assert_close(value, expected.double(), rtol=1e-5, atol=1e-6)
    # the library normalises again; the formulas above take unit vectors, so only the tangential parts compare
    slopes = [torch.autograd.grad(loss, embeddings)[0] for loss in (value, expected)]
    tangents = [slope - (slope * embeddings).sum(1, keepdim=True) * embeddings for slope in slopes]
    torch.testing.assert_close(tangents[0], tangents[1], rtol=1e-4, atol=1e-6)


LIBRARY = {
    "AngularLoss": (library.AngularLoss(alpha=45), library_miners.AngularMiner(angle=20)),
    "LiftedStructureLoss": (
        library.LiftedStructureLoss(neg_margin=1, pos_margin=0),
        library_miners.TripletMarginMiner(margin=0.1, type_of_triplets="semihard"),
    ),
    "MarginLoss": (
        library.MarginLoss(margin=0.2, nu=0, beta=1.2, triplets_per_anchor="all"),
        library_miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard"),
    ),
}


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("spread", [0.02, 0.5, 2.0, 10.0])
def test_the_quick_ones_equal_the_librarys(name, spread):
    embeddings, labels = batch(spread, 3)
    embeddings.requires_grad_()
    loss, miner = LIBRARY[name]
    triplets, ours = miner(embeddings, labels), recipe(name).miner()(embeddings, labels)
    assert all(torch.equal(a, b) for a, b in zip(triplets, ours, strict=True))
    expected, value = loss(embeddings, labels, triplets), MetricLoss(name)(embeddings, labels)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)
    if expected.requires_grad:
        slopes = [torch.autograd.grad(each, embeddings)[0] for each in (value, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", METRICS)
def test_without_a_triplet_the_loss_is_a_zero_that_can_be_minimised(name):
    far = torch.eye(5, dtype=torch.float64).repeat_interleave(2, dim=0).requires_grad_()  # clusters of one point
    value = MetricLoss(name)(far, torch.arange(5).repeat_interleave(2))
    value.backward()
    assert value.item() == 0
    assert far.grad is not None
    assert not far.grad.any()


def test_recipes_are_those_of_the_paper():
    sizes = {name: (metric.batch_size, metric.weight, metric.learning_rate) for name, metric in METRICS.items()}
    assert len(sizes) == 9
    assert sizes.pop("AngularLoss") == (256, 0.1, 1.0)
    assert sizes.pop("GeneralizedLiftedStructureLoss") == (512, 0.1, 1.0)
    assert sizes.pop("LiftedStructureLoss") == (64, 0.05, 0.2)
    assert sizes.pop(NO_METRIC) == (512, 0.0, 1.0)
    assert set(sizes.values()) == {(512, 1.0, 1.0)}
    with pytest.raises(ConfigError, match="'Margin' is unknown; use one of AngularLoss"):
        recipe("Margin")
    assert rescaled_weight(0.2, 0.5) == pytest.approx(0.4)
