"""A model's figures: by seed, their mean and spread, and the lesion bootstrap's interval of the mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dermonas.comparison.candidates import Candidate
from dermonas.metrics.inputs import Floats
from dermonas.metrics.intervals import GroupBootstrap, Interval, evaluate, interval_of
from dermonas.metrics.statistic import (
    TOP5_CLASSES,
    Metric,
    Statistic,
    accuracy,
    balanced_accuracy,
    class_f1,
    top_k,
)


@dataclass(frozen=True)
class Score:
    """One figure of one model.

    Attributes:
        by_seed: One value a training, in the candidate's order.
        mean: Their mean.
        sd: Their standard deviation (n - 1); None of a single training.
        interval: Of the mean, for these trainings and other lesions: all trainings on the same resamples.
    """

    by_seed: tuple[float, ...]
    mean: float
    sd: float | None
    interval: Interval

    @property
    def complement(self) -> Score:
        """The error that belongs to an accuracy, 1 - value."""
        interval = self.interval
        return Score(
            by_seed=tuple(1 - value for value in self.by_seed),
            mean=1 - self.mean,
            sd=self.sd,
            interval=replace(interval, estimate=1 - interval.estimate, lo=1 - interval.hi, hi=1 - interval.lo),
        )


@dataclass(frozen=True, eq=False)
class Scored:
    """A model's figure and what the resamples made of it.

    Attributes:
        score: The figure.
        draws: (replicates,) mean over the trainings on each resample, NaN where undefined.
    """

    score: Score
    draws: Floats


def metrics_for(classes: Sequence[str], melanoma: str) -> dict[str, Metric]:
    """Return what is measured: accuracies, melanoma F1 where the class exists, top-5 from ten classes on."""
    found: dict[str, Metric] = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy}
    if melanoma in classes:
        found["melanoma_f1"] = class_f1(list(classes).index(melanoma))
    if len(classes) >= TOP5_CLASSES:
        found["top5_accuracy"] = top_k(5)
    return found


def mean_of(statistics: Sequence[Statistic]) -> Statistic:
    """Return the mean of statistics of the same rows; NaN on a resample where one of them is."""
    return Statistic(
        statistics[0].rows, lambda weights: np.mean([statistic(weights) for statistic in statistics], axis=0)
    )


def score(
    candidates: Sequence[Candidate], metrics: Mapping[str, Metric], bootstrap: GroupBootstrap, level: float
) -> tuple[dict[str, Scored], ...]:
    """Score aligned candidates, all on the same resamples.

    Returns:
        By candidate, in order, and metric.
    """
    seeds = [
        {name: [metric(run.labels, run.probabilities) for run in candidate.runs] for name, metric in metrics.items()}
        for candidate in candidates
    ]
    means = {f"{index} {name}": mean_of(own[name]) for index, own in enumerate(seeds) for name in own}
    draws = evaluate(means, bootstrap.weights())
    scored = []
    for index, own in enumerate(seeds):
        figures = {}
        for name, statistics in own.items():
            values = tuple(statistic.value for statistic in statistics)
            mean, found = float(np.mean(values)), draws[f"{index} {name}"]
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
            figures[name] = Scored(Score(values, mean, sd, interval_of(mean, found, bootstrap, level)), found)
        scored.append(figures)
    return tuple(scored)
