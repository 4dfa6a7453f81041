"""Counts a class and what follows from them, for one weighting of the rows or for thousands at once.

A bootstrap replicate is a vector of row weights (how often each row was drawn), so everything here takes weights
of shape (..., n) and keeps the leading axes. Conventions where a quotient has no denominator:

    support  predicted   precision  recall  F1
       0         0          NaN      NaN    NaN    the class does not occur
       0        > 0          0       NaN     0
      > 0        0           0        0      0     as scikit-learn's zero_division=0
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dermonas.metrics.inputs import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Weighted numbers of rows by class.

    Attributes:
        hits: (..., c) rows of the class that were predicted as it.
        support: (..., c) rows of the class.
        predicted: (..., c) rows predicted as the class.
    """

    hits: Floats
    support: Floats
    predicted: Floats

    @property
    def precision(self) -> Floats:
        """(..., c) hits / predicted."""
        return _quotient(self.hits, self.predicted, 0.0, self.occurs)

    @property
    def recall(self) -> Floats:
        """(..., c) hits / support, NaN without support."""
        return _quotient(self.hits, self.support, np.nan, self.occurs)

    @property
    def f1(self) -> Floats:
        """(..., c) 2 hits / (support + predicted)."""
        return _quotient(2 * self.hits, self.support + self.predicted, np.nan, self.occurs)

    @property
    def occurs(self) -> Bools:
        """(..., c) whether the class is among the labels or the predictions."""
        return (self.support > 0) | (self.predicted > 0)


def decide(probabilities: Floats) -> Ints:
    """Return the class of the largest score in each row, the first of equals.

    Args:
        probabilities: (n, c).

    Returns:
        (n,) int64.
    """
    return probabilities.argmax(axis=1).astype(np.int64)


def indicator(codes: Ints, size: int, values: NDArray[np.float64] | None = None) -> sparse.csr_array:
    """Return the (size, n) matrix whose column i holds values[i] (1 by default) in row codes[i].

    Sparse, so that a product with weights costs n a replicate whatever the number of classes.
    """
    data = np.ones(len(codes)) if values is None else values
    return sparse.csr_array((data, (codes, np.arange(len(codes)))), shape=(size, len(codes)))


def weigh(matrix: sparse.csr_array, weights: Floats) -> Floats:
    """Return (b, size) sums of an `indicator` under (b, n) weights."""
    return np.asarray((matrix @ np.ascontiguousarray(weights.T)).T)


class ClassCounter:
    """Counts by class for any weighting of fixed rows.

    Args:
        labels: (n,) class indices.
        predictions: (n,) class indices; -1 is a row without a decision, wrong whatever its label.
        classes: c.
    """

    def __init__(self, labels: Ints, predictions: Ints, classes: int) -> None:
        self._support = indicator(labels, classes)
        self._predicted = indicator(np.maximum(predictions, 0), classes, (predictions >= 0).astype(np.float64))
        self._hits = indicator(labels, classes, (labels == predictions).astype(np.float64))

    def __call__(self, weights: Floats) -> ClassCounts:
        """Return the counts, (b, c) each, under (b, n) weights."""
        return ClassCounts(
            hits=weigh(self._hits, weights),
            support=weigh(self._support, weights),
            predicted=weigh(self._predicted, weights),
        )


def balanced_accuracy_of(counts: ClassCounts) -> Floats:
    """Return the mean recall over classes with support, (...,)."""
    present = counts.support > 0
    return np.where(present, counts.recall, 0.0).sum(axis=-1) / present.sum(axis=-1)


def macro_f1_of(counts: ClassCounts, scored: Bools | None = None) -> Floats:
    """Return the mean F1 over the classes that occur, (...,).

    Args:
        counts: See `ClassCounts`.
        scored: (c,) the classes to average, where a replicate must average what the whole data do; a class of
            these that does not occur counts 0.
    """
    chosen = counts.occurs if scored is None else np.broadcast_to(scored, counts.hits.shape)
    return np.where(chosen, np.nan_to_num(counts.f1), 0.0).sum(axis=-1) / chosen.sum(axis=-1)


def _quotient(top: Floats, bottom: Floats, empty: float, occurs: Bools) -> Floats:
    out = np.where(occurs, empty, np.nan)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out
