"""What searches of a table are reported as: curves against a slow reference, tables, and the plot."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tables import made_up

from dermonas.search.tabular_report import (
    band,
    best_so_far,
    curves,
    finals,
    frames,
    round_curves,
    write_regret,
    write_tables,
)
from dermonas.search.tabular_seed import Query, RoundFacts, SeedResult

NAN = float("nan")


def a_round(number, **facts):
    defaults = {
        "pool": 20, "error": 0.1, "reconstruction": 0.2, "rank_correlation": 0.5, "held_out_rank_correlation": 0.25,
        "decoded": 40, "valid": 30, "novel": 6, "relabelled": 1, "neighbours": 2, "fallbacks": 0,
        "seconds": 1.0,
    }  # fmt: skip
    return RoundFacts(round=number, **{**defaults, **facts})


@pytest.fixture(scope="module")
def results():
    rng = np.random.default_rng(0)
    found = []
    for seed in (3, 4, 5):
        # Few values, so that there are equals.
        values = rng.integers(1, 8, size=(30, 2)) / 10
        queries = tuple(Query(number, number // 20, (1, 0, seed, 0, 0, 0), f"{seed}-{number}", validation, test)
                        for number, (validation, test) in enumerate(values.tolist(), start=1))  # fmt: skip
        found.append(SeedResult(seed, 1.5 * seed, 10 - seed, queries, (a_round(1), a_round(2, novel=seed))))
    return found


def test_the_best_so_far_is_the_first_of_the_best_by_validation(results):
    validation, test = best_so_far(results)
    for row, one in enumerate(results):
        for count in range(1, 31):
            best = max(one.queries[:count], key=lambda query: query.validation)  # of equals the first
            assert (validation[row, count - 1], test[row, count - 1]) == (best.validation, best.test)
    assert (np.diff(validation, axis=1) == 0).any()
    assert (np.diff(test, axis=1) < 0).any()


def test_regret_is_what_the_tables_best_has_more(results):
    benchmark = made_up()
    drawn = curves(results, benchmark)
    validation, test = best_so_far(results)
    assert drawn["controller/test_accuracy"] == pytest.approx(test.mean(axis=0))
    assert drawn["controller/validation_best"] == pytest.approx(validation.mean(axis=0))
    assert drawn["controller/regret"] == pytest.approx(benchmark.table.test_accuracy.max() - test.mean(axis=0))
    expected = benchmark.table.validation_accuracy.max() - validation.mean(axis=0)
    assert drawn["controller/regret_validation"] == pytest.approx(expected)


def test_finals_are_of_the_last_query(results):
    last = best_so_far(results)[1][:, -1]
    assert finals(results) == {
        "controller/test_accuracy_mean": pytest.approx(np.mean(last)),
        "controller/test_accuracy_std": pytest.approx(np.std(last, ddof=1)),
        "controller/seconds_per_seed": pytest.approx(6.0),
        "controller/duplicates": pytest.approx(6.0),
    }
    assert "controller/test_accuracy_std" not in finals(results[:1])


def test_rounds_are_averaged_over_the_seeds_that_have_them():
    seeds = [
        (a_round(1, rank_correlation=0.1), a_round(2, decoded=0, valid=0, novel=0, held_out_rank_correlation=NAN)),
        (a_round(1, rank_correlation=NAN, decoded=10, valid=1, novel=1, fallbacks=3),),
    ]
    found = round_curves([SeedResult(0, 1.0, 0, (), rounds) for rounds in seeds])
    assert list(found) == [1, 2]
    assert found[1]["controller/rank_correlation"] == 0.1
    assert found[1]["controller/held_out_rank_correlation"] == 0.25
    assert found[1]["controller/validity"] == pytest.approx((30 / 40 + 1 / 10) / 2)
    assert found[1]["controller/novelty"] == pytest.approx((6 / 30 + 1) / 2)
    assert found[1]["controller/fallbacks"] == 1.5
    assert found[1]["controller/neighbours"] == 2.0
    assert found[2] == {
        "controller/rank_correlation": 0.5,
        "controller/predictor_error": 0.1,
        "controller/reconstruction": 0.2,
        "controller/relabelled": 1.0,
        "controller/neighbours": 2.0,
        "controller/fallbacks": 0.0,
    }
    assert round_curves([SeedResult(0, 1.0, 0, (), ())]) == {}


def test_tables_have_the_columns_that_reports_read(results, tmp_path):
    assert [path.name for path in write_tables(results, tmp_path)] == [
        "queries.parquet", "seeds.parquet", "rounds.parquet",
    ]  # fmt: skip
    queries = pd.read_parquet(tmp_path / "queries.parquet")
    assert list(queries) == ["seed", "query", "round", "theta", "digest", "validation", "test"]
    assert [queries[name].dtype.kind for name in ("seed", "query", "round", "validation", "test")] == [*"iiiff"]
    assert all(isinstance(text, str) for name in ("theta", "digest") for text in queries[name])
    assert len(queries) == 90
    assert json.loads(queries["theta"][30]) == [1, 0, 4, 0, 0, 0]
    assert queries["query"].tolist() == [*range(1, 31)] * 3
    seeds = pd.read_parquet(tmp_path / "seeds.parquet")
    assert seeds.to_dict("list") == {"seed": [3, 4, 5], "seconds": [4.5, 6.0, 7.5], "duplicates": [7, 6, 5]}
    rounds = pd.read_parquet(tmp_path / "rounds.parquet")
    assert list(rounds) == [
        "seed", "round", "pool", "error", "reconstruction", "rank_correlation", "held_out_rank_correlation", "decoded",
        "valid", "novel", "relabelled", "neighbours", "fallbacks", "seconds",
    ]  # fmt: skip
    assert [str(rounds[name].dtype) for name in ("round", "pool", "decoded", "fallbacks")] == ["int64"] * 4
    assert rounds["novel"].tolist() == [6, 3, 6, 4, 6, 5]
    assert "rounds" not in frames([replace(results[0], rounds=())])


def test_the_band_is_students_interval():
    values = np.random.default_rng(1).random((5, 7))
    mean, half = band(values)
    for column in range(7):
        sample = values[:, column]
        low, high = stats.t.interval(0.95, 4, loc=sample.mean(), scale=stats.sem(sample))
        assert (mean[column] - half[column], mean[column] + half[column]) == pytest.approx((low, high))
    mean, half = band(values[:1])
    assert mean.tolist() == values[0].tolist()
    assert all(math.isnan(value) for value in half)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_plot_shows_the_seeds_and_is_the_same_every_time(results, seeds, tmp_path):
    regret = 0.8 - best_so_far(results[:seeds])[1]
    paths = write_regret(regret, "random on $5 nasbench201", tmp_path / "one")
    assert [path.name for path in paths] == ["regret.png", "regret.svg"]
    again = write_regret(regret, "random on $5 nasbench201", tmp_path / "two")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    other = write_regret(regret / 2, "random on $5 nasbench201", tmp_path / "three")
    assert paths[1].read_bytes() != other[1].read_bytes()
    # The band is one filled area more.
    assert ("FillBetweenPolyCollection" in paths[1].read_text()) == (seeds > 1)
