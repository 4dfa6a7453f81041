"""The temperature of a trained model: fitted on validation, with train rows only where validation is too small."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dermonas.errors import DataError
from dermonas.metrics.temperature import MINIMUM, Temperature, calibrating_temperature


@dataclass(frozen=True, eq=False)
class LabelledLogits:
    """What a temperature is fitted on; rows without a label are left out.

    Attributes:
        labels: (n,) class indices, -1 where unknown.
        logits: (n, classes), made as those that the temperature will divide (with `tta` if they are).
        groups: (n,) lesions; None makes every row one of its own.
    """

    labels: ArrayLike
    logits: ArrayLike
    groups: Sequence[Hashable] | None = None

    def known(self, split: str) -> tuple[np.ndarray, np.ndarray, list[Hashable] | None]:
        """Return labels, logits and groups of the labelled rows.

        Raises:
            DataError: There are none, or lengths differ.
        """
        labels, logits = np.asarray(self.labels), np.asarray(self.logits)
        if len(labels) != len(logits) or (self.groups is not None and len(self.groups) != len(labels)):
            raise DataError(f"{split} has {len(labels)} labels, {len(logits)} logits and groups of another number")
        rows = np.flatnonzero(labels >= 0)
        if not len(rows):
            raise DataError(f"{split} has no labelled image to fit a temperature on: check the split sizes of prepare")
        names = None if self.groups is None else list(self.groups)
        return labels[rows], logits[rows], None if names is None else [names[row] for row in rows.tolist()]


def temperature_of(
    validation: LabelledLogits,
    train: Callable[[], LabelledLogits] | None = None,
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Temperature:
    """Fit a temperature on validation, or by 5-fold cross-fitting on train + validation.

    Args:
        validation: Its labelled rows.
        train: Makes the train rows; called only where a class has fewer than 10 images in validation, as their
            logits are costly.
        names: Class names, for the warning.
        seed: Deals the groups to folds.

    Returns:
        The temperature, with a warning naming the small classes if there are any.

    Raises:
        DataError: No labelled validation row; see `metrics.temperature.calibrating_temperature`.
    """
    labels, logits, groups = validation.known("validation")
    counts = np.bincount(labels, minlength=logits.shape[1])
    more = train().known("train") if train is not None and counts.min() < MINIMUM else None
    return calibrating_temperature(labels, logits, groups, train=more, names=names, seed=seed)
