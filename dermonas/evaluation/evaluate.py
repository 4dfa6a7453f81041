"""The figures of a model on one split, each headline with an interval that resamples lesions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dermonas.errors import DataError
from dermonas.evaluation.predictions import Predictions
from dermonas.metrics import scores
from dermonas.metrics.calibration import Reliability, calibrated_error, reliability
from dermonas.metrics.inputs import Floats, Ints
from dermonas.metrics.intervals import GroupBootstrap, Interval, intervals
from dermonas.metrics.report import Report, classification_report
from dermonas.metrics.roc import OperatingPoint
from dermonas.metrics.scores import MacroAuroc
from dermonas.metrics.statistic import Metric, bind, ece, headline_metrics
from dermonas.metrics.subgroups import Subgroup, age_bands, subgroup_table
from dermonas.metrics.temperature import Temperature, scaled

MELANOMA = "MEL"
"""ISIC's name of the class that has an F1 and a sensitivity of its own."""

# What subgroups are compared by. Not ECE or a threshold chosen anew in each: both flatter or harm small subgroups.
_SUBGROUP_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "melanoma_f1")

_SUBGROUP_COLUMNS = {"sex": "sex", "age_approx": "age", "anatom_site_general": "site"}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The figures of one split. Probabilities are the calibrated ones wherever nothing else is said.

    Attributes:
        split: Its name.
        predictions: Its labelled rows.
        groups: Number of lesions among them.
        headline: Interval by metric name (see `metrics.statistic.headline_metrics`), and "ece_before": the
            calibration error at temperature 1.
        report: Precision, recall, F1 and support by class.
        confusion: (classes, classes) images: label down, decision across.
        areas: One-vs-rest areas under the ROC curve by class.
        melanoma: The class with figures of its own, or None where the classes lack it.
        melanoma_point: Its operating point at 90 % specificity, threshold chosen on these rows; None without it.
        before: Confidence against accuracy at temperature 1.
        after: The same at the temperature.
        noise_before: Mean and 95th percentile of the calibration error that such confidences show if all are true.
        noise_after: The same at the temperature.
        subgroups: Figures by sex, age band and site; empty without metadata.
        warnings: What a reader must know.
    """

    split: str
    predictions: Predictions
    groups: int
    headline: Mapping[str, Interval]
    report: Report
    confusion: Ints
    areas: MacroAuroc
    melanoma: str | None
    melanoma_point: OperatingPoint | None
    before: Reliability
    after: Reliability
    noise_before: tuple[float, float]
    noise_after: tuple[float, float]
    subgroups: tuple[Subgroup, ...]
    warnings: tuple[str, ...]

    @property
    def temperature(self) -> Temperature:
        """How the probabilities were calibrated."""
        return self.predictions.temperature

    def metrics(self, prefix: str | None = None) -> dict[str, float]:
        """Return finite figures by MLflow name, such as test/accuracy, test/accuracy/lo and test/accuracy/hi.

        Beside the headlines: `<split>/ece_noise` (and `/p95`), the calibration error that a perfectly calibrated
        model would show on as many images; an `ece` up to there is no sign of miscalibration.

        Args:
            prefix: In place of the split's name.
        """
        head = self.split if prefix is None else prefix
        found: dict[str, float] = {}
        for name, interval in self.headline.items():
            found[f"{head}/{name}"] = interval.estimate
            found[f"{head}/{name}/lo"], found[f"{head}/{name}/hi"] = interval.lo, interval.hi
        found[f"{head}/ece_noise"], found[f"{head}/ece_noise/p95"] = self.noise_after
        return {name: value for name, value in found.items() if math.isfinite(value)}


def evaluate(
    predictions: Predictions, split: str = "test", *, melanoma: str = MELANOMA, resamples: int = 2000, seed: int = 0
) -> Evaluation:
    """Return the figures of a split; rows of other splits are not looked at.

    Args:
        predictions: The table.
        split: Which rows.
        melanoma: The class with an F1 and a sensitivity of its own; left out where the classes lack it.
        resamples: Bootstrap resamples of the lesions.
        seed: Of the resamples.

    Raises:
        ConfigError: resamples < 1.
        DataError: The split has no row, or none with a label.
    """
    whole = predictions.split(split)
    known = whole.labels() >= 0
    if not known.any():
        raise DataError(f"no image of split {split} of {whole.dataset} has a label: nothing to score them by")
    rows = whole.rows(known)
    labels, probabilities, groups = rows.labels(), rows.probabilities(), rows.groups()
    raw = scaled(rows.logits(), 1.0)
    chosen = headline_metrics(rows.classes, melanoma)
    bootstrap = GroupBootstrap(groups, len(rows), replicates=resamples, seed=seed)
    statistics = {**bind(chosen, labels, probabilities), "ece_before": ece(labels, raw)}
    headline = intervals(statistics, bootstrap)
    index = rows.classes.index(melanoma) if melanoma in rows.classes else None
    return Evaluation(
        split=split,
        predictions=rows,
        groups=bootstrap.groups,
        headline=headline,
        report=classification_report(labels, probabilities, rows.classes),
        confusion=scores.confusion_matrix(labels, probabilities),
        areas=scores.macro_auroc(labels, probabilities, rows.classes),
        melanoma=None if index is None else melanoma,
        melanoma_point=None if index is None else scores.sensitivity_at_specificity(labels, probabilities, index),
        before=reliability(labels, raw),
        after=reliability(labels, probabilities),
        noise_before=calibrated_error(raw, seed=seed),
        noise_after=calibrated_error(probabilities, seed=seed),
        subgroups=_subgroups(rows, labels, probabilities, groups, chosen, resamples, seed),
        warnings=_warnings(rows, split, int((~known).sum()), labels, groups, headline),
    )


def _subgroups(
    rows: Predictions,
    labels: Ints,
    probabilities: Floats,
    groups: list[str],
    metrics: Mapping[str, Metric],
    resamples: int,
    seed: int,
) -> tuple[Subgroup, ...]:
    """Return the table over the columns that say anything."""
    columns: dict[str, list[str | float | None]] = {}
    for column, name in _SUBGROUP_COLUMNS.items():
        if column in rows.frame.columns and rows.frame[column].notna().any():
            values = rows.frame[column].tolist()
            columns[name] = list(age_bands(values)) if column == "age_approx" else values
    kept = {name: metrics[name] for name in _SUBGROUP_METRICS if name in metrics}
    return subgroup_table(labels, probabilities, columns, kept, groups=groups, replicates=resamples, seed=seed)


def _warnings(
    rows: Predictions, split: str, unlabelled: int, labels: Ints, groups: list[str], headline: Mapping[str, Interval]
) -> tuple[str, ...]:
    found = list(rows.notes)
    if unlabelled:
        found.append(f"{unlabelled} images of {split} have no label and are left out")
    counts = np.bincount(labels, minlength=len(rows.classes)).tolist()
    for size, text in (
        (0, "no image of {} in {}: the figures are over the other classes"),
        (1, "a single image of {} in {}: that class is right or wrong by chance"),
    ):
        few = [name for name, count in zip(rows.classes, counts, strict=True) if count == size]
        if few:
            found.append(text.format(", ".join(few), split))
    if len(set(groups)) == 1:
        found.append(f"{split} holds one group of images only: no intervals")
    undefined = {name: interval for name, interval in headline.items() if interval.undefined}
    for name, interval in undefined.items():
        if not math.isnan(interval.estimate):
            share = f"{interval.undefined} of {interval.replicates} resamples, which lack a class"
            what = "has no interval, as it does not exist" if math.isnan(interval.lo) else "does not exist"
            found.append(f"{name} {what} in {share}")
    above = [name for name in ("ece_before", "ece") if headline[name].lo > headline[name].estimate]
    if above:
        found.append(f"{' and '.join(above)}: the interval lies above, as resampling adds noise to a calibration error")
    if rows.temperature.warning:
        found.append(f"calibration: {rows.temperature.warning}")
    return tuple(found)
