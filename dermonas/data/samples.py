"""Labelled images for training: the decoded cache as a torch Dataset, its order by epoch, and subsets of train.

The order and the repeats come from the sampler, as keys `Key(epoch, sample, repeat)`: a worker needs nothing but the
key, so persistent and prefetching workers see the right epoch, and a resume needs none of their state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from dermonas.data.shards import Images
from dermonas.errors import ConfigError, DataError
from dermonas.seeding import numpy_generator, torch_generator

Balance = Literal["none", "sampler", "loss"]
"""What is done about unequal classes: nothing, every class drawn equally often, or weights in the loss."""


class Key(NamedTuple):
    """Which view of which sample.

    Attributes:
        epoch: Counted from 0.
        sample: Position in the data set.
        repeat: How often the sample was drawn before in this epoch; repeats get other views.
    """

    epoch: int
    sample: int
    repeat: int


Transform = Callable[[np.ndarray, int, int], Tensor]
"""From (uint8 (side, side, 3), epoch, index) to a float tensor (3, size, size); see `data.augmentation`."""


class Samples(Dataset[tuple[Tensor, int, int]]):
    """Images with labels; an item is (input float32 (3, size, size), label, row).

    Args:
        images: uint8 (n, side, side, 3), such as `data.cache.decoded_cache`; read row by row.
        labels: int64 (n,), class numbers >= 0.
        transform: From pixels to input, keyed by epoch and index.
        rows: Which rows of `images` and `labels`, unique; None is all. The position of a sample is its place here.

    Raises:
        DataError: lengths differ, there is no row, or a row has no label.
    """

    def __init__(
        self,
        images: Images,
        labels: np.ndarray,
        transform: Transform,
        rows: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        if len(images) != len(labels):
            raise DataError(f"{len(images)} images but {len(labels)} labels: the cache belongs to another manifest")
        self.images, self.transform = images, transform
        self.rows = np.arange(len(images)) if rows is None else np.asarray(rows, dtype=np.int64)
        self.labels = np.asarray(labels, dtype=np.int64)[self.rows]
        if not len(self.rows):
            raise DataError("no image to train or evaluate on: check the split sizes and run prepare again")
        if self.labels.min() < 0:
            row = int(self.rows[self.labels.argmin()])
            raise DataError(f"row {row} has no label: leave it out or label it and run prepare again")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key | int) -> tuple[Tensor, int, int]:
        """Return one sample; a plain number is its view in epoch 0."""
        epoch, sample, repeat = key if isinstance(key, tuple) else (0, key, 0)
        row = int(self.rows[sample])
        # Keyed by row, not position: an image keeps its views under every label fraction.
        view = self.transform(self.images[row], epoch, row + repeat * len(self.images))
        return view, int(self.labels[sample]), row


class KeyedSampler(Sampler[Key]):
    """The order of one epoch, from a generator keyed by (seed, epoch).

    Args:
        labels: int64 (n,) of the samples in their order.
        seed: The run's seed.
        balance: "sampler" draws n times with replacement, every class present equally likely; else a permutation.
        rank: Which process this is, of `replicas`; each takes every `replicas`-th key. The order is padded from its
            start to a multiple of `replicas`, so that no process waits for another.
        replicas: How many processes share an epoch.
    """

    def __init__(
        self, labels: np.ndarray, seed: int, balance: Balance = "none", *, rank: int = 0, replicas: int = 1
    ) -> None:
        if balance not in get_args(Balance):
            raise ConfigError(f"balance {balance!r} is unknown; use one of {', '.join(get_args(Balance))}")
        if not 0 <= rank < replicas:
            raise ConfigError(f"rank {rank} must lie in [0, {replicas})")
        self.labels, self.seed, self.balance = np.asarray(labels), seed, balance
        self.rank, self.replicas = rank, replicas
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls it before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.replicas)

    def __iter__(self) -> Iterator[Key]:
        order = self._order()
        padded = np.resize(order, len(self) * self.replicas)
        seen: dict[int, int] = {}
        keys = []
        for sample in padded.tolist():
            keys.append(Key(self.epoch, sample, seen.get(sample, 0)))
            seen[sample] = keys[-1].repeat + 1
        return iter(keys[self.rank :: self.replicas])

    def _order(self) -> np.ndarray:
        generator = torch_generator(self.seed, "order", self.epoch)
        if self.balance != "sampler":
            return torch.randperm(len(self.labels), generator=generator).numpy()
        weights = 1.0 / np.bincount(self.labels)[self.labels]
        return torch.multinomial(torch.from_numpy(weights), len(weights), replacement=True, generator=generator).numpy()


def class_weights(labels: np.ndarray, classes: Sequence[str]) -> Tensor:
    """Return a loss weight a class, n / (classes * n of the class): their mean over the samples is 1.

    Args:
        labels: int64 (n,) of the train samples.
        classes: Class names in label order.

    Returns:
        float32 (classes,).

    Raises:
        DataError: a class has no train image, so that no weight makes up for it.

    Source: scikit-learn, compute_class_weight("balanced").
    """
    counts = np.bincount(labels, minlength=len(classes))
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    if absent:
        raise DataError(f"train has no image of {', '.join(absent)}: choose another split or balance none")
    return torch.from_numpy(len(labels) / (len(classes) * counts)).float()


def label_fraction(labels: np.ndarray, groups: Sequence[str] | np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose part of the train rows, by class, whole groups at a time.

    Groups are taken in an order keyed by (seed, class) until the class has its share (rounded, at least one image); so
    a class exceeds its share by less than one group, and a smaller fraction is a subset of a larger one.

    Args:
        labels: int64 (n,) class numbers >= 0.
        groups: (n,) names; rows of a group stay together. One with several labels counts for its most frequent.
        fraction: In (0, 1].
        seed: The run's seed.

    Returns:
        int64, sorted row numbers.

    Raises:
        ConfigError: the fraction lies outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"label_fraction {fraction} must lie in (0, 1]")
    if fraction == 1:
        return np.arange(len(labels))
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    counts = np.zeros((len(names), int(labels.max()) + 1), dtype=np.int64)
    np.add.at(counts, (member, labels), 1)
    owner, sizes = counts.argmax(axis=1), counts.sum(axis=1)
    chosen = np.zeros(len(names), dtype=bool)
    for label in np.unique(owner):
        pool = np.flatnonzero(owner == label)
        order = numpy_generator(seed, "label fraction", int(label)).permutation(pool)
        wanted = max(1, round(fraction * int(sizes[pool].sum())))
        before = np.cumsum(sizes[order]) - sizes[order]
        chosen[order[before < wanted]] = True
    return np.flatnonzero(chosen[member])
