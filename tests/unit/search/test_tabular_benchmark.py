"""A table as a search sees it: repeats, the best there is, and what it says of a file that is not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dermonas.data.benchmarks.nasbench101 import NasBench101Table
from dermonas.errors import ConfigError, DataError
from dermonas.search.tabular_benchmark import Benchmark, read_benchmark
from dermonas.space.nasbench101 import NasBench101Space

SPACE = NasBench101Space()


@pytest.fixture(scope="module")
def thetas():
    rng = np.random.default_rng(3)
    found = {SPACE.digest(theta): theta for theta in (SPACE.sample(rng) for _ in range(30))}
    return list(found.values())


@pytest.fixture(scope="module")
def table(thetas):
    rng = np.random.default_rng(0)
    validation, test = rng.random((2, len(thetas), 3))
    rows = {SPACE.digest(theta): row for row, theta in enumerate(thetas)}
    ones = np.ones((len(thetas), 3))
    return NasBench101Table(rows, validation, test, ones, np.ones(len(thetas), dtype=np.int64))


def test_a_query_draws_one_of_the_repeats_and_then_answers_alike(table, thetas):
    benchmark, again = Benchmark(table, "draw", Path("f")), Benchmark(table, "draw", Path("f"))
    drawn = np.array([[benchmark.validation(theta, seed) for theta in thetas] for seed in range(40)])
    assert (drawn[..., None] == table.validation_accuracy).any(axis=2).all()
    for repeat in range(3):
        share = (drawn == table.validation_accuracy[:, repeat]).mean()
        assert 0.28 < share < 0.38  # of 1,200 draws: a third, give or take three standard errors
    # Whatever was asked before, and however the cell is written.
    backwards = [again.validation(SPACE.canonical(theta), 7) for theta in reversed(thetas)]
    assert backwards[::-1] == drawn[7].tolist()
    first = Benchmark(table, "first", Path("f"))
    assert [first.validation(theta, 5) for theta in thetas] == table.validation_accuracy[:, 0].tolist()


def test_the_best_is_the_best_a_search_could_see_or_report(table):
    draw, first = Benchmark(table, "draw", Path("f")), Benchmark(table, "first", Path("f"))
    assert draw.best_validation == table.validation_accuracy.max()
    assert first.best_validation == table.validation_accuracy[:, 0].max() < draw.best_validation
    assert draw.best_test == first.best_test == max(row.mean() for row in table.test_accuracy)


def test_the_digest_is_of_what_the_table_says(table):
    benchmark = Benchmark(table, "draw", Path("f"))
    assert benchmark.digest == Benchmark(table, "first", Path("elsewhere")).digest
    for key in ("validation_accuracy", "test_accuracy"):
        changed = getattr(table, key).copy()
        changed[3, 1] += 1e-9
        assert Benchmark(replace(table, **{key: changed}), "draw", Path("f")).digest != benchmark.digest
    renamed = {digest[::-1]: row for digest, row in table.rows.items()}
    assert Benchmark(replace(table, rows=renamed), "draw", Path("f")).digest != benchmark.digest


def test_a_graph_that_a_partial_file_lacks_is_one_line_with_the_file(table, thetas):
    digest = SPACE.digest(thetas[0])
    rows = {known: row for known, row in table.rows.items() if known != digest}
    benchmark = Benchmark(replace(table, rows=rows), "draw", Path("part.tfrecord"))
    with pytest.raises(DataError, match=rf"^part.tfrecord: graph {digest} .*nasbench_only108.tfrecord") as caught:
        benchmark.validation(thetas[0], 0)
    assert "\n" not in str(caught.value)
    assert benchmark.validation((0,) * 26, 0) == 0  # no cell at all


@pytest.mark.parametrize(
    ("domain", "file"), [("nasbench201", "nasbench201_tss.csv.gz"), ("nasbench101", "nasbench_only108.tfrecord")]
)
def test_a_table_that_is_not_there_is_named_with_where_it_comes_from(domain, file, tmp_path):
    with pytest.raises(ConfigError, match=rf"^table is null: give {file} .*(https://|shared/data)"):
        read_benchmark(domain, None, "cifar10", "draw")
    with pytest.raises(ConfigError, match=rf"nowhere, which is no file: give {file}"):
        read_benchmark(domain, tmp_path / "nowhere", "cifar10", "draw")
