"""Whether a probability means what it says: reliability, calibration errors, Brier score, likelihood.

Labels are (n,) class indices, probabilities (n, c) rows that sum to 1 (a DataError otherwise, see `inputs`).
The confidence of a row is its largest probability; it is right if that class (the first of equals) is the label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dermonas.errors import ConfigError
from dermonas.metrics.counts import decide, indicator, weigh
from dermonas.metrics.inputs import Bools, Floats, Ints, check_distributions
from dermonas.seeding import numpy_generator

# Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), table 1: M = 15.
BINS = 15

# The smallest probability whose logarithm is taken: float64's smallest step at 1.
_TINY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence against accuracy in bins, for a reliability diagram; a bin without rows is NaN.

    Attributes:
        edges: (bins + 1,) rising from 0 to 1; a bin holds its upper edge, not its lower one (the first holds 0).
        counts: (bins,) rows.
        confidence: (bins,) mean confidence.
        accuracy: (bins,) share of right rows.
        ece: Expected calibration error: mean of |accuracy - confidence| over bins, weighted by rows.
        mce: Largest of them.
    """

    edges: Floats
    counts: Ints
    confidence: Floats
    accuracy: Floats
    ece: float
    mce: float


def reliability(
    labels: ArrayLike, probabilities: ArrayLike, *, bins: int = BINS, adaptive: bool = False
) -> Reliability:
    """Return confidence against accuracy and the calibration errors.

    Args:
        labels: (n,).
        probabilities: (n, c).
        bins: Number of bins, 15 by default.
        adaptive: Bins of (nearly) equal numbers of rows, cut at quantiles of the confidence, instead of equal
            width; rows of equal confidence stay together, so fewer bins may result.

    Raises:
        ConfigError: bins < 1.
        DataError: See `inputs.check_distributions`.

    Source: equal width, Guo et al. (ICML 2017), equation 3; adaptive, Nguyen and O'Connor (EMNLP 2015).
    """
    truth, scores = check_distributions(labels, probabilities)
    confidence = np.minimum(scores.max(axis=1), 1.0)
    edges = _edges(confidence, bins, adaptive=adaptive)
    return _bin(confidence, truth == decide(scores), edges)


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, *, bins: int = BINS) -> float:
    """Return the expected calibration error with bins of equal width; see `reliability`. In [0, 1]."""
    return reliability(labels, probabilities, bins=bins).ece


def classwise_calibration_error(labels: ArrayLike, probabilities: ArrayLike, *, bins: int = BINS) -> float:
    """Return the mean over classes of the calibration error of that class's probability. In [0, 1].

    Raises:
        ConfigError: bins < 1.
        DataError: See `inputs.check_distributions`.

    Source: Kull et al., Beyond temperature scaling (NeurIPS 2019), section 2.
    """
    truth, scores = check_distributions(labels, probabilities)
    edges = _edges(scores, bins, adaptive=False)
    return float(np.mean([_bin(scores[:, k], truth == k, edges).ece for k in range(scores.shape[1])]))


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean over rows of the squared distance to the one-hot label, summed over classes. In [0, 2].

    Raises:
        DataError: See `inputs.check_distributions`.

    Source: Brier (1950); with two classes it is twice scikit-learn's `brier_score_loss` of one of them.
    """
    truth, scores = check_distributions(labels, probabilities)
    own = scores[np.arange(len(truth)), truth]
    return float(((scores**2).sum(axis=1) - 2 * own + 1).mean())


def negative_log_likelihood(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean of -ln p(label), in nats; p is held at 2.2e-16 or more. In [0, 36.1].

    Raises:
        DataError: See `inputs.check_distributions`.
    """
    truth, scores = check_distributions(labels, probabilities)
    return float(-np.log(np.clip(scores[np.arange(len(truth)), truth], _TINY, 1.0)).mean())


def calibrated_error(
    probabilities: ArrayLike, *, bins: int = BINS, replicates: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the calibration error that rows of these confidences show if every one of them is true.

    What a measured `expected_calibration_error` is to be read against: it is noise up to here.

    Args:
        probabilities: (n, c).
        bins: Number of equal bins.
        replicates: Simulated sets of right and wrong rows.
        seed: Of the simulation.

    Returns:
        Mean and 95th percentile over the replicates, both in [0, 1].

    Raises:
        ConfigError: bins or replicates < 1.
        DataError: See `inputs.check_distributions`.

    Source: Bröcker and Smith, Increasing the Reliability of Reliability Diagrams, Weather and Forecasting 22 (2007)
    651-661: consistency resampling, here with the confidences as they are.
    """
    if replicates < 1:
        raise ConfigError(f"replicates is {replicates}: at least 1 is needed, 1000 are usual")
    scores = check_distributions(np.zeros(len(np.asarray(probabilities)), dtype=np.int64), probabilities)[1]
    confidence = np.minimum(scores.max(axis=1), 1.0)
    # Right rows of a bin are a sum of coin flips of its confidences: rows of a bin lie side by side and are added.
    place = _place(confidence, _edges(confidence, bins, adaptive=False))
    order = np.argsort(place, kind="stable")
    confidence, starts = confidence[order], np.flatnonzero(np.diff(place[order], prepend=-1))
    rng = numpy_generator(seed, "calibrated error")
    errors = np.empty(replicates)
    for index in range(replicates):
        gaps = np.add.reduceat((rng.random(len(confidence)) < confidence) - confidence, starts)
        errors[index] = np.abs(gaps).sum() / len(confidence)
    return float(errors.mean()), float(np.quantile(errors, 0.95))


def ece_statistic(labels: ArrayLike, probabilities: ArrayLike) -> tuple[int, Callable[[Floats], Floats]]:
    """Return n and the expected calibration error (15 equal bins) as a function of (b, n) row weights."""
    truth, scores = check_distributions(labels, probabilities)
    confidence = np.minimum(scores.max(axis=1), 1.0)
    gap = (truth == decide(scores)) - confidence
    matrix = indicator(_place(confidence, _edges(confidence, BINS, adaptive=False)), BINS, gap)
    return len(truth), lambda weights: np.abs(weigh(matrix, weights)).sum(axis=1) / weights.sum(axis=1)


def _edges(confidence: Floats, bins: int, *, adaptive: bool) -> Floats:
    if bins < 1:
        raise ConfigError(f"bins is {bins}: at least 1 is needed, {BINS} are usual")
    if not adaptive:
        return np.linspace(0, 1, bins + 1)
    inner = np.quantile(confidence, np.arange(1, bins) / bins, method="inverted_cdf")
    return np.unique(np.r_[0.0, inner, 1.0])


def _place(values: Floats, edges: Floats) -> Ints:
    """Return each value's bin: the one with lower edge < value <= upper edge; 0 goes to the first."""
    return np.clip(np.searchsorted(edges, values, side="left") - 1, 0, len(edges) - 2).astype(np.int64)


def _bin(values: Floats, right: Bools, edges: Floats) -> Reliability:
    place, bins = _place(values, edges), len(edges) - 1
    counts = np.bincount(place, minlength=bins)
    filled = np.where(counts > 0, counts, np.nan)
    confidence = np.bincount(place, weights=values, minlength=bins) / filled
    accuracy = np.bincount(place, weights=right.astype(np.float64), minlength=bins) / filled
    gaps = np.nan_to_num(np.abs(accuracy - confidence))
    return Reliability(
        edges=edges,
        counts=counts.astype(np.int64),
        confidence=confidence,
        accuracy=accuracy,
        ece=float((gaps * counts).sum() / len(values)),
        mce=float(gaps.max()),
    )
