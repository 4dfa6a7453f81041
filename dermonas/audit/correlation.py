"""Which score ranks networks as training does, and is the difference more than chance?

A score that is chosen because it did best on some networks must be judged on others. So the networks are halved
again and again: on one half the best score is chosen, on the other it is compared. The bootstrap goes round the
whole of it: networks are resampled, each half with its own, and every resample chooses anew, so that an interval holds
the uncertainty of choosing too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from dermonas.audit.columns import Column, Table
from dermonas.errors import DataError
from dermonas.metrics.inputs import Floats
from dermonas.metrics.intervals import GroupBootstrap, Interval, interval_of
from dermonas.metrics.ranks import RankCorrelation, kendall_statistic, rank_correlation
from dermonas.metrics.statistic import Statistic
from dermonas.seeding import numpy_generator

RIVALS = ("parameters", "best count", "papers' score")
"""What a chosen score is compared with."""


@dataclass(frozen=True)
class Choice:
    """The outcome of repeated half splits.

    Attributes:
        splits: Their number.
        chosen: How often each score was chosen, most often first.
        tau: Mean Kendall tau of the chosen score on the halves that did not choose it.
        rivals: The same of each of `RIVALS`.
        differences: Chosen minus rival, with the interval of the mean over splits.
        detectable: Smallest difference that so many networks show in 80 % of tries; see `detectable_difference`.
    """

    splits: int
    chosen: dict[str, int]
    tau: Interval
    rivals: dict[str, Interval]
    differences: dict[str, Interval]
    detectable: float

    @property
    def shown(self) -> bool:
        """Whether the chosen score is better than every rival beyond doubt."""
        return all(difference.lo > 0 for difference in self.differences.values())


def correlations(table: Table, *, replicates: int = 2000, seed: int = 0) -> dict[str, RankCorrelation]:
    """Return each column's tau and rho with the accuracies; networks without the score are left out."""
    return {
        name: rank_correlation(column.values, table.quality, nan="omit", replicates=replicates, seed=seed)
        for name, column in table.columns.items()
        if _usable(column)
    }


def choose(table: Table, *, splits: int = 20, replicates: int = 2000, seed: int = 0) -> Choice:
    """Choose scores on halves of the networks and compare them on the others.

    Candidates are all label-free scores that are measured, untrained ones among them; counts and sizes are rivals.

    Args:
        table: At least 8 networks.
        splits: Random halvings.
        replicates: Resamples of the networks.
        seed: Of splits and resamples.

    Raises:
        DataError: Fewer networks.
    """
    networks = len(table.quality)
    if networks < 8:
        raise DataError(f"{networks} networks: choosing on halves needs at least 8")
    candidates = [column for column in table.of_kind("paper", "contrastive", "untrained") if _usable(column)]
    counts = [column for column in table.of_kind("count") if _usable(column)]
    groups = {
        "chosen": candidates,
        RIVALS[0]: [table.columns["parameters"]],
        RIVALS[1]: counts,
        RIVALS[2]: [table.paper],
    }
    statistics = {column.name: _tau(column, table.quality) for group in groups.values() for column in group}
    halves = _halves(networks, splits, seed)
    bootstrap = GroupBootstrap(None, networks, replicates=replicates, seed=seed)
    chosen = Counter(
        candidates[int(best)].name
        for half in halves
        for best in _best(candidates, statistics, half[None, :].astype(np.float64))[0]
    )
    plain = _judged(groups, statistics, halves, np.ones((1, networks)))
    blocks = [_judged(groups, statistics, halves, weights) for weights in bootstrap.weights()]
    draws = {name: np.concatenate([block[name] for block in blocks]) for name in groups}

    def found(values: Floats, resampled: Floats) -> Interval:
        return interval_of(float(values[0]), resampled, bootstrap, 0.95)

    return Choice(
        splits=splits,
        chosen=dict(chosen.most_common()),
        tau=found(plain["chosen"], draws["chosen"]),
        rivals={name: found(plain[name], draws[name]) for name in RIVALS},
        differences={
            name: found(plain["chosen"] - plain[name], draws["chosen"] - draws[name]) for name in RIVALS
        },
        detectable=detectable_difference(networks),
    )  # fmt: skip


def detectable_difference(networks: int, *, level: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest difference of two Kendall taus that a test at this level shows with this power.

    For two scores that know nothing of each other, each with the variance of tau under independence,
    2 (2 n + 5) / (9 n (n - 1)); two that agree can be told apart at less. All networks count as judging: over many
    halvings every network is on the judging side of half of them.

    Source: Kendall and Gibbons, Rank Correlation Methods (1990), 4.4 (the variance).
    """
    variance = 2 * (2 * networks + 5) / (9 * networks * (networks - 1))
    return float((norm.ppf(1 - level / 2) + norm.ppf(power)) * math.sqrt(2 * variance))


def recommendation(table: Table, found: dict[str, RankCorrelation]) -> str:
    """Return one line: the cheapest label-free score whose interval reaches the best tau."""
    free = [column for column in table.columns.values() if column.kind != "supervised" and column.name in found]
    best = max(free, key=lambda column: found[column.name].kendall.estimate)
    top = found[best.name].kendall.estimate
    reaching = [column for column in free if found[column.name].kendall.hi >= top]
    cheap = min(reaching, key=lambda column: (column.seconds, -found[column.name].kendall.estimate))
    here = found[cheap.name].kendall
    return (
        f"cheapest score whose interval reaches the best tau, {top:.2f} ({best.name}, {best.seconds:.1f} s): "
        f"{cheap.name}, {cheap.seconds:.1f} s, tau {here.estimate:.2f} [{here.lo:.2f}, {here.hi:.2f}]"
    )


def _usable(column: Column) -> bool:
    known = column.values[~np.isnan(column.values)]
    return len(known) >= 2 and bool(np.ptp(known) > 0)


def _tau(column: Column, quality: Floats) -> Statistic:
    """Bind tau to the networks that have the score; the others have no weight."""
    there = ~np.isnan(column.values)
    inner = kendall_statistic(column.values[there], quality[there])
    return Statistic(len(quality), lambda weights: inner(weights[:, there]))


def _halves(networks: int, splits: int, seed: int) -> np.ndarray:
    """Return (splits, n) booleans: who chooses."""
    rng = numpy_generator(seed, "half splits")
    halves = np.zeros((splits, networks), dtype=bool)
    for row in halves:
        row[rng.permutation(networks)[: networks // 2]] = True
    return halves


def _best(columns: Sequence[Column], statistics: dict[str, Statistic], weights: Floats) -> tuple[np.ndarray, Floats]:
    """Return which column is best in each resample, (b,), and all their taus, (columns, b)."""
    taus = np.stack([np.nan_to_num(statistics[column.name](weights), nan=-1.0) for column in columns])
    return taus.argmax(axis=0), taus


def _judged(
    groups: dict[str, list[Column]], statistics: dict[str, Statistic], halves: np.ndarray, weights: Floats
) -> dict[str, Floats]:
    """Return the mean over splits of each group's tau on the judging half, (b,) each."""
    found = {name: np.zeros(len(weights)) for name in groups}
    for half in halves:
        for name, columns in groups.items():
            best, _ = _best(columns, statistics, weights * half)
            _, taus = _best(columns, statistics, weights * ~half)
            found[name] += taus[best, np.arange(len(weights))]
    return {name: total / len(halves) for name, total in found.items()}
