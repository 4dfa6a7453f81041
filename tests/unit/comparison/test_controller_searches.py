"""What searches found, as numbers: against slow loops and by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from controlled import CELLS, known, search, write_queries
from scipy.stats import ttest_rel

from dermonas.comparison.controller.known import Known, of_nasbench101, of_nasbench201, read_known
from dermonas.comparison.controller.searches import (
    Answers,
    Search,
    found,
    moving_average,
    over_seeds,
    read_search,
    standings,
    table_row,
)
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.data.benchmarks.nasbench101 import NasBench101Table
from dermonas.data.benchmarks.nasbench201 import NasBench201Table
from dermonas.errors import ConfigError, DataError
from dermonas.metrics.seeds import half_width, leader
from dermonas.space.nasbench201 import NasBench201Space


def answers(validation, test):
    return Answers(np.array(validation, float), np.array(test, float))


def test_the_best_by_validation_is_the_first_of_equals():
    one = answers([0.5, 0.7, 0.7, 0.6, 0.8], [0.9, 0.4, 0.6, 0.7, 0.5])
    assert leader(one.validation).tolist() == [0, 1, 1, 1, 4]
    assert found(one).tolist() == [0.9, 0.4, 0.4, 0.4, 0.5]
    rng = np.random.default_rng(0)
    many = answers(rng.integers(0, 9, 200) / 10, rng.random(200))
    assert leader(many.validation).tolist() == [int(np.argmax(many.validation[: q + 1])) for q in range(200)]


def test_a_moving_average_is_that_of_each_window():
    values = np.random.default_rng(1).random(30)
    slow = [values[start : start + 7].mean() for start in range(24)]
    assert moving_average(values, 7) == pytest.approx(slow)
    assert moving_average(values, 30) == pytest.approx([values.mean()])
    assert not len(moving_average(values, 31))


def test_seeds_that_end_early_leave_the_mean_to_the_others():
    mean, spread, count = over_seeds([np.array([1.0, 2.0, 9.0]), np.array([3.0, 4.0])])
    assert (mean.tolist(), count.tolist()) == ([2.0, 3.0, 9.0], [2, 2, 1])
    assert spread[:2] == pytest.approx([math.sqrt(2)] * 2)
    assert np.isnan(spread[2])
    assert np.isnan(half_width(spread, count)[2])
    assert half_width(1.0, 10) == pytest.approx(2.2622 / math.sqrt(10), abs=1e-4)


def test_a_row_of_table_1_by_hand():
    table = Known(CELLS[:4], np.array([0.6, 0.9, 0.8, 0.7]), "test accuracy", "", np.array([0.6, 0.9, 0.8, 0.7]), 0.9)
    two = {0: answers([0.1, 0.3, 0.2], [0.6, 0.8, 0.7]), 1: answers([0.5, 0.4], [0.9, 0.7])}
    row = table_row(Search("x", "", two), table)
    assert row["queries"] == pytest.approx((1.5, math.sqrt(0.5)))
    assert row["test_acc"] == pytest.approx((85, math.sqrt(50)))
    assert row["sd"].mean == pytest.approx((np.std([60, 80, 70]) + 10) / 2)
    assert row["regret"] == pytest.approx((5, math.sqrt(50)))
    assert row["rank"] == pytest.approx((1.5, math.sqrt(0.5)))
    assert table_row(Search("x", "", two), None).keys() == {"queries", "test_acc", "sd"}
    assert math.isnan(table_row(Search("x", "", {0: two[0]}), table)["rank"].spread)


def test_differences_are_paired_by_seed():
    ours, b = search("a", seeds=9, gain=0.01), search("b", seeds=12)
    theirs = Search("b", "", {seed: Answers(one.validation[::-1], one.test[::-1]) for seed, one in b.seeds.items()})
    first, second = standings([ours, theirs], [5, 40], ["b", "absent"])[0::2]
    assert [one.arm for one in standings([ours, theirs], [5], ["b"])] == ["a", "b"]
    for row, after in ((first, 5), (second, 40)):
        mine, other = ([100 * found(one.seeds[s])[after - 1] for s in range(9)] for one in (ours, theirs))
        (gap,) = row.differences
        assert (gap.reference, gap.seeds, row.seeds, row.short) == ("b", 9, 9, 0)
        assert gap.mean == pytest.approx(np.mean(mine) - np.mean(other))
        assert row.accuracy == pytest.approx((np.mean(mine), np.std(mine, ddof=1)))
        if after == 5:  # of all queries both find the same
            expected = ttest_rel(mine, other).confidence_interval(0.95)
            assert (gap.lo, gap.hi) == pytest.approx((expected.low, expected.high))


def test_few_seeds_and_ended_searches_say_so():
    one = Search("one", "", {3: answers([0.1, 0.2], [0.5, 0.6])})
    row, other = standings([one, search("b")], [10], ["b"])
    assert (row.short, row.accuracy.mean, other.short) == (1, 60, 0)
    assert (row.differences[0].seeds, math.isnan(row.differences[0].mean), other.differences) == (0, True, ())
    (alone, _) = standings([search("a", seeds=1), search("b")], [10], ["b"])
    assert alone.differences[0].seeds == 1
    assert math.isnan(alone.differences[0].lo)


def test_queries_are_read_as_they_were_written(tmp_path):
    wanted = search("a", seeds=2, queries=15)
    got = read_search(write_queries(tmp_path, wanted), "a", "r")
    assert got.seeds.keys() == {0, 1}
    assert got.queries == 15
    for seed, values in wanted.seeds.items():
        assert got.seeds[seed].test == pytest.approx(values.test)
        assert got.seeds[seed].validation == pytest.approx(values.validation)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop(columns="test"), "run r: queries.parquet has no column test"),
        (lambda f: f[:0], "has no query"),
        (lambda f: f[(f["seed"] != 1) | (f["query"] != 3)], "seed 1: queries are not 1 to 9"),
        (lambda f: f.assign(test=f["test"].where(f["query"] != 3)), "seed 0: an accuracy is not in 0 to 1"),
        (lambda f: f.assign(validation=93.0), "seed 0: an accuracy is not in 0 to 1"),
    ],
)
def test_spoilt_queries_say_what_is_wrong(tmp_path, spoil, message):
    path = write_queries(tmp_path, search("a", seeds=2, queries=10))
    spoil(pd.read_parquet(path)).to_parquet(path)
    with pytest.raises(DataError, match=message):
        read_search(path, "a", "r")
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot be read"):
        read_search(path, "a", "r")


def test_nasbench201_is_known_by_class():
    space = NasBench201Space()
    rng = np.random.default_rng(0)
    classes = space.representatives()
    order = rng.permutation(len(classes)).tolist()
    rows = {space.digest(theta): row for theta, row in zip(classes, order, strict=True)}
    table = NasBench201Table("cifar10", rows, rng.random(len(rows)), rng.random(len(rows)))
    one = of_nasbench201(table)
    for place in (0, 77, 6465):
        assert one.quality[place] == table.test(tuple(one.cells[place].tolist()))
    assert (one.best, one.rank(table.test_accuracy.max())) == (table.test_accuracy.max(), 1)
    assert one.by_validation == table.test_accuracy[table.validation_accuracy.argmax()]
    assert one.rank(float(np.sort(table.test_accuracy)[-5])) == 5


def test_nasbench101_is_joined_by_hash():
    space = NasBench101Language().space
    graphs = CELLS[5:60]
    digests = [space.digest(tuple(theta)) for theta in graphs[::3].tolist()]
    rng = np.random.default_rng(0)
    validation, test = rng.random((2, len(digests) + 1, 3))
    rows = {digest: row for row, digest in enumerate([*digests, "another"])}
    table = NasBench101Table(rows, validation, test, test, np.zeros(len(rows), np.int64))
    one = of_nasbench101(table, graphs)
    assert np.array_equal(one.cells, graphs[::3])
    assert one.quality == pytest.approx(test[:-1].mean(axis=1))
    assert one.measure == "test accuracy"
    partial = of_nasbench101(
        NasBench101Table(rows, validation, np.full_like(test, np.nan), test, table.parameters), graphs
    )
    assert (partial.measure, partial.best, partial.rank(0.5)) == ("validation accuracy", None, None)
    assert partial.quality == pytest.approx(validation[:-1].mean(axis=1))
    with pytest.raises(DataError, match="none of 55 graphs"):
        of_nasbench101(NasBench101Table({"another": 0}, *[validation[:1]] * 3, table.parameters), graphs)


def test_our_space_has_no_table(tmp_path):
    with pytest.raises(ConfigError, match="table: darts5 has none"):
        read_known("darts5", tmp_path, "cifar10")
    assert known().rank(1.0) == 1
