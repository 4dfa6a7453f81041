"""Searching a table: what is a query, and going on after some of the records."""

from __future__ import annotations

import pytest
from tables import SPACE, made_up, sampler_of

from dermonas.errors import SearchError
from dermonas.search.samplers import NAMES
from dermonas.search.tabular import initial_pool, search_table

QUERIES = 18


@pytest.fixture(scope="module")
def benchmark_():
    return made_up()


def search(benchmark, name, seed=1, **more):
    initial = initial_pool(SPACE, seed, 4)
    return search_table(
        sampler_of(name, seed), lambda theta: 1 - benchmark.validation(theta, seed), QUERIES, initial, **more
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_search_goes_on_after_any_of_its_records(benchmark_, name):
    told = []
    whole = search(benchmark_, name, told=told.append)
    assert told == whole
    asked = [record for record in whole if not record.duplicate]
    assert len({record.digest for record in asked}) == len(asked) == QUERIES
    assert [record.theta for record in whole[:4]] == initial_pool(SPACE, 1, 4)
    for cut in (1, 4, 11, len(whole) - 1) if name != "nao" else (11,):  # within its second round
        later = []
        assert search(benchmark_, name, done=whole[:cut], told=later.append) == whole
        assert later == whole[cut:]
    assert search(benchmark_, name, seed=2) != whole


def test_duplicates_before_the_resume_count_towards_the_end(benchmark_, monkeypatch):
    monkeypatch.setattr("dermonas.search.tabular.EXHAUSTED", 30)
    sampler = sampler_of("random", 0)
    theta = initial_pool(SPACE, 0, 1)[0]
    sampler.propose = lambda records, number, rng: theta
    records = []
    with pytest.raises(SearchError, match="30 proposals in a row"):
        search_table(sampler, lambda theta: 0.5, 2, told=records.append)
    assert len(records) == 31
    more = []
    with pytest.raises(SearchError, match="30 proposals in a row"):
        search_table(sampler, lambda theta: 0.5, 2, done=records[:21], told=more.append)
    assert more == records[21:]
