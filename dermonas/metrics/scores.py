"""Plain values: how well probabilities fit labels.

Labels are (n,) class indices, probabilities (n, c) scores in [0, 1] with n >= 1 and c >= 2; what cannot be scored
is a DataError (see `inputs`). Where a value does not exist it is NaN, never 0 or 1. The decision of a row is its
likeliest class, the one with the lowest index among equals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dermonas.metrics import statistic
from dermonas.metrics.counts import ClassCounter, balanced_accuracy_of, decide
from dermonas.metrics.inputs import Floats, Ints, check_class, check_names, check_rows, check_share
from dermonas.metrics.roc import OperatingPoint, Ranking


@dataclass(frozen=True)
class MacroAuroc:
    """One-vs-rest areas under the ROC curve.

    Attributes:
        value: Mean over the classes that have one, in [0, 1]; NaN if none has.
        by_class: (c,) by class name, NaN where it does not exist.
        left_out: Classes without positives or without negatives.
    """

    value: float
    by_class: dict[str, float]
    left_out: tuple[str, ...]


def accuracy(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the share of rows whose decision is the label.

    Raises:
        DataError: See `inputs.check_rows`.
    """
    return statistic.accuracy(labels, probabilities).value


def balanced_accuracy(labels: ArrayLike, probabilities: ArrayLike, *, undecided: bool = False) -> float:
    """Return the mean recall over the classes among the labels: the goal metric of ISIC 2018 and 2019.

    Args:
        labels: (n,).
        probabilities: (n, c).
        undecided: Count a row whose largest score is shared by several classes as wrong, as the challenge's own
            scorer does. Rows without such ties score alike either way.

    Raises:
        DataError: See `inputs.check_rows`.

    Source: challenge.isic-archive.com/landing/2019, "arithmetic mean of (category true positives / category
    positives)"; ties and absent classes by isic-challenge-scoring 5.6.0.
    """
    truth, scores = check_rows(labels, probabilities)
    predictions = decide(scores)
    if undecided:
        predictions[(scores == scores.max(axis=1, keepdims=True)).sum(axis=1) > 1] = -1
    counts = ClassCounter(truth, predictions, scores.shape[1])(np.ones((1, len(truth))))
    return float(balanced_accuracy_of(counts)[0])


def macro_f1(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean F1 over the classes among labels or decisions, as scikit-learn's `average="macro"`.

    Raises:
        DataError: See `inputs.check_rows`.
    """
    return statistic.macro_f1(labels, probabilities).value


def class_f1(labels: ArrayLike, probabilities: ArrayLike, index: int) -> float:
    """Return the F1 of one class; NaN if it is neither among the labels nor decided for.

    Raises:
        ConfigError: No such class.
        DataError: See `inputs.check_rows`.
    """
    return statistic.class_f1(index)(labels, probabilities).value


def top_k_accuracy(labels: ArrayLike, probabilities: ArrayLike, k: int) -> float:
    """Return the share of rows whose label is among the k likeliest classes; 1 is `accuracy`.

    Raises:
        ConfigError: k is not in 1..c.
        DataError: See `inputs.check_rows`.
    """
    return statistic.top_k(k)(labels, probabilities).value


def confusion_matrix(labels: ArrayLike, probabilities: ArrayLike) -> Ints:
    """Return (c, c) numbers of rows: label down, decision across.

    Raises:
        DataError: See `inputs.check_rows`.
    """
    truth, scores = check_rows(labels, probabilities)
    classes = scores.shape[1]
    return np.bincount(truth * classes + decide(scores), minlength=classes**2).reshape(classes, classes)


def macro_auroc(labels: ArrayLike, probabilities: ArrayLike, names: Sequence[str] | None = None) -> MacroAuroc:
    """Return the one-vs-rest areas under the ROC curve and their mean; a tie counts half.

    Raises:
        DataError: See `inputs.check_rows`; a wrong number of names.
    """
    truth, scores = check_rows(labels, probabilities)
    called = check_names(names, scores.shape[1])
    ones = np.ones((1, len(truth)))
    values = [float(Ranking(truth == k, scores[:, k]).auroc(ones)[0]) for k in range(len(called))]
    defined = [value for value in values if not np.isnan(value)]
    return MacroAuroc(
        value=float(np.mean(defined)) if defined else float("nan"),
        by_class=dict(zip(called, values, strict=True)),
        left_out=tuple(name for name, value in zip(called, values, strict=True) if np.isnan(value)),
    )


def sensitivity_at_specificity(
    labels: ArrayLike, probabilities: ArrayLike, index: int, specificity: float = 0.90
) -> OperatingPoint:
    """Return the largest sensitivity for a class at a specificity of at least `specificity`.

    A row is called positive when its probability of the class is >= a threshold; the threshold is the lowest
    probability among the rows that keeps the specificity. Nothing is interpolated. Chosen and measured on the same
    rows it flatters slightly: choose on validation and measure with `at_threshold` on test where that matters.

    Raises:
        ConfigError: No such class, or a specificity outside (0, 1).
        DataError: See `inputs.check_rows`.
    """
    check_share(specificity, "specificity")
    return _ranking(labels, probabilities, index).point_at(specificity)


def at_threshold(labels: ArrayLike, probabilities: ArrayLike, index: int, threshold: float) -> OperatingPoint:
    """Return sensitivity and specificity for a class at a threshold chosen elsewhere.

    Raises:
        ConfigError: No such class.
        DataError: See `inputs.check_rows`.
    """
    truth, scores = check_rows(labels, probabilities)
    check_class(index, scores.shape[1])
    positive, called = truth == index, scores[:, index] >= threshold
    count, rest = int(positive.sum()), int((~positive).sum())
    return OperatingPoint(
        threshold=threshold,
        sensitivity=float(called[positive].sum() / (count or np.nan)),
        specificity=float((~called)[~positive].sum() / (rest or np.nan)),
        positives=count,
        negatives=rest,
    )


def roc_curve(labels: ArrayLike, probabilities: ArrayLike, index: int) -> tuple[Floats, Floats, Floats]:
    """Return false positive rates, true positive rates and thresholds of a class for a figure.

    Raises:
        ConfigError: No such class.
        DataError: See `inputs.check_rows`.
    """
    return _ranking(labels, probabilities, index).curve()


def _ranking(labels: ArrayLike, probabilities: ArrayLike, index: int) -> Ranking:
    truth, scores = check_rows(labels, probabilities)
    check_class(index, scores.shape[1])
    return Ranking(truth == index, scores[:, index])
