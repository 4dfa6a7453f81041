"""Training on the evaluated cells: predict their values and still reconstruct them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64
from numpy.typing import NDArray
from torch import Tensor

from dermonas.controller.model import Controller
from dermonas.errors import ConfigError, SearchError
from dermonas.seeding import torch_generator


@dataclass(frozen=True)
class Target:
    """Scores as what the predictor learns: 0 at `worst`, 1 at `best`, linear between, clipped outside.

    Fix both before the search, so that targets of different rounds compare.

    Attributes:
        worst: The score that becomes 0.
        best: The score that becomes 1; above `worst` where more is better, below it where less is.

    Raises:
        ConfigError: If the two are equal or not finite.

    Source: spec/nao.md 5 (max(accuracy - .8, 0) * 5, which is worst .8, best 1) and 8 (losses).
    """

    worst: float
    best: float

    def __post_init__(self) -> None:
        if not np.isfinite([self.worst, self.best]).all() or self.worst == self.best:
            raise ConfigError(f"target: {self.worst} to {self.best} is no range; give two different finite scores")

    @classmethod
    def of_losses(cls, pool: Sequence[float]) -> Target:
        """Return the target for an initial pool of losses: worst their median, best as far below their smallest.

        What is no better than the median is 0, as what is below accuracy .8 is in the paper: a few failures in the
        pool would else leave the good ones hardly apart. Where the median is the smallest, worst is the largest.

        Raises:
            ConfigError: If all are equal.
        """
        lowest, middle = min(pool), float(np.median(pool))
        worst = middle if middle > lowest else max(pool)
        return cls(worst, 2 * lowest - worst)

    def __call__(self, scores: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the targets, in [0, 1]."""
        scaled = (np.asarray(scores, np.float64) - self.worst) / (self.best - self.worst)
        return np.clip(scaled, 0.0, 1.0).astype(np.float32)


@dataclass(frozen=True)
class PoolSettings:
    """How to train on the pool.

    Attributes:
        epochs: Passes over the pool a round.
        batch_size: Cells a step.
        learning_rate: Of SGD without momentum or decay.
        milestones: Passes, counted over all rounds, after which the rate is multiplied by `gamma`.
        gamma: See `milestones`.
        weight: lambda: that of the squared error; the reconstruction has the rest.
        clip: Largest norm of the gradient.
        predictor_only: Whether encoder and decoder stay as they are.

    Raises:
        ConfigError: If a value is impossible.

    Source: the NAO paper, Table 2; the milestones are its code's (train.yaml), not the paper's (spec/nao.md 5).
    """

    epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 0.1
    milestones: tuple[int, ...] = (1200, 2400)
    gamma: float = 0.1
    weight: float = 0.5
    clip: float = 5.0
    predictor_only: bool = False

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}: {getattr(self, key)} is not possible; give 1 or more")
        if not 0 < self.weight <= 1:
            raise ConfigError(f"weight: {self.weight} is not possible; use a number above 0, up to 1")

    def rate(self, epoch: int) -> float:
        """Return the learning rate of a pass, counted from 0 over all rounds."""
        return self.learning_rate * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)


class Trained(NamedTuple):
    """A controller after a round.

    Attributes:
        controller: A new one, in evaluation mode.
        error: Mean squared error of the predictor over the last pass.
        reconstruction: Mean NLL of a token over the last pass.
    """

    controller: Controller
    error: float
    reconstruction: float


def train_on_pool(
    controller: Controller,
    tokens: Int64[Tensor, "cells length"],
    targets: Float32[Tensor, " cells"],
    settings: PoolSettings,
    seed: int,
    round: int,
) -> Trained:
    """Train a copy of a controller for one round: weight * MSE + (1 - weight) * NLL.

    A function of its arguments: the order of the cells is keyed by (seed, round, pass), SGD has no state, and the
    rate follows from the round. A search is resumed from the weights after any round.

    Args:
        controller: As the last round, or pretraining, left it; not changed.
        tokens: The pool.
        targets: Its targets in [0, 1].
        settings: How.
        seed: The search's.
        round: From 0.

    Raises:
        SearchError: If the loss is no longer finite.
    """
    controller = copy.deepcopy(controller).train()
    device = next(controller.parameters()).device
    trained = [*(controller.predictor if settings.predictor_only else controller).parameters()]
    optimiser = torch.optim.SGD(trained, lr=settings.learning_rate)
    totals: Tensor = torch.zeros(2, dtype=torch.float64)
    for number in range(settings.epochs):
        optimiser.param_groups[0]["lr"] = settings.rate(round * settings.epochs + number)
        order = torch.randperm(len(tokens), generator=torch_generator(seed, "pool", round, number))
        totals = torch.zeros(2, dtype=torch.float64)
        for chosen in order.split(settings.batch_size):
            losses = _losses(controller, tokens[chosen].to(device), targets[chosen].to(device))
            loss = settings.weight * losses[0] + (1 - settings.weight) * losses[1]
            controller.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, settings.clip)
            optimiser.step()
            totals += losses.detach().double().cpu() * len(chosen) / len(tokens)
    error, reconstruction = totals.tolist()
    if not np.isfinite(error + reconstruction):
        raise SearchError(f"the controller's loss is not finite in round {round}: lower learning_rate")
    return Trained(controller.eval(), error, reconstruction)


@torch.no_grad()
def predict(controller: Controller, tokens: Int64[Tensor, "cells length"]) -> NDArray[np.float32]:
    """Return the predicted targets of cells."""
    device = next(controller.parameters()).device
    values: Tensor = controller.predictor(controller.encoder(tokens.to(device)).embedding)
    return np.asarray(values.cpu().numpy())


def _losses(controller: Controller, tokens: Tensor, targets: Tensor) -> Tensor:
    """Return (MSE of the predictor, NLL of the decoder)."""
    encoded = controller.encoder(tokens)
    scores = controller.log_probabilities(tokens, encoded)
    error = F.mse_loss(controller.predictor(encoded.embedding), targets)
    return torch.stack([error, F.nll_loss(scores.flatten(0, 1), tokens.flatten())])
