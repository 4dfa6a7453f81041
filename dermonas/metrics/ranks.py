"""Does a score rank networks as training would?

A score and a quality (final accuracy) of the same n networks, both the higher the better: turn a loss round before.
Values that are not finite, such as the score of a network whose training diverged, are an error by default; with
`nan="omit"` the network is left out, and the number of those is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from dermonas.errors import ConfigError, DataError
from dermonas.metrics.inputs import Floats, Ints
from dermonas.metrics.intervals import GroupBootstrap, Interval, interval
from dermonas.metrics.statistic import Statistic

NanPolicy = Literal["raise", "omit"]


@dataclass(frozen=True)
class RankCorrelation:
    """Rank correlations of a score with a quality; NaN if either is constant.

    Attributes:
        kendall: Tau-b, in [-1, 1], with its bootstrap interval over networks.
        spearman: Rho, in [-1, 1], with its bootstrap interval over networks.
        networks: Pairs that were used.
        omitted: Pairs that were left out because a value was not finite.
    """

    kendall: Interval
    spearman: Interval
    networks: int
    omitted: int


def rank_correlation(
    score: ArrayLike,
    quality: ArrayLike,
    *,
    nan: NanPolicy = "raise",
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> RankCorrelation:
    """Return Kendall's tau-b and Spearman's rho with percentile intervals that resample networks.

    For the difference of two scores' correlations with one quality, give `kendall_statistic` of both to
    `paired.paired_bootstrap`.

    Args:
        score: (n,), n >= 2.
        quality: (n,).
        nan: See the module.
        replicates: Resamples.
        level: Nominal coverage.
        seed: Of the resamples.

    Raises:
        ConfigError: An unknown policy, replicates < 1, or a level outside (0, 1).
        DataError: Other shapes, fewer than two pairs, or values that are not finite where they may not be.
    """
    x, y, omitted = _pairs(score, quality, nan)
    bootstrap = GroupBootstrap(None, len(x), replicates=replicates, seed=seed)
    return RankCorrelation(
        kendall=interval(kendall_statistic(x, y), bootstrap, level=level),
        spearman=interval(spearman_statistic(x, y), bootstrap, level=level),
        networks=len(x),
        omitted=omitted,
    )


def kendall_statistic(score: ArrayLike, quality: ArrayLike) -> Statistic:
    """Bind Kendall's tau-b, (concordant - discordant) / sqrt(pairs untied in score * pairs untied in quality).

    Needs n x n numbers. A row that a resample holds twice is tied with itself and counts in neither.

    Raises:
        DataError: Other shapes, fewer than two pairs, or values that are not finite.
    """
    x, y, _ = _pairs(score, quality, "raise")
    signs = [np.sign(values[:, None] - values[None, :]) for values in (x, y)]
    agree, free_x, free_y = signs[0] * signs[1], np.abs(signs[0]), np.abs(signs[1])

    def of(weights: Floats) -> Floats:
        top, a, b = (((weights @ matrix) * weights).sum(axis=1) for matrix in (agree, free_x, free_y))
        return _correlation(top, a, b)

    return Statistic(len(x), of)


def spearman_statistic(score: ArrayLike, quality: ArrayLike) -> Statistic:
    """Bind Spearman's rho: the correlation of mid-ranks, which are taken anew in each resample.

    Raises:
        DataError: Other shapes, fewer than two pairs, or values that are not finite.
    """
    x, y, _ = _pairs(score, quality, "raise")
    codes = [np.unique(values, return_inverse=True)[1] for values in (x, y)]

    def of(weights: Floats) -> Floats:
        total = weights.sum(axis=1, keepdims=True)
        u, v = (_mid_ranks(weights, code) - (total + 1) / 2 for code in codes)
        return _correlation((weights * u * v).sum(axis=1), (weights * u * u).sum(axis=1), (weights * v * v).sum(axis=1))

    return Statistic(len(x), of)


def spearman(score: ArrayLike, quality: ArrayLike) -> float:
    """Return Spearman's rho, in [-1, 1]; nan where either is constant.

    Raises:
        DataError: See `spearman_statistic`.
    """
    statistic = spearman_statistic(score, quality)
    return float(statistic.of(np.ones((1, statistic.rows)))[0])


def regret_at_k(score: ArrayLike, quality: ArrayLike, k: int, *, nan: NanPolicy = "raise") -> float:
    """Return how far the best of the k highest-scored networks is below the best of all.

    Where equal scores straddle the k-th place, it is the mean over the ways to choose among them; a constant score
    so has the regret of picking k networks at random.

    Args:
        score: (n,).
        quality: (n,), its unit is the result's.
        k: In 1..n.
        nan: See the module.

    Returns:
        A number >= 0.

    Raises:
        ConfigError: k outside 1..n, or an unknown policy.
        DataError: See `rank_correlation`.
    """
    x, y, _ = _pairs(score, quality, nan)
    sure, edge, places = _top(x, k)
    floor = y[sure].max() if sure.any() else -np.inf
    ranked = np.maximum(np.sort(y[edge]), floor)
    # The j-th lowest of m (from 1) is the highest of `places` drawn ones in C(j - 1, places - 1) of C(m, places) draws.
    m = len(ranked)
    j = np.arange(places, m + 1)
    log_ways = gammaln(j) - gammaln(places) - gammaln(j - places + 1)
    all_ways = gammaln(m + 1) - gammaln(places + 1) - gammaln(m - places + 1)
    expected = float((np.exp(log_ways - all_ways) * ranked[places - 1 :]).sum())
    return max(0.0, float(y.max()) - expected)


def top_k_overlap(score: ArrayLike, quality: ArrayLike, k: int, *, nan: NanPolicy = "raise") -> float:
    """Return the share of the k best networks that are among the k highest-scored.

    Equal values that straddle the k-th place each count with the share of places there are for them; a constant
    score so has k / n, as random choice.

    Args:
        score: (n,).
        quality: (n,).
        k: In 1..n.
        nan: See the module.

    Returns:
        In [0, 1].

    Raises:
        ConfigError: k outside 1..n, or an unknown policy.
        DataError: See `rank_correlation`.
    """
    x, y, _ = _pairs(score, quality, nan)
    shares = []
    for values in (x, y):
        sure, edge, places = _top(values, k)
        shares.append(np.where(sure, 1.0, np.where(edge, places / edge.sum(), 0.0)))
    return float((shares[0] * shares[1]).sum() / k)


def _pairs(score: ArrayLike, quality: ArrayLike, nan: NanPolicy) -> tuple[Floats, Floats, int]:
    if nan not in ("raise", "omit"):
        raise ConfigError(f"NaN policy {nan!r} is unknown: raise and omit exist")
    x, y = np.asarray(score, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise DataError(f"scores of shape {x.shape} and qualities of shape {y.shape}: one of each a network is needed")
    finite = np.isfinite(x) & np.isfinite(y)
    wrong = np.flatnonzero(~finite)
    if len(wrong) and nan == "raise":
        raise DataError(f"network {wrong[0]}: score {x[wrong[0]]}, quality {y[wrong[0]]}; nan='omit' leaves it out")
    x, y = x[finite], y[finite]
    if len(x) < 2:
        raise DataError(f"{len(x)} networks with finite values: a ranking needs at least two")
    return x, y, len(wrong)


def _top(values: Floats, k: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return who is surely among the k highest, who is tied at the k-th place, and the places for the tied."""
    if not 1 <= k <= len(values):
        raise ConfigError(f"k is {k}: it must lie in 1..{len(values)}")
    last = np.sort(values)[-k]
    sure = values > last
    return sure, values == last, k - int(sure.sum())


def _mid_ranks(weights: Floats, codes: Ints) -> Floats:
    """Return each row's mid-rank, (b, n), in a sample where row i occurs weights[i] times."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(codes.max() + 1))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, codes]


def _correlation(top: Floats, first: Floats, second: Floats) -> Floats:
    out = np.full(top.shape, np.nan)
    # Sums of whole and half numbers: what is below this is a constant, not a spread.
    np.divide(top, np.sqrt(first * second), out=out, where=(first > 1e-6) & (second > 1e-6))
    return np.clip(out, -1, 1)
