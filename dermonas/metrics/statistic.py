"""A metric bound to its rows: a function of row weights.

The bootstrap asks for a metric's value on thousands of resamples. A resample is a vector of weights, so a metric
that takes weights is sorted and counted once and then answered for all of them by a few matrix products; plain
values are the same code with all weights 1.

What a statistic measures is fixed by the rows that it is bound to: a macro average goes over the classes of the
whole data, and a resample that lacks one of them has no value (NaN). Averaging over fewer classes there would
measure something else, and would make a class that is never recognised look better the rarer it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dermonas.errors import ConfigError, DataError
from dermonas.metrics.calibration import ece_statistic
from dermonas.metrics.counts import ClassCounter, ClassCounts, balanced_accuracy_of, decide, macro_f1_of
from dermonas.metrics.inputs import Bools, Floats, check_class, check_rows, check_share
from dermonas.metrics.roc import Ranking

# Below ten classes a top-5 accuracy says little. Source: DESIGN section 4.
TOP5_CLASSES = 10


@dataclass(frozen=True)
class Statistic:
    """A number that depends on how rows are weighted.

    Attributes:
        rows: n.
        of: Maps (b, n) weights, whole numbers >= 0, to (b,) values, NaN where there is none.
    """

    rows: int
    of: Callable[[Floats], Floats]

    def __call__(self, weights: Floats) -> Floats:
        """Return (b,) values under (b, n) weights.

        Raises:
            DataError: Weights for another number of rows: the statistics of a comparison see different images.
        """
        if weights.ndim != 2 or weights.shape[1] != self.rows:
            raise DataError(f"weights of shape {weights.shape} for {self.rows} rows: do the models share their rows?")
        return self.of(weights)

    @property
    def value(self) -> float:
        """The value on the rows as they are."""
        return float(self(np.ones((1, self.rows)))[0])

    def __sub__(self, other: Statistic) -> Statistic:
        """Return the difference of two statistics of the same rows."""
        if self.rows != other.rows:
            raise DataError(f"{self.rows} and {other.rows} rows: a paired difference needs the same images")
        return Statistic(self.rows, lambda weights: self(weights) - other(weights))


Metric = Callable[[ArrayLike, ArrayLike], Statistic]
"""Binds labels (n,) and probabilities (n, c)."""


def accuracy(labels: ArrayLike, probabilities: ArrayLike) -> Statistic:
    """Bind the share of rows whose likeliest class (the first of equals) is the label."""
    truth, scores = check_rows(labels, probabilities)
    return _share(truth == decide(scores))


def top_k(k: int) -> Metric:
    """Return the metric: share of rows whose label is among the k likeliest; lower indices first among equals.

    Raises:
        ConfigError: k < 1, or on binding k > c.
    """
    if k < 1:
        raise ConfigError(f"top-{k} accuracy does not exist: k must be at least 1")

    def bind(labels: ArrayLike, probabilities: ArrayLike) -> Statistic:
        truth, scores = check_rows(labels, probabilities)
        if k > scores.shape[1]:
            raise ConfigError(f"top-{k} accuracy of {scores.shape[1]} classes does not exist")
        own = scores[np.arange(len(truth)), truth][:, None]
        earlier = (scores == own) & (np.arange(scores.shape[1]) < truth[:, None])
        return _share(((scores > own) | earlier).sum(axis=1) < k)

    return bind


def balanced_accuracy(labels: ArrayLike, probabilities: ArrayLike) -> Statistic:
    """Bind the mean recall over the classes among the labels (see `scores.balanced_accuracy`)."""

    def of(counts: ClassCounts, present: Bools) -> Floats:
        return np.where(_lacking(counts, present), np.nan, balanced_accuracy_of(counts))

    return _counted(labels, probabilities, of)


def macro_f1(labels: ArrayLike, probabilities: ArrayLike) -> Statistic:
    """Bind the mean F1 over the classes among labels or predictions (see `scores.macro_f1`)."""
    truth, scores = check_rows(labels, probabilities)
    classes, predictions = scores.shape[1], decide(scores)
    scored = np.isin(np.arange(classes), np.r_[truth, predictions])

    def of(counts: ClassCounts, present: Bools) -> Floats:
        return np.where(_lacking(counts, present), np.nan, macro_f1_of(counts, scored))

    return _counted(truth, scores, of)


def class_f1(index: int) -> Metric:
    """Return the metric: F1 of one class; on binding, a ConfigError if the class does not exist."""

    def of(counts: ClassCounts, present: Bools) -> Floats:
        lost = present[index] & (counts.support[..., index] == 0)
        return np.where(lost, np.nan, counts.f1[..., index])

    def bind(labels: ArrayLike, probabilities: ArrayLike) -> Statistic:
        truth, scores = check_rows(labels, probabilities)
        check_class(index, scores.shape[1])
        return _counted(truth, scores, of)

    return bind


def macro_auroc(labels: ArrayLike, probabilities: ArrayLike) -> Statistic:
    """Bind the mean one-vs-rest area under the ROC curve over classes with positives and negatives.

    A replicate costs n a class: with 1,000 classes and 50,000 rows use few replicates.
    """
    truth, scores = check_rows(labels, probabilities)
    rankings = [Ranking(truth == index, scores[:, index]) for index in range(scores.shape[1])]
    usable = [ranking for ranking in rankings if ranking.both]

    def of(weights: Floats) -> Floats:
        if not usable:
            return np.full(len(weights), np.nan)
        total = np.zeros(len(weights))
        for ranking in usable:
            total += ranking.auroc(weights)
        return total / len(usable)

    return Statistic(len(truth), of)


def sensitivity_at_specificity(index: int, specificity: float = 0.90) -> Metric:
    """Return the metric: largest sensitivity for a class at a specificity of at least this.

    The threshold is chosen anew in each resample, so an interval includes the uncertainty of choosing it.
    """
    check_share(specificity, "specificity")

    def bind(labels: ArrayLike, probabilities: ArrayLike) -> Statistic:
        truth, scores = check_rows(labels, probabilities)
        check_class(index, scores.shape[1])
        ranking = Ranking(truth == index, scores[:, index])
        return Statistic(len(truth), lambda weights: ranking.sensitivity_at(weights, specificity))

    return bind


def ece(labels: ArrayLike, probabilities: ArrayLike) -> Statistic:
    """Bind the expected calibration error, 15 equal bins (see `calibration.reliability`).

    Its interval is one of the figure as computed, not of the true error: the noise of small bins raises it, in a
    resample once more, so that of a calibrated model no interval reaches 0 (simulated: 570 rows, true error .0015,
    no interval of 300 covered it, percentile or BCa). `calibration.calibrated_error` says what noise alone gives.
    """
    rows, of = ece_statistic(labels, probabilities)
    return Statistic(rows, of)


def headline_metrics(names: Sequence[str], melanoma: str = "MEL") -> dict[str, Metric]:
    """Return the figures that every model is compared by, under their MLflow names without the split.

    Args:
        names: Class names, in the order of the probabilities' columns.
        melanoma: The class that has an F1 and a sensitivity of its own; skipped where it is not among `names`.
    """
    found: dict[str, Metric] = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1}
    if melanoma in names:
        index = list(names).index(melanoma)
        found["melanoma_f1"] = class_f1(index)
        found["melanoma_sensitivity_at_90_specificity"] = sensitivity_at_specificity(index)
    if len(names) >= TOP5_CLASSES:
        found["top5_accuracy"] = top_k(5)
    found["auroc_macro"] = macro_auroc
    found["ece"] = ece
    return found


def bind(metrics: dict[str, Metric], labels: ArrayLike, probabilities: ArrayLike) -> dict[str, Statistic]:
    """Bind several metrics to the same rows."""
    return {name: metric(labels, probabilities) for name, metric in metrics.items()}


def _share(hits: Bools) -> Statistic:
    right = hits.astype(np.float64)
    return Statistic(len(hits), lambda weights: (weights @ right) / weights.sum(axis=1))


def _counted(labels: ArrayLike, probabilities: ArrayLike, of: Callable[[ClassCounts, Bools], Floats]) -> Statistic:
    truth, scores = check_rows(labels, probabilities)
    counter = ClassCounter(truth, decide(scores), scores.shape[1])
    present = np.bincount(truth, minlength=scores.shape[1]) > 0
    return Statistic(len(truth), lambda weights: of(counter(weights), present))


def _lacking(counts: ClassCounts, present: Bools) -> Bools:
    return np.asarray((present & (counts.support == 0)).any(axis=-1))
