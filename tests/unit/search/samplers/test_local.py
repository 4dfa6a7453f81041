"""Local search: climbs, known neighbours, restarts, and the memory that must not show."""

from __future__ import annotations

import numpy as np
import pytest
from sampler_fakes import Product, record, separable

from dermonas.errors import ConfigError
from dermonas.search.samplers.local import LocalSampler
from dermonas.search.tabular import search_table

DOMAIN = Product((4, 4, 4))


def near(theta: tuple[int, ...]) -> set[tuple[int, ...]]:
    return set(DOMAIN.neighbours(theta))


def proposals(sampler: LocalSampler, records: list, draws: int = 300, first: int | None = None) -> set:
    """What is proposed after `records`, over other seeds of the same trial."""
    number = len(records) if first is None else first
    return {LocalSampler(sampler.domain, seed, starts=sampler.starts).theta(records, number) for seed in range(draws)}


def test_a_climb_starts_at_the_best_of_the_first_draws():
    records = [record(0, (0, 0, 0), 3.0), record(1, (1, 1, 1), 1.0), record(2, (2, 2, 2), 2.0)]
    assert proposals(LocalSampler(DOMAIN, 0, starts=3), records) == near((1, 1, 1))
    # Before, it draws from the prior what was not evaluated.
    drawn = proposals(LocalSampler(DOMAIN, 0, starts=3), records[:2], draws=600)
    assert len(drawn) == 62
    assert not drawn & {(0, 0, 0), (1, 1, 1)}


def test_it_moves_to_the_first_better_neighbour_and_never_asks_again():
    records = [record(0, (0, 0, 0), 3.0), record(1, (0, 0, 1), 4.0), record(2, (0, 2, 0), 2.0)]
    sampler = LocalSampler(DOMAIN, 0, starts=1)
    assert proposals(sampler, records[:2]) == near((0, 0, 0)) - {(0, 0, 1)}
    assert proposals(sampler, records) == near((0, 2, 0)) - {(0, 0, 0)}


def test_it_moves_on_to_known_better_neighbours_at_once():
    # A first climb that ends where it starts, at 1; record 0 is better than what the second climb will find.
    records = [record(0, (3, 1, 3), 1.0), record(1, (2, 2, 2), 0.5)]
    records += [record(2 + k, theta, 9.0) for k, theta in enumerate(DOMAIN.neighbours((2, 2, 2)))]
    records += [record(len(records), (0, 3, 3), 5.0), record(len(records) + 1, (0, 0, 0), 6.0)]
    sampler = LocalSampler(DOMAIN, 0, starts=2)
    assert proposals(sampler, records) == near((0, 3, 3))
    records.append(record(len(records), (0, 1, 3), 2.0))
    assert proposals(sampler, records) == near((3, 1, 3)) - {r.theta for r in records}


def test_at_a_local_optimum_it_draws_a_new_start():
    records = [record(0, (0, 0, 0), 1.0)]
    records += [record(1 + k, theta, 2.0) for k, theta in enumerate(DOMAIN.neighbours((0, 0, 0)))]
    evaluated = {r.theta for r in records}
    drawn = proposals(LocalSampler(DOMAIN, 0, starts=1), records, draws=800)
    assert len(drawn) == 64 - len(evaluated)
    assert not drawn & evaluated
    # The start's value may be worse than the optimum: the climb is a new one.
    again = [*records, record(len(records), (3, 3, 3), 7.0)]
    assert proposals(LocalSampler(DOMAIN, 0, starts=1), again) == near((3, 3, 3))


def test_silent_trials_end_a_climb_when_they_may_have_been_all_its_neighbours():
    records = [record(0, (0, 0, 0), 1.0)]
    records += [record(1 + k, theta, 2.0) for k, theta in enumerate(list(DOMAIN.neighbours((0, 0, 0)))[2:])]
    left = set(list(DOMAIN.neighbours((0, 0, 0)))[:2])
    sampler = LocalSampler(DOMAIN, 0, starts=1)
    number = len(records)
    assert proposals(sampler, records, first=number) == left
    assert proposals(sampler, records, first=number + 1) == left
    # Two trials left no record: the two neighbours may fail for ever.
    assert len(proposals(sampler, records, first=number + 2, draws=600)) > 20
    # And the climb stays over once the next record is there.
    after = [*records, record(number + 2, (3, 3, 3), 7.0)]
    assert proposals(sampler, after) == near((3, 3, 3))


def test_a_search_ends_in_the_optimum_of_a_smooth_space():
    objective = separable(DOMAIN, 4)
    best = min(np.ndindex(4, 4, 4), key=objective)
    for seed in range(5):
        records = search_table(LocalSampler(DOMAIN, seed, starts=1), objective, 40)
        assert min(records, key=lambda r: r.key).theta == best
        assert not any(r.duplicate for r in records)


def test_starts_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="starts is 0"):
        LocalSampler(DOMAIN, 0, starts=0)
