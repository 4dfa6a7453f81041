"""Temperature scaling: one number that divides the logits so that confidence matches accuracy.

Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), section 4.2.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax

from dermonas.errors import ConfigError, DataError
from dermonas.metrics.calibration import expected_calibration_error
from dermonas.metrics.inputs import Floats, Ints, check_logits, check_names, number_groups
from dermonas.seeding import numpy_generator

# A minimum outside these bounds says that the rows cannot tell, not that the network is twentyfold off. Ours.
BOUNDS = (0.05, 20.0)

# Source: issue 4: fewer images of a class in validation than this, and train rows are taken in.
MINIMUM = 10


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature.

    Attributes:
        value: Divides logits; above 1 the network was overconfident. In `BOUNDS`.
        nll_before: Mean negative log-likelihood of the rows it was judged on, at temperature 1, in nats.
        nll_after: The same at the temperature; of held-out folds where it was cross-fitted.
        ece_before: Expected calibration error (15 equal bins) of the same rows at temperature 1.
        ece_after: The same at the temperature; of held-out folds where it was cross-fitted.
        by_fold: Temperatures of the folds; empty without cross-fitting.
        warning: What a reader must know, or "".
    """

    value: float
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    by_fold: tuple[float, ...] = ()
    warning: str = ""


def scaled(logits: ArrayLike, temperature: float) -> Floats:
    """Return softmax(logits / temperature), (n, c).

    Raises:
        ConfigError: temperature <= 0.
    """
    if not temperature > 0:
        raise ConfigError(f"temperature is {temperature}: it must be positive")
    return np.asarray(softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1))


def fit_temperature(labels: ArrayLike, logits: ArrayLike) -> Temperature:
    """Fit a temperature by minimising the negative log-likelihood.

    In 1 / temperature the likelihood is concave, so the minimum is where its derivative changes sign, and the
    answer does not depend on a start. Fitted and judged on the same rows.

    Args:
        labels: (n,) class indices.
        logits: (n, c) finite.

    Returns:
        The temperature; at a bound, with a warning, where the rows have no minimum inside (all right, for instance).

    Raises:
        DataError: See `inputs.check_logits`.
    """
    truth, raw = check_logits(labels, logits)
    value, warning = _minimum(truth, raw)
    return _judged(truth, raw, scaled(raw, value), value, (), warning)


def cross_fitted_temperature(
    labels: ArrayLike, logits: ArrayLike, groups: Sequence[Hashable] | None, *, folds: int = 5, seed: int = 0
) -> Temperature:
    """Fit a temperature on all rows and judge it by cross-fitting, groups kept together.

    Each fold's rows are judged at the temperature fitted on the other folds, so that the errors after scaling are
    of rows that the fit has not seen. The temperature to use is the one fitted on all rows.

    Args:
        labels: (n,) class indices.
        logits: (n, c) finite.
        groups: (n,) group names; None makes every row a group.
        folds: At least 2.
        seed: Deals the groups to folds.

    Raises:
        ConfigError: folds < 2.
        DataError: See `inputs.check_logits`; fewer groups than folds.
    """
    if folds < 2:
        raise ConfigError(f"folds is {folds}: cross-fitting needs at least 2")
    truth, raw = check_logits(labels, logits)
    codes = number_groups(groups, len(truth))
    count = int(codes.max()) + 1
    if count < folds:
        raise DataError(f"{count} groups for {folds} folds: take fewer folds")
    fold = numpy_generator(seed, "temperature folds").permutation(np.arange(count) % folds)[codes]
    held_out, by_fold, bounded = np.empty_like(raw), [], False
    for index in range(folds):
        inside = fold == index
        value, warning = _minimum(truth[~inside], raw[~inside])
        held_out[inside] = scaled(raw[inside], value)
        by_fold.append(value)
        bounded = bounded or bool(warning)
    value, warning = _minimum(truth, raw)
    if bounded and not warning:
        warning = "in some folds the temperature has no minimum inside its bounds"
    return _judged(truth, raw, held_out, value, tuple(by_fold), warning)


