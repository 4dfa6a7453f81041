"""Two models on the same images: is the difference more than chance?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, t

from dermonas.errors import ConfigError, DataError
from dermonas.metrics.inputs import Bools, Floats, check_share
from dermonas.metrics.intervals import GroupBootstrap, Interval, evaluate, interval_of
from dermonas.metrics.statistic import Statistic


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of equal accuracy.

    Attributes:
        only_first: Rows that only the first model has right.
        only_second: Rows that only the second model has right.
        p_value: Two-sided, in [0, 1].
    """

    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True)
class PairedDifference:
    """First minus second model on the same resamples.

    Attributes:
        first: The first model's value.
        second: The second model's value.
        difference: Interval of first minus second; its estimate is the difference.
        p_value: Two-sided, of no difference; at least 2 / (replicates + 1). NaN where no interval can be made.
        probability_first_higher: Share of resamples in which the first is higher, equal ones counting half.
    """

    first: float
    second: float
    difference: Interval
    p_value: float
    probability_first_higher: float


@dataclass(frozen=True)
class ResampledT:
    """The corrected resampled t-test.

    Attributes:
        mean: Mean difference.
        statistic: t; infinite where all differences are equal and not 0.
        degrees: Runs - 1.
        p_value: Two-sided.
    """

    mean: float
    statistic: float
    degrees: int
    p_value: float


def mcnemar(first_right: ArrayLike, second_right: ArrayLike, *, method: Literal["mid-p", "exact"] = "mid-p") -> McNemar:
    """Test whether two models are right equally often.

    Takes rows as independent: with several images a lesion the p-value is too small, and `paired_bootstrap` over
    lesions is the test to trust (simulated, 100 lesions of 1 to 7 images, no difference: McNemar below .05 in 24 % of
    rounds, the bootstrap in 7 %).

    Args:
        first_right: (n,) booleans, rows that the first model has right.
        second_right: (n,) the same of the second, same rows.
        method: "mid-p" keeps the level and has more power than "exact", which never exceeds it.

    Raises:
        ConfigError: An unknown method.
        DataError: No rows, different shapes, or values that are not boolean.

    Source: Fagerlund, Lydersen and Laake, BMC Medical Research Methodology 13:91 (2013).
    """
    first, second = _booleans(first_right), _booleans(second_right)
    if first.shape != second.shape:
        raise DataError(f"{first.size} and {second.size} rows: McNemar's test needs the same images")
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    if method not in ("mid-p", "exact"):
        raise ConfigError(f"McNemar method {method!r} is unknown: mid-p and exact exist")
    if b + c == 0:
        return McNemar(0, 0, 1.0)
    tail, point = binom.cdf(min(b, c), b + c, 0.5), binom.pmf(min(b, c), b + c, 0.5)
    p_value = min(1.0, 2 * tail)
    if method == "mid-p":
        p_value = 1 - point / 2 if b == c else 2 * tail - point
    return McNemar(b, c, float(p_value))


def paired_bootstrap(
    first: Statistic, second: Statistic, bootstrap: GroupBootstrap, *, level: float = 0.95
) -> PairedDifference:
    """Compare a metric of two models on the same resamples of groups.

    Args:
        first: The metric bound to the first model's rows.
        second: Any metric, usually the same one, bound to the second's: same images in the same order.
        bootstrap: Resamples of these images' groups.
        level: Of the percentile interval.

    Returns:
        The difference. Its p-value is twice the smaller tail of the resampled differences beyond 0, with one
        resample counted on either side, so that it is never 0; it agrees with the interval: p < 1 - level where
        the interval excludes 0, up to rounding.

    Raises:
        ConfigError: A level outside (0, 1).
        DataError: Different numbers of rows.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 15.4 (an interval turned into a test); the
    added one, Davison and Hinkley, Bootstrap Methods and their Application (1997), 4.2.
    """
    check_share(level, "level")
    gap = first - second
    draws = evaluate({"": gap}, bootstrap.weights())[""]
    return difference_of(first.value, second.value, draws, bootstrap, level)


def difference_of(
    first: float, second: float, draws: Floats, bootstrap: GroupBootstrap, level: float
) -> PairedDifference:
    """Return what `paired_bootstrap` does, from differences that are already resampled.

    Args:
        first: The first model's value.
        second: The second's.
        draws: (replicates,) first minus second on each resample, NaN where it does not exist.
        bootstrap: The resamples.
        level: Of the percentile interval, in (0, 1).
    """
    found = interval_of(first - second, draws, bootstrap, level)
    values = draws[~np.isnan(draws)]
    p_value = higher = float("nan")
    if not np.isnan(found.lo):
        tails = (values <= 0).sum(), (values >= 0).sum()
        p_value = min(1.0, 2 * (int(min(tails)) + 1) / (len(values) + 1))
        higher = float((values > 0).mean() + 0.5 * (values == 0).mean())
    return PairedDifference(first, second, found, p_value, higher)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values for their number by Holm's step-down rule.

    Sorted rising, the i-th of m (from 0) is multiplied by m - i, and none is smaller than the one before.

    Args:
        p_values: In [0, 1], by comparison.

    Returns:
        Adjusted p-values in [0, 1], in the given order.

    Raises:
        DataError: A p-value that is NaN or outside [0, 1]: a comparison that could not be made must be left out
            knowingly, as it changes the others.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    for name, value in p_values.items():
        if not 0 <= value <= 1:
            raise DataError(f"{name}: p-value {value} cannot be corrected; leave out comparisons that have none")
    names = sorted(p_values, key=lambda name: p_values[name])
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(names):
        largest = max(largest, min(1.0, (len(names) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def corrected_resampled_t(differences: Sequence[float], *, train: int, test: int) -> ResampledT:
    """Test the mean difference of two recipes over several runs that share their data.

    Runs on overlapping data are not independent, so the variance is enlarged by the test / train ratio:
    t = mean / sqrt((1 / runs + test / train) * variance).

    Args:
        differences: (runs,) first minus second recipe, one a run (seed or split).
        train: Rows trained on in a run.
        test: Rows measured on in a run.

    Raises:
        ConfigError: train or test < 1.
        DataError: Fewer than two differences, or one that is not finite.

    Source: Nadeau and Bengio, Inference for the Generalization Error, Machine Learning 52 (2003) 239-281.
    """
    if train < 1 or test < 1:
        raise ConfigError(f"train {train} and test {test} rows: both must be at least 1")
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        raise DataError(f"differences {list(differences)}: at least two finite ones are needed, one a run")
    mean, degrees = float(values.mean()), len(values) - 1
    if np.ptp(values) == 0:
        return ResampledT(mean, float(np.copysign(np.inf, mean)) if mean else 0.0, degrees, 0.0 if mean else 1.0)
    statistic = mean / float(np.sqrt((1 / len(values) + test / train) * values.var(ddof=1)))
    return ResampledT(mean, statistic, degrees, float(2 * t.sf(abs(statistic), degrees)))


def _booleans(right: ArrayLike) -> Bools:
    array = np.asarray(right)
    if array.dtype != np.bool_ or array.ndim != 1 or not len(array):
        raise DataError(f"{array.dtype} of shape {array.shape}: one boolean a row, right or wrong, is needed")
    return array
