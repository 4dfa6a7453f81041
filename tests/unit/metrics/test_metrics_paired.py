"""Paired tests against scipy and hand-worked examples."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_rows import random_rows
from scipy import stats

from dermonas.errors import ConfigError, DataError
from dermonas.metrics.intervals import GroupBootstrap
from dermonas.metrics.paired import corrected_resampled_t, holm, mcnemar, paired_bootstrap
from dermonas.metrics.statistic import Statistic, accuracy, balanced_accuracy
from dermonas.seeding import numpy_generator


def verdicts(both: int, only_first: int, only_second: int, neither: int = 0) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, only_first, only_second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_mcnemar_by_hand():
    # 1 against 5 discordant rows: 2 * (C(6,0) + C(6,1)) / 64 = 14/64, less C(6,1) / 64 for mid-p.
    exact = mcnemar(*verdicts(10, 1, 5, 3), method="exact")
    assert (exact.only_first, exact.only_second) == (1, 5)
    assert exact.p_value == pytest.approx(14 / 64)
    assert mcnemar(*verdicts(10, 1, 5, 3)).p_value == pytest.approx(8 / 64)
    # Equal numbers: exact 1, mid-p 1 - C(4,2) / 32.
    assert mcnemar(*verdicts(0, 2, 2), method="exact").p_value == 1
    assert mcnemar(*verdicts(0, 2, 2)).p_value == pytest.approx(1 - 6 / 32)
    assert mcnemar(*verdicts(7, 0, 0, 2)).p_value == 1


@given(st.integers(0, 30), st.integers(0, 30))
def test_exact_mcnemar_is_the_binomial_test(b, c):
    if b + c:
        got = mcnemar(*verdicts(3, b, c), method="exact")
        assert got.p_value == pytest.approx(stats.binomtest(b, b + c).pvalue)
        mid = mcnemar(*verdicts(3, b, c)).p_value
        assert 0 < mid <= got.p_value
        assert mcnemar(*verdicts(3, c, b)).p_value == pytest.approx(mid)


def test_mcnemar_refuses():
    with pytest.raises(DataError, match="2 and 3 rows"):
        mcnemar(np.array([True, False]), np.array([True, False, True]))
    with pytest.raises(DataError, match="one boolean a row"):
        mcnemar([1, 0], [1, 1])
    with pytest.raises(ConfigError, match="McNemar method 'chi2'"):
        mcnemar([True], [True], method="chi2")


def mean_of(values: np.ndarray) -> Statistic:
    return Statistic(len(values), lambda weights: (weights @ values) / weights.sum(axis=1))


def test_a_model_equals_itself():
    labels, probabilities = random_rows(60, 4, seed=1)
    metric = balanced_accuracy(labels, probabilities)
    got = paired_bootstrap(metric, metric, GroupBootstrap(None, 60))
    assert (got.difference.estimate, got.difference.lo, got.difference.hi) == (0, 0, 0)
    assert got.p_value == 1
    assert got.probability_first_higher == 0.5


def test_pairing_sees_what_separate_intervals_do_not():
    rng = numpy_generator(2, "pairs")
    labels, weak = random_rows(400, 4, seed=2)
    fixed = np.flatnonzero((weak.argmax(axis=1) != labels) & (rng.random(400) < 0.15))
    strong = weak.copy()
    strong[fixed] = np.eye(4)[labels[fixed]]
    groups = (np.arange(400) // 2).tolist()
    bootstrap = GroupBootstrap(groups, 400)
    got = paired_bootstrap(accuracy(labels, strong), accuracy(labels, weak), bootstrap)
    assert got.difference.estimate == pytest.approx(got.first - got.second)
    assert got.first - got.second == pytest.approx(len(fixed) / 400)
    assert got.difference.lo > 0
    assert got.p_value == pytest.approx(2 / 2001)
    assert got.probability_first_higher == 1
    back = paired_bootstrap(accuracy(labels, weak), accuracy(labels, strong), bootstrap)
    assert (back.difference.lo, back.difference.hi) == pytest.approx((-got.difference.hi, -got.difference.lo))
    assert back.probability_first_higher == 0
    assert back.p_value == got.p_value


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2, 0.25, 0.3, 0.5])
def test_the_p_value_agrees_with_interval_and_t_test(shift):
    values = numpy_generator(3, "gap").normal(size=60)
    values = values - values.mean() + shift
    got = paired_bootstrap(mean_of(values), mean_of(np.zeros(60)), GroupBootstrap(None, 60, replicates=4000))
    assert (got.difference.lo > 0) == (got.p_value < 0.05)
    assert got.p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.03)


def test_lesions_of_several_images_fool_mcnemar_and_not_the_lesion_bootstrap():
    """Two equally good models that err on different lesions, all images of one alike."""
    rng, rounds = numpy_generator(4, "level"), 150
    rejected = {"mcnemar": 0, "bootstrap": 0}
    for index in range(rounds):
        groups = np.repeat(np.arange(80), rng.integers(1, 8, 80))
        lean = 1.5 * rng.normal(size=80)[groups]
        first, second = (rng.random(len(groups)) < 1 / (1 + np.exp(-1 - sign * lean)) for sign in (1, -1))
        bootstrap = GroupBootstrap(groups.tolist(), len(groups), replicates=300, seed=index)
        pair = paired_bootstrap(mean_of(first.astype(float)), mean_of(second.astype(float)), bootstrap)
        rejected["bootstrap"] += pair.p_value < 0.05
        rejected["mcnemar"] += mcnemar(first, second).p_value < 0.05
    # 150 rounds at 5 % have a standard error of 1.8 points.
    assert rejected["bootstrap"] / rounds <= 0.10
    assert rejected["mcnemar"] / rounds >= 0.20


def test_a_difference_that_cannot_be_judged():
    got = paired_bootstrap(mean_of(np.ones(2)), mean_of(np.zeros(2)), GroupBootstrap(["a", "a"], 2))
    assert got.difference.estimate == 1
    assert math.isnan(got.p_value)
    assert math.isnan(got.probability_first_higher)
    with pytest.raises(DataError, match="2 and 3 rows"):
        paired_bootstrap(mean_of(np.ones(2)), mean_of(np.ones(3)), GroupBootstrap(None, 2))


def test_holm_by_hand():
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, and the last may not fall below .06.
    got = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert list(got) == ["a", "b", "c", "d"]
    assert list(got.values()) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm({}) == {}
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    with pytest.raises(DataError, match="b: p-value nan"):
        holm({"a": 0.1, "b": math.nan})


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_test(values):
    adjusted = list(holm({str(k): value for k, value in enumerate(values)}).values())
    for level in (0.01, 0.05, 0.2):
        rejected, order = set(), sorted(range(len(values)), key=lambda k: values[k])
        for rank, index in enumerate(order):
            if values[index] * (len(values) - rank) > level:
                break
            rejected.add(index)
        assert rejected == {k for k, value in enumerate(adjusted) if value <= level}
    assert all(a >= p for a, p in zip(adjusted, values, strict=True))


def test_the_corrected_t_test():
    gaps = [0.02, 0.01, 0.03, 0.015, 0.005]
    got = corrected_resampled_t(gaps, train=700, test=300)
    want = np.mean(gaps) / math.sqrt((1 / 5 + 3 / 7) * np.var(gaps, ddof=1))
    assert got.statistic == pytest.approx(want)
    assert got.p_value == pytest.approx(2 * stats.t.sf(want, 4))
    assert got.degrees == 4
    plain = stats.ttest_1samp(gaps, 0)
    nearly = corrected_resampled_t(gaps, train=10**12, test=1)
    assert (nearly.statistic, nearly.p_value) == pytest.approx((plain.statistic, plain.pvalue))
    assert got.p_value > plain.pvalue
    assert corrected_resampled_t([0.0, 0.0], train=1, test=1).p_value == 1
    assert corrected_resampled_t([-0.1, -0.1], train=1, test=1).statistic == -math.inf
    with pytest.raises(DataError, match="at least two"):
        corrected_resampled_t([0.1], train=7, test=3)
    with pytest.raises(ConfigError, match="train 0"):
        corrected_resampled_t(gaps, train=0, test=3)
