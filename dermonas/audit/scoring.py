"""Scores one network at one budget, by the code that searches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dermonas.audit.budgets import Budget
from dermonas.audit.networks import Known
from dermonas.data.views import cached_resolution
from dermonas.errors import SearchError
from dermonas.events import Silent
from dermonas.nn.measure import measure
from dermonas.objective.candidate import trunk_of
from dermonas.objective.contrastive import ContrastiveObjective
from dermonas.objective.scores import operation_counts
from dermonas.objective.supervised import SupervisedObjective, held_out_rows
from dermonas.objective.untrained import UntrainedObjective, clock_of
from dermonas.seeding import numpy_generator

COUNTS = "counts"
"""Budget of what is counted and not measured."""


@dataclass(frozen=True)
class Images:
    """What networks are scored on.

    Attributes:
        decoded: uint8 (n, S, S, 3) by S.
        labels: (n,) class numbers, read by supervised budgets alone; None where some image has none.
        groups: (n,) names; a group is held out as a whole.
        classes: How many.
    """

    decoded: Mapping[int, np.ndarray]
    labels: np.ndarray | None
    groups: np.ndarray
    classes: int


class _Epochs(Silent):
    """Keeps what each epoch reported, and the seconds until then."""

    def __init__(self, device: torch.device) -> None:
        self.scores: list[dict[str, float]] = []
        self.seconds: list[float] = []
        self.clock = clock_of(device)
        self.began = self.clock()

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        scores = dict(metrics)
        own = scores.pop("score")
        self.scores.append(scores if "train_loss" in scores else {"cross_entropy": own, **scores})
        self.seconds.append(self.clock() - self.began)


class Scorer:
    """Scores networks at one budget.

    Args:
        budget: The budget.
        images: At least the budget's.
        seed: Of weights, order, views, and which images are drawn.
        device: Where it runs.
    """

    def __init__(self, budget: Budget, images: Images, seed: int, device: torch.device) -> None:
        self.budget, self.device = budget, device
        settings = budget.settings(seed)
        decoded = images.decoded[cached_resolution(settings.views, settings.resolution)]
        chosen = np.arange(len(decoded))
        if budget.images is not None and budget.images < len(decoded):
            rng = numpy_generator(seed, "search images")
            chosen = np.sort(rng.choice(len(decoded), budget.images, replace=False))
        shown = np.ascontiguousarray(decoded[chosen])
        self.objective: ContrastiveObjective | UntrainedObjective | SupervisedObjective
        if budget.kind == "contrastive":
            self.objective = ContrastiveObjective(shown, settings, device, all_scores=True)
        elif budget.kind == "untrained":
            self.objective = UntrainedObjective(shown, settings, device)
        else:
            assert images.labels is not None  # the entry point has checked
            labels = images.labels[chosen]
            held = held_out_rows(labels, images.groups[chosen], seed)
            self.objective = SupervisedObjective(shown, labels, held, images.classes, settings, device)

    def score(self, network: Known) -> dict[str, Any]:
        """Return one record: network, budget, scores by epoch (the lower the better), seconds until each.

        A network that cannot be scored (its loss is not finite) has `failed` instead, with the reason.
        """
        told = _Epochs(self.device)
        record: dict[str, Any] = {"network": network.name, "budget": self.budget.name}
        try:
            if isinstance(self.objective, UntrainedObjective):
                for name, value in self.objective.timed(network.architecture).items():
                    record.setdefault("scores", {})[name] = value.value
                    record.setdefault("seconds", {})[name] = value.seconds
                return record
            self.objective.score(network.architecture, told)
        except SearchError as error:
            return {**record, "failed": str(error)}
        return {**record, "epochs": told.scores, "seconds": told.seconds}


def counted(network: Known, budget: Budget) -> dict[str, Any]:
    """Return the record of a network's counts at the size of a budget: computed parameters, multiply-adds, operations.

    Here the larger number is the better one only by convention; `columns` says which way each is read.
    """
    size = measure(trunk_of(network.architecture, budget.channels, budget.layers, 0), budget.resolution)
    facts = {
        "parameters": size.parameters - size.dead_parameters,
        "multiply_adds": size.multiply_adds - size.dead_multiply_adds,
        **operation_counts(network.architecture),
    }
    return {"network": network.name, "budget": COUNTS, "scores": facts}
