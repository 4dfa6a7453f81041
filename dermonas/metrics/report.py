"""Precision, recall, F1 and support by class, as the papers' Table V lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dermonas.metrics.counts import ClassCounter, balanced_accuracy_of, decide, macro_f1_of
from dermonas.metrics.inputs import Floats, check_names, check_rows


@dataclass(frozen=True)
class ReportRow:
    """One line of a classification report; NaN where a figure does not exist (see `counts`).

    Attributes:
        name: Class, "Macro average" or "Weighted average".
        precision: In [0, 1].
        recall: In [0, 1].
        f1: In [0, 1].
        support: Rows of the class; of an average, all rows.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Report:
    """A classification report in scikit-learn's layout.

    Attributes:
        classes: One row a class, in the order of the probabilities.
        macro: Means over the classes that occur. The recall's goes over classes with support, so that it is the
            balanced accuracy; scikit-learn counts a class that is predicted but has no rows as recall 0 there.
        weighted: Means weighted by support; the recall's is the accuracy.
        accuracy: In [0, 1].
    """

    classes: tuple[ReportRow, ...]
    macro: ReportRow
    weighted: ReportRow
    accuracy: float

    @property
    def rows(self) -> tuple[ReportRow, ...]:
        """All lines in the order of the papers' Table V."""
        return (*self.classes, self.macro, self.weighted)


def classification_report(labels: ArrayLike, probabilities: ArrayLike, names: Sequence[str] | None = None) -> Report:
    """Return precision, recall, F1 and support by class with their averages.

    Args:
        labels: (n,).
        probabilities: (n, c).
        names: (c,) class names; "0", "1", ... by default.

    Raises:
        DataError: See `inputs.check_rows`; a wrong number of names.

    Source: CSNAS, Table V.
    """
    truth, scores = check_rows(labels, probabilities)
    called = check_names(names, scores.shape[1])
    counts = ClassCounter(truth, decide(scores), scores.shape[1])(np.ones((1, len(truth))))
    precision, recall, f1, support = counts.precision[0], counts.recall[0], counts.f1[0], counts.support[0]
    return Report(
        classes=tuple(
            ReportRow(name, float(precision[k]), float(recall[k]), float(f1[k]), int(support[k]))
            for k, name in enumerate(called)
        ),
        macro=ReportRow(
            "Macro average",
            _mean(precision, counts.occurs[0].astype(np.float64)),
            float(balanced_accuracy_of(counts)[0]),
            float(macro_f1_of(counts)[0]),
            len(truth),
        ),
        weighted=ReportRow(
            "Weighted average", _mean(precision, support), _mean(recall, support), _mean(f1, support), len(truth)
        ),
        accuracy=float(counts.hits.sum() / len(truth)),
    )


def _mean(column: Floats, weights: Floats) -> float:
    return float((np.nan_to_num(column) * weights).sum() / weights.sum())
