"""Searching a table: equal to the loop through Optuna, duplicates, pools, ends."""

from __future__ import annotations

import pytest
from sampler_fakes import Folded, drive, new_study, separable

from dermonas.controller.languages import language_of
from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.pool import PoolSettings
from dermonas.errors import ConfigError, SearchError
from dermonas.search import samplers, tabular
from dermonas.search.samplers.nao import NaoSettings
from dermonas.search.tabular import initial_pool, search_table
from dermonas.space.nasbench101 import NasBench101Space
from dermonas.space.nasbench201 import NasBench201Space

SPACES = [Folded((3, 3, 3, 4, 4)), NasBench201Space(), NasBench101Space()]
CLASSICAL = [name for name in samplers.NAMES if name != "nao"]


def made(name, domain, seed):
    """A sampler; nao with a controller that learned nothing, and short rounds."""
    if name != "nao":
        return samplers.make(name, domain, seed)
    language = language_of(domain)
    controller = Controller(ControllerSettings(language.vocabulary, language.length), 0)
    nao = NaoSettings(count=5, pool=PoolSettings(epochs=2), steps=3, constrained=True)
    return samplers.make(name, domain, seed, nao=nao, controller=controller)


@pytest.mark.parametrize(
    ("domain", "name"),
    [(domain, name) for domain in SPACES for name in (CLASSICAL if domain is SPACES[0] else samplers.NAMES)],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_it_proposes_what_a_study_would(domain, name):
    objective = separable(domain, 1)

    def score(theta):
        return objective(domain.canonical(theta))

    records = search_table(made(name, domain, 3), score, 40)
    sampler = made(name, domain, 3)
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
        records = search_table(made(name, domain, 5), separable(domain, 0), 20, pool)
        assert [r.theta for r in records[:12]] == pool
        assert search_table(made(name, domain, 5), separable(domain, 0), 7, pool) == records[:7]


def test_a_space_that_is_searched_through_says_so(monkeypatch):
    monkeypatch.setattr(tabular, "EXHAUSTED", 100)
    domain = Folded((2, 2))
    with pytest.raises(SearchError, match="no more than 3 networks that random finds"):
        search_table(samplers.make("random", domain, 0, "paper"), separable(domain, 0), 4)
    with pytest.raises(SearchError, match="gave 3 networks"):
        initial_pool(domain, 0, 4)
    with pytest.raises(ConfigError, match="queries is 0"):
        search_table(samplers.make("random", domain, 0), separable(domain, 0), 0)
