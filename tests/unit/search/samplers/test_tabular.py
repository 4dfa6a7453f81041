"""Searching a table: equal to the loop through Optuna, duplicates, pools, ends."""

from __future__ import annotations

import pytest
from sampler_fakes import Folded, drive, new_study, separable

from dermonas.errors import ConfigError, SearchError
from dermonas.search import samplers, tabular
from dermonas.search.tabular import initial_pool, search_table
from dermonas.space.nasbench101 import NasBench101Space
from dermonas.space.nasbench201 import NasBench201Space

SPACES = [Folded((3, 3, 3, 4, 4)), NasBench201Space(), NasBench101Space()]


@pytest.mark.parametrize("name", samplers.NAMES)
@pytest.mark.parametrize("domain", SPACES, ids=lambda domain: domain.name)
def test_it_proposes_what_a_study_would(name, domain):
    objective = separable(domain, 1)

    def score(theta):
        return objective(domain.canonical(theta))

    records = search_table(samplers.make(name, domain, 3), score, 40)
    sampler = samplers.make(name, domain, 3)
    study = new_study()
    assert drive(study, sampler, objective, len(records)) == [r.theta for r in records]
    assert sampler.records(study) == records


def test_queries_count_distinct_networks_and_the_score_is_asked_once_each():
    domain = Folded((2, 3, 3, 4))
    asked = []

    def score(theta):
        asked.append(domain.digest(theta))
        return float(len(asked))

    records = search_table(samplers.make("random", domain, 0), score, 30)
    assert len(asked) == len(set(asked)) == 30
    assert [r.digest for r in records if not r.duplicate] == asked
    assert any(r.duplicate for r in records)
    values = {}
    for r in records:
        assert values.setdefault(r.digest, r.value) == r.value
        assert r.key == (0, 0, r.value)
    assert not records[-1].duplicate


def test_the_initial_pool_comes_first_and_is_the_same_for_every_sampler():
    domain = NasBench201Space()
    pool = initial_pool(domain, 5, 12)
    assert len({domain.digest(theta) for theta in pool}) == 12
    assert pool == initial_pool(domain, 5, 12)
    assert initial_pool(domain, 5, 4) == pool[:4]
    assert initial_pool(domain, 6, 12) != pool
    for name in samplers.NAMES:
        records = search_table(samplers.make(name, domain, 5), separable(domain, 0), 20, pool)
        assert [r.theta for r in records[:12]] == pool
        assert search_table(samplers.make(name, domain, 5), separable(domain, 0), 7, pool) == records[:7]


def test_a_space_that_is_searched_through_says_so(monkeypatch):
    monkeypatch.setattr(tabular, "EXHAUSTED", 100)
    domain = Folded((2, 2))
    with pytest.raises(SearchError, match="no more than 3 networks that random finds"):
        search_table(samplers.make("random", domain, 0, "paper"), separable(domain, 0), 4)
    with pytest.raises(SearchError, match="gave 3 networks"):
        initial_pool(domain, 0, 4)
    with pytest.raises(ConfigError, match="queries is 0"):
        search_table(samplers.make("random", domain, 0), separable(domain, 0), 0)
