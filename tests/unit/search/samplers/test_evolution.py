"""Regularised evolution against its algorithm written out, and its settings."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from sampler_fakes import Product, random_records, record

from dermonas.errors import ConfigError
from dermonas.search.samplers.evolution import EvolutionSampler, EvolutionSettings
from dermonas.space.nasbench101 import NasBench101Space

DOMAIN = Product((3,) * 6)
RNG = np.random.default_rng


def parents(sampler: EvolutionSampler, records: list, draws: int = 3000) -> Counter:
    """Which record each proposal is a neighbour of, where thetas lie too far apart for two answers."""
    counts: Counter = Counter()
    for number in range(draws):
        child = sampler.theta(records, len(records) + number)
        near = [r.number for r in records if sum(a != b for a, b in zip(r.theta, child, strict=True)) == 1]
        assert len(near) == 1
        counts[near[0]] += 1
    return counts


def far_apart(values: list[float]) -> list:
    thetas = [(0,) * 6, (1,) * 6, (2,) * 6, (0, 0, 0, 1, 1, 1), (1, 1, 1, 2, 2, 2), (2, 2, 2, 0, 0, 0)]
    return [record(number, theta, value) for number, (theta, value) in enumerate(zip(thetas, values, strict=True))]


@pytest.mark.parametrize("tournament", [1, 2, 5])
def test_the_parent_has_the_law_of_a_tournament_with_replacement_among_the_newest(tournament):
    # Record 1 is the best of all and has died: the population is the newest four.
    records = far_apart([0.5, -9.0, 4.0, 1.0, 3.0, 2.0])
    sampler = EvolutionSampler(DOMAIN, 0, EvolutionSettings(4, tournament))
    counts = parents(sampler, records)
    ranks = [3, 5, 4, 2]  # numbers, best first
    expected = [((4 - k) / 4) ** tournament - ((3 - k) / 4) ** tournament for k in range(4)]
    assert set(counts) <= set(ranks)
    for number, share in zip(ranks, expected, strict=True):
        assert abs(counts[number] - 3000 * share) < 5 * np.sqrt(3000 * share * (1 - share)) + 1


def test_the_child_is_every_neighbour_equally_often():
    records = [record(0, (1,) * 6, 0.0)]
    sampler = EvolutionSampler(DOMAIN, 0, EvolutionSettings(1, 1))
    counts = Counter(sampler.theta(records, number) for number in range(1, 2401))
    assert set(counts) == set(DOMAIN.neighbours((1,) * 6))
    assert all(abs(count - 200) < 5 * np.sqrt(200) for count in counts.values())


def test_the_prior_is_drawn_until_the_population_is_full():
    records = random_records(DOMAIN, 8, RNG(0))
    sampler = EvolutionSampler(DOMAIN, 3, EvolutionSettings(8, 1))
    drawn = {sampler.theta(records[:7], number) for number in range(7, 207)}
    assert len(drawn) > 100
    near = {theta for r in records for theta in DOMAIN.neighbours(r.theta)}
    assert {sampler.theta(records, number) for number in range(8, 208)} <= near


def test_a_pruned_member_takes_a_place_and_loses():
    records = far_apart([0.0, 1.0, 2.0, 3.0, 4.0, -9.0])
    records[5] = replace(records[5], key=(1, -1, -9.0), state="pruned")
    counts = parents(EvolutionSampler(DOMAIN, 0, EvolutionSettings(2, 8)), records, 500)
    assert counts[4] > 480
    assert set(counts) <= {4, 5}


def test_a_parent_without_neighbours_is_followed_by_a_prior_draw():
    space = NasBench101Space()
    records = [record(0, (0,) * 26, 1.0, digest="invalid")]
    sampler = EvolutionSampler(space, 0, EvolutionSettings(1, 1))
    assert space.valid(sampler.theta(records, 1))


@pytest.mark.parametrize("settings", [{"population": 0}, {"tournament": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="is 0: use 1 or more"):
        EvolutionSettings(**settings)
