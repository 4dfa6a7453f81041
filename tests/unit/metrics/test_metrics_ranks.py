"""Rank correlations against scipy, regret and overlap against counting every choice."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_rows import repeat
from scipy import stats

from dermonas.errors import ConfigError, DataError
from dermonas.metrics.intervals import GroupBootstrap
from dermonas.metrics.paired import paired_bootstrap
from dermonas.metrics.ranks import (
    kendall_statistic,
    rank_correlation,
    regret_at_k,
    spearman_statistic,
    top_k_overlap,
)
from dermonas.seeding import numpy_generator

levels = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=8)


def related(n: int, seed: int, digits: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = numpy_generator(seed, "related")
    x = rng.normal(size=n)
    return np.round(x, digits), np.round(x + rng.normal(size=n), digits)


@pytest.mark.parametrize("digits", [6, 0])
def test_correlations_and_resamples_are_scipys(digits):
    x, y = related(60, 1, digits)
    got = rank_correlation(x, y, replicates=60, seed=2)
    weights = np.concatenate(list(GroupBootstrap(None, 60, replicates=60, seed=2).weights()))
    for mine, theirs in ((got.kendall, stats.kendalltau), (got.spearman, stats.spearmanr)):
        assert mine.estimate == pytest.approx(theirs(x, y).statistic)
        values = [theirs(*repeat(row, x, y)).statistic for row in weights]
        assert (mine.lo, mine.hi) == pytest.approx(np.quantile(values, [0.025, 0.975]).tolist())
    assert (got.networks, got.omitted) == (60, 0)


@given(levels, st.integers(0, 100))
def test_any_ties_any_weights(pairs, seed):
    x, y = np.array(pairs, dtype=np.float64).T
    weights = numpy_generator(seed, "weights").integers(0, 3, (3, len(x))).astype(np.float64)
    for bind, theirs in ((kendall_statistic, stats.kendalltau), (spearman_statistic, stats.spearmanr)):
        for value, row in zip(bind(x, y)(weights), weights, strict=True):
            u, v = repeat(row, x, y)
            if len(set(u)) < 2 or len(set(v)) < 2:
                assert math.isnan(value)
            else:
                assert value == pytest.approx(theirs(u, v).statistic)


def test_rank_correlations_know_order_alone():
    x, y = related(30, 3)
    plain = rank_correlation(x, y, replicates=50)
    assert rank_correlation(np.exp(x), y**3, replicates=50) == plain
    turned = rank_correlation(-x, y, replicates=50)
    assert turned.kendall.estimate == pytest.approx(-plain.kendall.estimate)
    assert rank_correlation(x, x, replicates=50).spearman.lo == 1
    flat = rank_correlation(np.ones(30), y, replicates=50)
    assert math.isnan(flat.kendall.estimate)
    assert math.isnan(flat.spearman.hi)


def test_two_scores_are_compared_on_the_same_networks():
    rng = numpy_generator(4, "scores")
    quality = rng.normal(size=100)
    good, poor = quality + 0.5 * rng.normal(size=100), rng.normal(size=100)
    got = paired_bootstrap(
        kendall_statistic(good, quality), kendall_statistic(poor, quality), GroupBootstrap(None, 100, replicates=500)
    )
    assert got.difference.lo > 0.3


def test_values_that_are_not_finite():
    x, y = [1.0, math.nan, 3.0, math.inf, 2.0], [1.0, 5.0, 3.0, 4.0, 2.0]
    with pytest.raises(DataError, match=r"network 1: score nan, quality 5\.0"):
        rank_correlation(x, y)
    got = rank_correlation(x, y, nan="omit", replicates=10)
    assert (got.networks, got.omitted) == (3, 2)
    assert got.kendall.estimate == 1
    assert regret_at_k(x, y, 1, nan="omit") == 0
    with pytest.raises(DataError, match="1 networks with finite values"):
        rank_correlation([1, math.nan], [1, 2], nan="omit")
    with pytest.raises(DataError, match="one of each a network"):
        rank_correlation([1, 2], [1, 2, 3])
    with pytest.raises(ConfigError, match="NaN policy 'drop'"):
        rank_correlation(x, y, nan="drop")


def choices(values: np.ndarray, k: int) -> list[set[int]]:
    """All sets of k networks that the values may rank highest."""
    best = [set(order[:k]) for order in itertools.permutations(range(len(values))) if sorted_by(values, order)]
    return [set(unique) for unique in {frozenset(found) for found in best}]


def sorted_by(values: np.ndarray, order: tuple[int, ...]) -> bool:
    return all(values[a] >= values[b] for a, b in itertools.pairwise(order))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_regret_and_overlap_are_means_over_every_choice(seed, k):
    rng = numpy_generator(seed, "levels")
    score, quality = rng.integers(0, 3, 6).astype(float), rng.integers(0, 4, 6).astype(float)
    mine, best = choices(score, k), choices(quality, k)
    regret = np.mean([quality.max() - max(quality[list(chosen)]) for chosen in mine])
    overlap = np.mean([len(chosen & good) / k for chosen in mine for good in best])
    assert regret_at_k(score, quality, k) == pytest.approx(regret)
    assert top_k_overlap(score, quality, k) == pytest.approx(overlap)


def test_a_score_that_says_nothing_is_random_choice():
    quality = np.arange(10.0)
    assert regret_at_k(np.ones(10), quality, 1) == pytest.approx(9 - 4.5)
    assert top_k_overlap(np.ones(10), quality, 3) == pytest.approx(0.3)
    assert regret_at_k(quality, quality, 1) == 0
    assert regret_at_k(-quality, quality, 3) == 7
    assert regret_at_k(np.ones(300), np.arange(300.0), 100) == pytest.approx(299 - 100 * 301 / 101 + 1)
    for k in (0, 11):
        with pytest.raises(ConfigError, match=f"k is {k}"):
            regret_at_k(quality, quality, k)
