"""The group bootstrap against slow references, scipy, and its own promise of coverage."""

import math

import numpy as np
import pytest
from metric_rows import ISIC, random_rows, repeat
from scipy import stats

from dermonas.errors import ConfigError, DataError
from dermonas.metrics import scores
from dermonas.metrics.intervals import GroupBootstrap, Interval, interval, intervals
from dermonas.metrics.statistic import Statistic, accuracy, balanced_accuracy, bind, headline_metrics
from dermonas.seeding import numpy_generator

GROUPS = ["a", "b", "b", "c", "c", "c", "d"]


def mean_of(values: np.ndarray) -> Statistic:
    return Statistic(len(values), lambda weights: (weights @ values) / weights.sum(axis=1))


def drawn(bootstrap: GroupBootstrap) -> np.ndarray:
    return np.concatenate(list(bootstrap.weights()))


def test_groups_are_drawn_whole():
    weights = drawn(GroupBootstrap(GROUPS, 7, replicates=4000, seed=1))
    assert weights.shape == (4000, 7)
    assert (weights[:, 1] == weights[:, 2]).all()
    assert (weights[:, 3:4] == weights[:, 4:6]).all()
    groups = weights[:, [0, 1, 3, 6]]
    assert (groups.sum(axis=1) == 4).all()
    # Each group's count is binomial(4, 1/4): mean 1, variance 3/4.
    assert groups.mean(axis=0) == pytest.approx(np.ones(4), abs=0.06)
    assert groups.var(axis=0) == pytest.approx(np.full(4, 0.75), abs=0.06)


def test_strata_keep_their_number_of_groups():
    strata = ["x", "x", "x", "x", "x", "x", "y"]
    weights = drawn(GroupBootstrap(GROUPS, 7, strata=strata, replicates=200, seed=1))
    assert (weights[:, 6] == 1).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    with pytest.raises(DataError, match="group b lies in two strata"):
        GroupBootstrap(GROUPS, 7, strata=["x", "x", "y", "x", "x", "x", "y"])
    with pytest.raises(DataError, match="2 strata for 7 rows"):
        GroupBootstrap(GROUPS, 7, strata=["x", "y"])


def test_draws_depend_on_the_seed_and_not_on_blocks_or_row_order(monkeypatch):
    whole = drawn(GroupBootstrap(GROUPS, 7, strata=["x"] * 6 + ["y"], replicates=50, seed=3))
    assert (whole == drawn(GroupBootstrap(GROUPS, 7, strata=["x"] * 6 + ["y"], replicates=50, seed=3))).all()
    plain = drawn(GroupBootstrap(GROUPS, 7, replicates=50, seed=3))
    assert (plain != drawn(GroupBootstrap(GROUPS, 7, replicates=50, seed=4))).any()
    backwards = drawn(GroupBootstrap(GROUPS[::-1], 7, replicates=50, seed=3))
    assert (backwards == plain[:, ::-1]).all()
    monkeypatch.setattr("dermonas.metrics.intervals._BLOCK", 7 * 3)
    assert (drawn(GroupBootstrap(GROUPS, 7, replicates=50, seed=3)) == plain).all()
    assert (drawn(GroupBootstrap(GROUPS, 7, strata=["x"] * 6 + ["y"], replicates=50, seed=3)) == whole).all()


def test_intervals_are_those_of_a_loop_over_repeated_rows():
    labels, probabilities = random_rows(90, 4, seed=5)
    groups = (np.arange(90) // 3).tolist()
    bootstrap = GroupBootstrap(groups, 90, replicates=100, seed=5)
    bound = bind(headline_metrics(("MEL", "b", "c", "d")), labels, probabilities)
    got = intervals(bound, bootstrap, level=0.9)
    for name, plain in (
        ("accuracy", scores.accuracy),
        ("balanced_accuracy", scores.balanced_accuracy),
        ("macro_f1", scores.macro_f1),
        ("auroc_macro", lambda y, p: scores.macro_auroc(y, p).value),
    ):
        values = [plain(*repeat(weights, labels, probabilities)) for weights in drawn(bootstrap)]
        want = Interval(
            plain(labels, probabilities), *np.quantile(values, [0.05, 0.95]).tolist(), 0.9, "percentile", 100, 0
        )
        assert got[name].lo == pytest.approx(want.lo), name
        assert got[name].hi == pytest.approx(want.hi), name
        assert got[name].estimate == pytest.approx(want.estimate), name
        assert got[name].undefined == 0
    assert interval(bound["accuracy"], bootstrap, level=0.9) == got["accuracy"]


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_of_single_rows_are_scipys(method):
    values = numpy_generator(6, "skewed").exponential(size=40)
    want = stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method=method, rng=np.random.default_rng(1)
    ).confidence_interval
    got = interval(mean_of(values), GroupBootstrap(None, 40, replicates=20000, seed=1), method=method)
    assert (got.lo, got.hi) == pytest.approx((want.low, want.high), abs=0.02)
    assert got.method == method


