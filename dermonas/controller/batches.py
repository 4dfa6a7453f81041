"""Which anchors and positives a pretraining iteration sees, from its number alone."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from dermonas.controller.language import Fallback, Language, Thetas, uniforms
from dermonas.errors import ConfigError
from dermonas.seeding import numpy_generator


class Batch(NamedTuple):
    """Cells and what makes them near.

    Attributes:
        tokens: Each anchor followed by its positives.
        labels: The anchor's number in the batch.
        unedited: Positives that are their anchor, for want of an edit that works.
    """

    tokens: Int64[Tensor, "batch length"]
    labels: Int64[Tensor, " batch"]
    unedited: int


class Batches:
    """The batches of a pretraining: every anchor once an epoch, in an order keyed by (seed, epoch); the rest dropped.

    Args:
        language: Of the anchors.
        anchors: (anchors, positions) thetas that the language can edit.
        size: Cells a batch, a multiple of 1 + positives.
        positives: Positives of an anchor.
        seed: The run's.
        fallback: See `Language.positives`.

    Raises:
        ConfigError: If the size does not fit or there are too few anchors for a batch.
    """

    def __init__(
        self, language: Language, anchors: Thetas, size: int, positives: int, seed: int, fallback: Fallback
    ) -> None:
        if size < 1 or size % (1 + positives):
            raise ConfigError(f"batch_size: {size} does not hold whole classes; use a multiple of {1 + positives}")
        self.language, self.anchors = language, anchors
        self.positives, self.seed, self.fallback = positives, seed, fallback
        self.classes = size // (1 + positives)
        self.an_epoch = len(anchors) // self.classes
        if not self.an_epoch:
            raise ConfigError(f"{len(anchors)} anchors are too few for a batch of {self.classes}: give more")
        self._order = lru_cache(maxsize=1)(self._shuffled)

    def __getitem__(self, iteration: int) -> Batch:
        """Return the batch of an iteration, from 0; its epoch is iteration // `an_epoch`."""
        epoch, place = divmod(iteration, self.an_epoch)
        chosen = self._order(epoch)[place * self.classes : (place + 1) * self.classes]
        anchors = self.anchors[chosen]
        numbers = uniforms(self.language, self.seed, epoch, chosen.tolist(), self.positives)
        near = self.language.positives(anchors, numbers, self.fallback)
        cells = np.concatenate([anchors[:, None], near.thetas], axis=1)
        tokens = self.language.encode(cells.reshape(-1, anchors.shape[1]))
        labels = torch.arange(self.classes).repeat_interleave(1 + self.positives)
        return Batch(torch.from_numpy(tokens), labels, int((near.distance == 0).sum()))

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return numpy_generator(self.seed, "anchors", epoch).permutation(len(self.anchors))
