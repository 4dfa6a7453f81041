"""The supervised objective of the robustness study: a classifier's loss on images held out from the search set.

It reads labels, so no search does: the robustness study and the audit, which shows it as a rival, alone build it (a
test looks for that).

Source: CSNAS IV-C, arms SL-10 and SL-100. The paper does not define the objective (spec/csnas.md 7: a held-out part of
the search set, accuracy or loss). What is defined here follows the contrastive objective but for the labels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dermonas.data.samples import label_fraction
from dermonas.data.views import Views
from dermonas.errors import DataError
from dermonas.events import Observer
from dermonas.imaging.normalise import IMAGENET_MEAN, IMAGENET_STD
from dermonas.nn.initialise import initialise
from dermonas.nn.measure import measure
from dermonas.objective.agreement import batched
from dermonas.objective.candidate import Architecture, autocast_of, by_batch_statistics, optimizer_of, trunk_of
from dermonas.objective.contrastive import ContrastiveSettings
from dermonas.objective.score import NotFinite, Score
from dermonas.seeding import derive, forked, torch_generator

HELD_OUT = 0.2
"""Share of the search set that is never trained on. Source: spec/csnas.md 7 (ours; the paper gives none)."""


def held_out_rows(labels: np.ndarray, groups: Sequence[str] | np.ndarray, seed: int) -> np.ndarray:
    """Choose a fifth of a search set, by class, whole groups at a time.

    A class of a single group is trained on alone: nothing could be learned of it otherwise.

    Args:
        labels: int64 (n,) class numbers >= 0.
        groups: (n,) names; rows of a group stay on one side.
        seed: The search's seed.

    Returns:
        bool (n,), true where held out.

    Raises:
        DataError: No row is held out, or fewer than two are left to train on.
    """
    groups = np.asarray(groups, dtype=str)
    held = np.zeros(len(labels), dtype=bool)
    held[label_fraction(labels, groups, HELD_OUT, derive(seed, "held out"))] = True
    for label in np.unique(labels):
        own = labels == label
        if held[own].all():
            held &= ~np.isin(groups, groups[own])
    if not held.any() or (~held).sum() < 2:
        raise DataError(
            f"of {len(labels)} labelled search images in {len(np.unique(groups))} groups no fifth can be held out: "
            "use more images"
        )
    return held


class Classifier(nn.Module):
    """A candidate trunk with a linear classifier: all state of one scoring."""

    def __init__(self, architecture: Architecture, settings: ContrastiveSettings, classes: int) -> None:
        super().__init__()
        self.trunk = trunk_of(architecture, settings.channels, settings.layers, settings.seed)
        self.head = nn.Linear(self.trunk.features_out, classes)
        initialise(self.head, settings.seed)
        by_batch_statistics(self.trunk)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (batch, classes)."""
        logits: Tensor = self.head(self.trunk(x))
        return logits


