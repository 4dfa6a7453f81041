"""What the rows of an evaluation may hold; every other module here takes its arrays through these checks."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dermonas.errors import ConfigError, DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# A softmax in half precision misses 1 by up to about 1e-3.
_SUM_TOLERANCE = 2e-3

# A float32 softmax may pass 1 by a rounding.
_ROUNDING = 1e-6


def check_labels(labels: ArrayLike, classes: int) -> Ints:
    """Return class indices as (n,) int64.

    Args:
        labels: (n,) integers in [0, classes), n >= 1.
        classes: Number of classes.

    Raises:
        DataError: No rows, another shape or type, or an index out of range; names the first such row.
    """
    array = np.asarray(labels)
    if array.ndim != 1:
        raise DataError(f"labels have shape {array.shape}: one class index a row is needed")
    if not len(array):
        raise DataError("there are no rows to score: an evaluated split needs at least one labelled image")
    if not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"labels are {array.dtype}: integer class indices are needed")
    wrong = np.flatnonzero((array < 0) | (array >= classes))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"row {row}: label {array[row]} is not in 0..{classes - 1}; leave unlabelled rows out")
    return array.astype(np.int64)


def check_matrix(values: ArrayLike, name: str) -> Floats:
    """Return finite numbers as (n, c) float64, n >= 1, c >= 2.

    Raises:
        DataError: Another shape, or a value that is not finite; names the first such row.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] < 2:
        raise DataError(f"{name} have shape {array.shape}: (rows, classes) with at least two classes is needed")
    if not len(array):
        raise DataError("there are no rows to score: an evaluated split needs at least one labelled image")
    wrong = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(wrong):
        raise DataError(f"row {wrong[0]}: {name} hold a value that is not finite")
    return array


def check_rows(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Ints, Floats]:
    """Return labels (n,) int64 and scores (n, c) float64 in [0, 1]; rows need not sum to 1.

    Raises:
        DataError: See `check_labels` and `check_matrix`; a score outside [0, 1]; different numbers of rows.
    """
    scores = check_matrix(probabilities, "probabilities")
    wrong = np.flatnonzero(((scores < -_ROUNDING) | (scores > 1 + _ROUNDING)).any(axis=1))
    if len(wrong):
        raise DataError(f"row {wrong[0]}: a probability is outside 0..1; are these logits?")
    return _paired(labels, scores, "probabilities")


def check_distributions(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Ints, Floats]:
    """Return `check_rows`, whose probabilities moreover sum to 1 in each row.

    Raises:
        DataError: See `check_rows`; a row whose sum is off by more than 0.002.
    """
    truth, scores = check_rows(labels, probabilities)
    wrong = np.flatnonzero(np.abs(scores.sum(axis=1) - 1) > _SUM_TOLERANCE)
    if len(wrong):
        raise DataError(f"row {wrong[0]}: probabilities sum to {scores[wrong[0]].sum():.4f}, not 1")
    return truth, scores


def check_logits(labels: ArrayLike, logits: ArrayLike) -> tuple[Ints, Floats]:
    """Return labels (n,) int64 and logits (n, c) float64.

    Raises:
        DataError: See `check_labels` and `check_matrix`; different numbers of rows.
    """
    return _paired(labels, check_matrix(logits, "logits"), "logits")


def check_names(names: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    """Return class names, by default "0", "1", ...

    Raises:
        DataError: Their number is not the number of classes.
    """
    if names is None:
        return tuple(str(index) for index in range(classes))
    if len(names) != classes:
        raise DataError(f"{len(names)} class names for {classes} classes")
    return tuple(names)


def check_class(index: int, classes: int) -> None:
    """Refuse a class index outside [0, classes) with a ConfigError."""
    if not 0 <= index < classes:
        raise ConfigError(f"class {index} does not exist: 0..{classes - 1} do")


def check_share(value: float, name: str) -> None:
    """Refuse a share outside (0, 1) with a ConfigError."""
    if not 0 < value < 1:
        raise ConfigError(f"{name} is {value}: it must lie between 0 and 1")


def number_groups(groups: Sequence[Hashable] | None, rows: int) -> Ints:
    """Number groups 0, 1, ... in the order of their names, so that row order does not matter.

    Args:
        groups: (n,) names, one a row; None makes every row a group.
        rows: n.

    Returns:
        (n,) int64 group numbers.

    Raises:
        DataError: Another number of rows, or a row without a group.
    """
    if groups is None:
        return np.arange(rows, dtype=np.int64)
    if len(groups) != rows:
        raise DataError(f"{len(groups)} groups for {rows} rows")
    for row, name in enumerate(groups):
        if name is None or name != name:  # NaN is what a table reads an empty cell as
            raise DataError(f"row {row} has no group: give an image without a lesion its own path as group")
    return np.unique(np.array([str(name) for name in groups]), return_inverse=True)[1].astype(np.int64)


def _paired(labels: ArrayLike, values: Floats, name: str) -> tuple[Ints, Floats]:
    truth = check_labels(labels, values.shape[1])
    if len(truth) != len(values):
        raise DataError(f"{len(truth)} labels for {len(values)} rows of {name}")
    return truth, values