def calibrating_temperature(
    labels: ArrayLike,
    logits: ArrayLike,
    groups: Sequence[Hashable] | None,
    *,
    train: tuple[ArrayLike, ArrayLike, Sequence[Hashable] | None] | None = None,
    names: Sequence[str] | None = None,
    minimum: int = MINIMUM,
    seed: int = 0,
) -> Temperature:
    """Fit on validation rows, or by 5-fold cross-fitting on train and validation where a class has too few.

    Args:
        labels: (n,) of validation.
        logits: (n, c) of validation.
        groups: (n,) of validation; None makes every row a group.
        train: Labels, logits and groups of train rows, for when they are needed.
        names: (c,) class names for the warning.
        minimum: Images a class must have in validation; 10.
        seed: Deals the groups to folds.

    Returns:
        The temperature, with a warning naming the small classes if there are any. Rows that the network was trained
        on look surer than new ones, so a temperature that includes them tends to be too low: the warning says so.

    Raises:
        DataError: See `cross_fitted_temperature`; a wrong number of names.

    Source: issue 4, evaluate.
    """
    truth, raw = check_logits(labels, logits)
    called = check_names(names, raw.shape[1])
    counts = np.bincount(truth, minlength=raw.shape[1])
    small = ", ".join(f"{name} {count}" for name, count in zip(called, counts.tolist(), strict=True) if count < minimum)
    if not small:
        return fit_temperature(truth, raw)
    text = f"fewer than {minimum} validation images of {small}"
    if train is None:
        fitted, text = fit_temperature(truth, raw), f"{text}: their probabilities are hardly calibrated"
    else:
        more, extra = check_logits(train[0], train[1])
        if extra.shape[1] != raw.shape[1]:
            raise DataError(f"train logits have {extra.shape[1]} classes, validation logits {raw.shape[1]}")
        # Rows without a group are groups of their own, in either split.
        ids = [*_names(groups, len(truth), "validation"), *_names(train[2], len(more), "train")]
        fitted = cross_fitted_temperature(np.r_[truth, more], np.concatenate([raw, extra]), ids, seed=seed)
        text += ": temperature cross-fitted on train and validation, likely too low, as train rows were learned"
    return replace(fitted, warning=f"{text}; {fitted.warning}" if fitted.warning else text)


def _minimum(truth: Ints, raw: Floats) -> tuple[float, str]:
    """Return the temperature of the least negative log-likelihood within `BOUNDS`, and a warning or ""."""
    own = float(raw[np.arange(len(truth)), truth].mean())

    def slope(log_temperature: float) -> float:
        """The derivative of the negative log-likelihood by 1 / temperature: expected minus observed logit."""
        return float((scaled(raw, float(np.exp(log_temperature))) * raw).sum(axis=1).mean()) - own

    low, high = np.log(BOUNDS)
    rounding = 1e-12 * float(np.abs(raw).mean())
    if np.ptp(raw, axis=1).max() == 0:
        return 1.0, "all logits of a row are equal: temperature does nothing, 1 is taken"
    if slope(low) <= rounding:
        return BOUNDS[0], f"temperature at its lower bound {BOUNDS[0]}: too few of these rows are wrong to fit it"
    if slope(high) >= -rounding:
        return BOUNDS[1], f"temperature at its upper bound {BOUNDS[1]}: the logits say nothing about these labels"
    return float(np.exp(brentq(slope, low, high, xtol=1e-10))), ""


def _judged(
    truth: Ints, raw: Floats, probabilities: Floats, value: float, by_fold: tuple[float, ...], warning: str
) -> Temperature:
    own = np.arange(len(truth)), truth
    tiny = np.finfo(np.float64).tiny
    return Temperature(
        value=value,
        nll_before=float((logsumexp(raw, axis=1) - raw[own]).mean()),
        nll_after=float(-np.log(np.maximum(probabilities[own], tiny)).mean()),
        ece_before=expected_calibration_error(truth, scaled(raw, 1.0)),
        ece_after=expected_calibration_error(truth, probabilities),
        by_fold=by_fold,
        warning=warning,
    )


def _names(groups: Sequence[Hashable] | None, rows: int, split: str) -> Sequence[Hashable]:
    return [f"{split} row {row}" for row in range(rows)] if groups is None else groups