def test_bca_leaves_out_groups():
    bootstrap = GroupBootstrap(GROUPS, 7)
    weights = np.concatenate(list(bootstrap.without_one()))
    assert weights.tolist() == [
        [0, 1, 1, 1, 1, 1, 1],
        [1, 0, 0, 1, 1, 1, 1],
        [1, 1, 1, 0, 0, 0, 1],
        [1, 1, 1, 1, 1, 1, 0],
    ]


def test_a_rare_class_is_counted_and_strata_keep_it():
    labels, probabilities = random_rows(60, 3, seed=7)
    labels = np.where(labels == 2, 1, labels)
    labels[0] = 2
    metric = balanced_accuracy(labels, probabilities)
    free = interval(metric, GroupBootstrap(None, 60, seed=7))
    # A class of one row is lacking in (1 - 1/60)^60 of resamples.
    assert free.undefined / free.replicates == pytest.approx((1 - 1 / 60) ** 60, abs=0.03)
    assert free.lo < free.estimate < free.hi
    assert interval(metric, GroupBootstrap(None, 60, strata=labels.tolist(), seed=7)).undefined == 0


def test_no_interval_from_too_little():
    one = interval(mean_of(np.array([1.0, 2.0])), GroupBootstrap(["a", "a"], 2))
    assert one.estimate == 1.5
    assert math.isnan(one.lo)
    assert math.isnan(one.hi)
    # Four classes of one row each are all there in 4! / 4^4 = 9 % of resamples.
    single = interval(balanced_accuracy([0, 1, 2, 3], random_rows(4, 4, seed=8)[1]), GroupBootstrap(None, 4))
    assert single.undefined / single.replicates == pytest.approx(1 - 24 / 256, abs=0.03)
    assert math.isnan(single.lo)


def test_a_certain_figure_has_an_interval_without_width():
    labels = np.arange(8)
    for method in ("percentile", "bca"):
        got = interval(accuracy(labels, np.eye(8)), GroupBootstrap(None, 8), method=method)
        assert (got.lo, got.estimate, got.hi) == (1, 1, 1)


@pytest.mark.parametrize(
    ("groups", "message"), [(["a", "b"], "2 groups for 3 rows"), (["a", None, "b"], "row 1 has no group")]
)
def test_groups_that_do_not_fit(groups, message):
    with pytest.raises(DataError, match=message):
        GroupBootstrap(groups, 3)


def test_impossible_settings():
    with pytest.raises(ConfigError, match="replicates is 0"):
        GroupBootstrap(None, 3, replicates=0)
    with pytest.raises(DataError, match="no rows"):
        GroupBootstrap(None, 0)
    bootstrap, values = GroupBootstrap(None, 3), mean_of(np.arange(3.0))
    with pytest.raises(ConfigError, match="level is 95"):
        interval(values, bootstrap, level=95)
    with pytest.raises(ConfigError, match="interval method 'normal'"):
        interval(values, bootstrap, method="normal")
    with pytest.raises(DataError, match="do the models share"):
        interval(mean_of(np.arange(4.0)), bootstrap)


def test_the_group_bootstrap_covers_where_the_row_bootstrap_does_not():
    """Lesions of 1 to 9 images that are mostly right or mostly wrong together; the true accuracy is 0.7."""
    rng = numpy_generator(9, "coverage")
    rounds, hits = 400, {"groups": 0, "rows": 0}
    for index in range(rounds):
        sizes = rng.integers(1, 10, 60)
        groups = np.repeat(np.arange(60), sizes)
        # Beta(0.7, 0.3) has mean 0.7; the intra-lesion correlation is 1 / 2.
        right = (rng.random(len(groups)) < rng.beta(0.7, 0.3, 60)[groups]).astype(np.float64)
        for name, codes in (("groups", groups.tolist()), ("rows", None)):
            got = interval(mean_of(right), GroupBootstrap(codes, len(groups), replicates=400, seed=index))
            hits[name] += got.lo <= 0.7 <= got.hi
    # 400 rounds at 95 % have a standard error of 1.1 points; percentile intervals of 60 groups fall a little short.
    assert hits["groups"] / rounds >= 0.90
    assert hits["rows"] / rounds <= 0.80


def test_two_thousand_resamples_of_the_papers_test_set():
    labels, probabilities = random_rows(3776, 8, seed=10)
    groups = numpy_generator(10, "groups").integers(0, 2500, 3776).tolist()
    bound = bind(headline_metrics(ISIC), labels, probabilities)
    got = intervals(bound, GroupBootstrap(groups, 3776, replicates=2000))
    assert all(found.lo < found.hi and found.undefined == 0 for found in got.values())