class SupervisedObjective:
    """Scores genotypes by held-out cross-entropy; every candidate sees the same order, views and weights.

    Each step takes what the contrastive one takes of an image (the flipped original and both views, by the same
    draws, in the same order with held-out images left out), so that the two objectives differ in the loss and the
    labels and not in pixels or passes. The score is the mean cross-entropy of the held-out images, shown whole, by
    batch statistics; their error, 1 - accuracy, is reported beside it. Not the error itself: a fifth of a tenth of a
    data set is so few images that many candidates tie, and the earliest of equals would win; the loss is a proper
    score, and of the same kind as the contrastive one.

    Args:
        images: uint8 (n, S, S, 3), S = `data.views.cached_resolution(views, resolution)`.
        labels: int64 (n,) in [0, classes).
        held: bool (n,), true for the images that are not trained on; see `held_out_rows`.
        classes: How many there are.
        settings: The contrastive search's; what concerns its heads, bank and loss alone is not read.
        device: Training device.
        mean: Channel means for normalisation.
        std: Channel standard deviations.

    Raises:
        DataError: The lengths differ, a label lies outside, or one of the two parts is empty.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        held: np.ndarray,
        classes: int,
        settings: ContrastiveSettings,
        device: torch.device,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        if not len(images) == len(labels) == len(held):
            raise DataError(f"{len(images)} images, {len(labels)} labels and {len(held)} marks must be equally many")
        if labels.min() < 0 or labels.max() >= classes:
            raise DataError(f"labels lie in [{labels.min()}, {labels.max()}], must lie in [0, {classes})")
        if not held.any() or (~held).sum() < 2:
            raise DataError(f"{held.sum()} of {len(held)} images are held out: at least one must be, and two not")
        self.settings, self.classes, self.device = settings, classes, device
        self.views = Views(images, settings.views, settings.resolution, mean, std, settings.seed, device)
        self.held = torch.from_numpy(np.asarray(held, dtype=bool))
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(device)
        self._autocast = autocast_of(settings, device)

    def build(self, architecture: Architecture) -> Classifier:
        """Build a candidate on the device, in train mode, channels-last."""
        with forked(self.settings.seed, "construction"):
            candidate = Classifier(architecture, self.settings, self.classes)
        candidate.to(memory_format=torch.channels_last)
        return candidate.to(self.device).train()

    def score(self, architecture: Architecture, observer: Observer, number: int = 0) -> Score:
        """Train a candidate and return the last epoch's held-out loss; an epoch tells "error" too. See `Objective`."""
        start = time.perf_counter()
        candidate = self.build(architecture)
        optimizer = self.optimizer(candidate)
        cost = measure(candidate.trunk, self.settings.resolution)
        epochs: list[float] = []
        with forked(self.settings.seed, "training"):
            for epoch in range(self.settings.epochs):
                trained = self.train_epoch(candidate, optimizer, epoch)
                loss, error = self.judge(candidate)
                if not math.isfinite(trained + loss):
                    told = f"loss is {trained} in training and {loss} on held-out images in epoch {epoch}"
                    raise NotFinite(f"{told}; a lower learning_rate may help")
                epochs.append(loss)
                observer.epoch(number, epoch, {"score": loss, "error": error})
        return Score(
            value=epochs[-1],
            epochs=tuple(epochs),
            code_scaled=epochs[-1] * int(self.held.sum()) / len(self.held_batches()),
            device_seconds=time.perf_counter() - start,
            parameters=cost.parameters,
            dead_parameters=cost.dead_parameters,
            multiply_adds=cost.multiply_adds,
        )

    def optimizer(self, candidate: Classifier) -> torch.optim.Optimizer:
        """See `candidate.optimizer_of`."""
        return optimizer_of(candidate, self.settings)

    def train_epoch(self, candidate: Classifier, optimizer: torch.optim.Optimizer, epoch: int) -> float:
        """Train one epoch on the images that are not held out; return their mean loss."""
        self.views.begin_epoch(epoch)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for index in self.batches(epoch):
            total += self.step(candidate, optimizer, index) * len(index)
        return float(total) / int((~self.held).sum())

    def step(self, candidate: Classifier, optimizer: torch.optim.Optimizer, index: Tensor) -> Tensor:
        """Take one optimisation step on the images `index`; return the detached mean loss over their three views."""
        with self._autocast:
            logits = [candidate(view) for view in (self.views.original(index), *self.views.pair(index))]
        losses = [F.cross_entropy(one.float(), self.labels[index]) for one in logits]
        loss = torch.stack(losses).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def judge(self, candidate: Classifier) -> tuple[float, float]:
        """Return mean cross-entropy and error of the held-out images; the candidate is left as it is."""
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        wrong = torch.zeros((), dtype=torch.int64, device=self.device)
        for index in self.held_batches():
            with self._autocast:
                logits = candidate(self.views.plain(index))
            loss += F.cross_entropy(logits.float(), self.labels[index], reduction="sum")
            wrong += (logits.argmax(dim=1) != self.labels[index]).sum()
        count = int(self.held.sum())
        return float(loss) / count, int(wrong) / count

    def batches(self, epoch: int) -> list[Tensor]:
        """Split the contrastive search's order, without the held-out images, into batches; none has one image."""
        order = torch.randperm(len(self.views), generator=torch_generator(self.settings.seed, "order", epoch))
        order = order[~self.held[order]]
        return batched(order.to(self.device), self.settings.batch_size)

    def held_batches(self) -> list[Tensor]:
        """Split the held-out images into equal batches, mixed and the same for every candidate and epoch.

        Rows are often sorted by class, and a batch of one class would be normalised by that class's statistics.
        """
        order = torch.randperm(len(self.views), generator=torch_generator(self.settings.seed, "held out order"))
        order = order[self.held[order]]
        return list(order.to(self.device).tensor_split(math.ceil(len(order) / self.settings.batch_size)))
