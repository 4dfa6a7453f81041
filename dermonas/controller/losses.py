"""The eight metric losses of the paper with their miners, by name, and NoMetricLoss.

The losses are pytorch-metric-learning's. Two of them cost the square of the number of triplets there, millions early
in a pretraining; those count equal pairs first and weigh them, with the same value and gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from pytorch_metric_learning import losses
from torch import Tensor, nn

from dermonas.controller.mining import AngularMiner, SemihardMiner, Triplets
from dermonas.errors import ConfigError

NO_METRIC = "NoMetricLoss"
"""Reconstruction alone: the strong baseline of the paper."""

_NEVER = -1.0e9  # the logarithm of a count of zero, finite so that gradients are


class AngularLoss(losses.AngularLoss):
    """The library's loss over the mined (anchor, positive) pairs, each computed once and weighed by its triplets."""

    def compute_loss(
        self, embeddings: Tensor, labels: Tensor, indices_tuple: Triplets, ref_emb: Tensor, ref_labels: Tensor
    ) -> dict[str, Any]:
        """Return the losses of the pairs; called by the library."""
        anchor, positive, negative = indices_tuple
        counts = _counts(anchor, positive, len(labels))
        a, p = torch.where(counts > 0)
        indices = (a, p, anchor[:1], negative[:1])
        result = super().compute_loss(embeddings, labels, indices, ref_emb, ref_labels)
        return _weighed(result, counts[a, p])


class LiftedStructureLoss(losses.LiftedStructureLoss):
    """The library's loss, its log-sum-exp over negatives taken once an anchor in place of once a pair of triplets."""

    def compute_loss(
        self, embeddings: Tensor, labels: Tensor, indices_tuple: Triplets, ref_emb: Tensor, ref_labels: Tensor
    ) -> dict[str, Any]:
        """Return the losses of the pairs; called by the library."""
        anchor, positive, negative = indices_tuple
        if not len(anchor):
            return dict(self.zero_losses())
        distance = self.distance(embeddings, ref_emb)
        repeats = _counts(anchor, negative, len(labels))
        # A negative that is mined with several positives counts that often.
        weight = torch.where(repeats > 0, repeats.to(distance.dtype).clamp(min=1).log(), _NEVER)
        lifted = (self.neg_margin - distance + weight).logsumexp(dim=1)
        counts = _counts(anchor, positive, len(labels))
        a, p = torch.where(counts > 0)
        value = torch.logaddexp(lifted[a], lifted[p]) + distance[a, p] - self.pos_margin
        loss = {"losses": value.relu() ** 2 / 2, "indices": (a, p), "reduction_type": "pos_pair"}
        return _weighed({"loss": loss}, counts[a, p])


@dataclass(frozen=True)
class MetricRecipe:
    """A metric loss as the paper trains with it.

    Attributes:
        loss: Makes the loss.
        miner: Makes the miner of its triplets.
        batch_size: Cells a batch, positives among them.
        weight: lambda_e, its weight beside the reconstruction loss.
        learning_rate: Of SGD.

    Source: the NAO paper, Tables 2 and 3, and its code where they differ: the negative margin of ContrastiveLoss is 1
    (printed: 0, which would drop the negatives), LiftedStructureLoss learns at .2 (spec/nao.md 7, tables.json).
    """

    loss: Callable[[], nn.Module]
    miner: Callable[[], nn.Module]
    batch_size: int = 512
    weight: float = 1.0
    learning_rate: float = 1.0


def _semihard() -> nn.Module:
    return SemihardMiner(margin=0.1)


def _angular() -> nn.Module:
    return AngularMiner(angle=20)


METRICS: Mapping[str, MetricRecipe] = MappingProxyType(
    {
        "AngularLoss": MetricRecipe(lambda: AngularLoss(alpha=45), _angular, batch_size=256, weight=0.1),
        "ContrastiveLoss": MetricRecipe(lambda: losses.ContrastiveLoss(pos_margin=0, neg_margin=1), _semihard),
        "GeneralizedLiftedStructureLoss": MetricRecipe(
            lambda: losses.GeneralizedLiftedStructureLoss(neg_margin=1, pos_margin=0), _semihard, weight=0.1
        ),
        "LiftedStructureLoss": MetricRecipe(
            lambda: LiftedStructureLoss(neg_margin=1, pos_margin=0),
            _semihard,
            batch_size=64,
            weight=0.05,
            learning_rate=0.2,
        ),
        "MarginLoss": MetricRecipe(
            lambda: losses.MarginLoss(margin=0.2, nu=0, beta=1.2, triplets_per_anchor="all"),
            lambda: SemihardMiner(margin=0.2),
        ),
        "MultiSimilarityLoss": MetricRecipe(lambda: losses.MultiSimilarityLoss(alpha=2, beta=30, base=1.0), _angular),
        "NPairsLoss": MetricRecipe(losses.NPairsLoss, _angular),
        "TripletMarginLoss": MetricRecipe(lambda: losses.TripletMarginLoss(margin=0.1), _semihard),
        # Its loss is looked at, never minimised.
        NO_METRIC: MetricRecipe(lambda: losses.TripletMarginLoss(margin=0.1), _semihard, weight=0.0),
    }
)
"""Every metric by name."""


def recipe(name: str) -> MetricRecipe:
    """Return a metric's recipe.

    Raises:
        ConfigError: If the name is unknown.
    """
    if name not in METRICS:
        raise ConfigError(f"metric: {name!r} is unknown; use one of {', '.join(METRICS)}")
    return METRICS[name]


class MetricLoss(nn.Module):
    """A metric loss after its miner.

    Args:
        name: A key of `METRICS`.

    Raises:
        ConfigError: If the name is unknown.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.loss, self.miner = recipe(name).loss(), recipe(name).miner()

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of (batch, width) embeddings; those with equal labels should be near. 0 without triplets."""
        value: Tensor = self.loss(embeddings, labels, self.miner(embeddings, labels))
        return value


def rescaled_weight(reconstruction: float, metric: float) -> float:
    """Return the weight that the paper gives a metric loss under which reconstruction does not converge.

    Args:
        reconstruction: Converged reconstruction loss.
        metric: Converged metric loss, positive.

    Source: spec/nao.md 4, the lambda_e rule: start at 1, else the ratio of the two.
    """
    return reconstruction / metric


def _counts(left: Tensor, right: Tensor, size: int) -> Tensor:
    """Return how often each (left, right) occurs: (size, size)."""
    return torch.bincount(left * size + right, minlength=size * size).view(size, size)


def _weighed(result: dict[str, Any], counts: Tensor) -> dict[str, Any]:
    """Scale the losses so that their mean is the mean over all triplets."""
    loss = result["loss"]
    if loss["indices"] is not None:
        values = loss["losses"].flatten()
        loss["losses"] = values * (counts.to(values.dtype) * len(counts) / counts.sum())
    return result
