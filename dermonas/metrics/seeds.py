"""Figures of searches that are repeated over seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from dermonas.metrics.inputs import Floats

_LEVEL = 0.95


def leader(validation: Floats) -> NDArray[np.int64]:
    """Return for each query the place of the best by validation so far, from 0; of equals the first.

    Args:
        validation: (..., queries), more is better.

    Returns:
        (..., queries).
    """
    best = np.maximum.accumulate(validation, axis=-1)
    rises = np.diff(best, axis=-1, prepend=-np.inf) > 0
    return np.asarray(np.maximum.accumulate(np.where(rises, np.arange(best.shape[-1]), 0), axis=-1))


def half_width(spread: Floats | float, count: NDArray[np.int64] | int) -> Floats:
    """Return half the width of the 95 % interval of a mean by Student's t; NaN of fewer than two.

    Args:
        spread: Standard deviations (n - 1).
        count: n.
    """
    many = np.maximum(count, 2)
    half = student.ppf((1 + _LEVEL) / 2, many - 1) * np.asarray(spread) / np.sqrt(many)
    return np.where(np.asarray(count) > 1, half, np.nan)
