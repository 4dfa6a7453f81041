"""Bootstrap intervals that resample groups.

Images of one lesion are alike: resampling images as if each were news makes intervals too short. Whole groups
(lesions) are drawn instead, with replacement, and a drawn group brings all its rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from dermonas.errors import ConfigError, DataError
from dermonas.metrics.inputs import Floats, Ints, check_share, number_groups
from dermonas.metrics.statistic import Statistic
from dermonas.seeding import numpy_generator

Method = Literal["percentile", "bca"]

# Numbers in one block of weights: 32 MB. Blocks bound the memory and change no result.
_BLOCK = 4_000_000

# An interval from a few lucky resamples would look like knowledge.
_DEFINED_SHARE = 0.5


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval.

    Attributes:
        estimate: The value on the rows as they are; NaN where it does not exist.
        lo: Lower bound; NaN where no interval can be made.
        hi: Upper bound; NaN where no interval can be made.
        level: Nominal coverage, such as 0.95.
        method: "percentile" or "bca".
        replicates: Resamples drawn.
        undefined: Resamples in which the value does not exist, for instance because a class is lacking; they are
            left out. If they are more than half, or there is one group only, the bounds are NaN.
    """

    estimate: float
    lo: float
    hi: float
    level: float
    method: Method
    replicates: int
    undefined: int


class GroupBootstrap:
    """Resamples of the groups of some rows: the same ones for every statistic, whatever the order of the rows.

    With strata, the groups of each stratum are resampled among themselves, as many as there are. With the class as
    stratum no resample lacks a class that has a handful of groups, but intervals then are for test sets of exactly
    this composition, too short for figures that depend on it (simulated, 570 rows of 8 classes: macro F1 covered in
    85 % with and 93 % without strata, balanced accuracy in 90 % either way).

    Args:
        groups: (n,) group names; None makes every row a group.
        rows: n.
        strata: (n,) names of strata, alike within a group; None for one stratum.
        replicates: Resamples.
        seed: Same seed, groups and strata, same resamples.

    Raises:
        ConfigError: replicates < 1.
        DataError: Another number of rows, a row without a group, or a group in two strata.
    """

    def __init__(
        self,
        groups: Sequence[Hashable] | None,
        rows: int,
        *,
        strata: Sequence[Hashable] | None = None,
        replicates: int = 2000,
        seed: int = 0,
    ) -> None:
        if replicates < 1:
            raise ConfigError(f"replicates is {replicates}: at least 1 is needed, 2000 are usual")
        if rows < 1:
            raise DataError("there are no rows to resample")
        self.rows = rows
        self.replicates = replicates
        self.seed = seed
        self._codes = number_groups(groups, rows)
        self.groups = int(self._codes.max()) + 1
        self._strata = _group_strata(self._codes, strata, groups)

    def weights(self) -> Iterator[Floats]:
        """Yield the resamples in blocks (b, n): how often each row was drawn."""
        generators = [numpy_generator(self.seed, "group bootstrap", index) for index in range(len(self._strata))]
        for size in self._sizes(self.replicates):
            drawn = np.zeros((size, self.groups))
            for members, rng in zip(self._strata, generators, strict=True):
                count = len(members)
                picks = rng.integers(0, count, size=(size, count)) + count * np.arange(size)[:, None]
                drawn[:, members] = np.bincount(picks.ravel(), minlength=size * count).reshape(size, count)
            yield drawn[:, self._codes]

    def without_one(self) -> Iterator[Floats]:
        """Yield the jackknife's weights in blocks (b, n): one group left out in each, all groups in turn."""
        start = 0
        for size in self._sizes(self.groups):
            left_out = np.arange(start, start + size)[:, None]
            yield (self._codes[None, :] != left_out).astype(np.float64)
            start += size

    def _sizes(self, total: int) -> Iterator[int]:
        block = max(1, _BLOCK // self.rows)
        for start in range(0, total, block):
            yield min(block, total - start)


def intervals(
    statistics: Mapping[str, Statistic],
    bootstrap: GroupBootstrap,
    *,
    level: float = 0.95,
    method: Method = "percentile",
) -> dict[str, Interval]:
    """Return the interval of each statistic, all on the same resamples.

    Args:
        statistics: By name; bound to the rows of `bootstrap`.
        bootstrap: The resamples.
        level: Nominal coverage, in (0, 1).
        method: "percentile", or "bca": bias-corrected and accelerated, with the acceleration from leaving out one
            group at a time; better for skewed statistics, at the cost of as many more evaluations as there are groups.

    Raises:
        ConfigError: A level outside (0, 1) or an unknown method.
        DataError: A statistic of other rows.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 13.3 and 14.3; resampling clusters:
    Davison and Hinkley, Bootstrap Methods and their Application (1997), 3.8.
    """
    check_share(level, "level")
    if method not in ("percentile", "bca"):
        raise ConfigError(f"interval method {method!r} is unknown: percentile and bca exist")
    draws = evaluate(statistics, bootstrap.weights())
    jackknife = evaluate(statistics, bootstrap.without_one()) if method == "bca" else {}
    return {
        name: interval_of(statistic.value, draws[name], bootstrap, level, jackknife.get(name))
        for name, statistic in statistics.items()
    }


def interval(
    statistic: Statistic, bootstrap: GroupBootstrap, *, level: float = 0.95, method: Method = "percentile"
) -> Interval:
    """Return the interval of one statistic; see `intervals`."""
    return intervals({"": statistic}, bootstrap, level=level, method=method)[""]


def evaluate(statistics: Mapping[str, Statistic], blocks: Iterator[Floats]) -> dict[str, Floats]:
    """Return each statistic's values, (replicates,), over blocks of weights."""
    values: dict[str, list[Floats]] = {name: [] for name in statistics}
    for weights in blocks:
        for name, statistic in statistics.items():
            values[name].append(statistic(weights))
    return {name: np.concatenate(parts) for name, parts in values.items()}


def interval_of(
    estimate: float, draws: Floats, bootstrap: GroupBootstrap, level: float, jackknife: Floats | None = None
) -> Interval:
    """Make an interval from resampled values.

    Args:
        estimate: The value on the rows as they are.
        draws: (replicates,) values on the resamples, NaN where undefined.
        bootstrap: Where the draws come from.
        level: Nominal coverage, in (0, 1).
        jackknife: (groups,) values with one group left out, which make it a BCa interval.
    """
    values = draws[~np.isnan(draws)]
    lo = hi = float("nan")
    if not np.isnan(estimate) and bootstrap.groups > 1 and len(values) >= _DEFINED_SHARE * len(draws):
        levels = np.array([(1 - level) / 2, (1 + level) / 2])
        if jackknife is not None:
            levels = _bca_levels(levels, estimate, values, jackknife)
        lo, hi = np.quantile(values, levels).tolist()
    method: Method = "percentile" if jackknife is None else "bca"
    return Interval(estimate, lo, hi, level, method, len(draws), len(draws) - len(values))


def _bca_levels(levels: Floats, estimate: float, values: Floats, jackknife: Floats) -> Floats:
    """Shift the quantile levels for bias and skew; equal to the percentile's where there is neither."""
    below = (values < estimate).mean() + 0.5 * (values == estimate).mean()
    bias = norm.ppf(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values)))
    known = jackknife[~np.isnan(jackknife)]
    pulls = known.mean() - known if len(known) else np.zeros(1)
    spread = (pulls**2).sum() ** 1.5
    skew = (pulls**3).sum() / (6 * spread) if spread > 0 else 0.0
    shifted = bias + norm.ppf(levels)
    return np.asarray(norm.cdf(bias + shifted / (1 - skew * shifted)), dtype=np.float64)


def _group_strata(
    codes: Ints, strata: Sequence[Hashable] | None, groups: Sequence[Hashable] | None
) -> tuple[Ints, ...]:
    """Return the group numbers of each stratum, strata by name."""
    count = int(codes.max()) + 1
    if strata is None:
        return (np.arange(count),)
    if len(strata) != len(codes):
        raise DataError(f"{len(strata)} strata for {len(codes)} rows")
    numbers = number_groups(strata, len(codes))
    lowest, highest = np.full(count, len(codes)), np.full(count, -1)
    np.minimum.at(lowest, codes, numbers)
    np.maximum.at(highest, codes, numbers)
    mixed = np.flatnonzero(lowest != highest)
    if len(mixed):
        row = int(np.flatnonzero(codes == mixed[0])[0])
        name = row if groups is None else groups[row]
        raise DataError(f"group {name} lies in two strata: give all its rows the stratum of its commonest label")
    return tuple(np.flatnonzero(lowest == stratum) for stratum in range(int(numbers.max()) + 1))
