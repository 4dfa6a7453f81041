"""Pairs of known distance, and how their cosine is judged."""

from __future__ import annotations

import numpy as np
import pytest
from cells import LANGUAGES, NAMES, some_cells
from scipy.stats import spearmanr

from dermonas.controller.darts import DartsLanguage
from dermonas.controller.edit_distance import edit_distances
from dermonas.controller.locality import (
    Pairs,
    cosine,
    embed,
    locality,
    pairs_by_distance,
    random_distances,
)
from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.controller.nasbench201 import NasBench201Language
from dermonas.errors import ConfigError, DataError
from dermonas.space.nasbench101_graphs import every_graph

NB101, NB201 = NasBench101Language(), NasBench201Language()
SMALL = every_graph(5).astype(np.uint8)


def same(one: Pairs, other: Pairs) -> bool:
    fields = ("first", "second", "distance", "anchor", "other")
    return all(np.array_equal(getattr(one, field), getattr(other, field)) for field in fields)


def controller_of(language, seed=0):
    return Controller(ControllerSettings(language.vocabulary, language.length), seed).eval()


@pytest.mark.parametrize("language", LANGUAGES, ids=NAMES)
def test_pairs_have_the_distance_that_they_are_listed_under(language):
    cells = some_cells(language, 200)
    pairs = pairs_by_distance(language, cells, 20, (1, 2, 3, 4), listed=False)
    assert [pairs.count(distance) for distance in (1, 2, 3, 4)] == [20] * 4
    assert (np.diff(pairs.distance) >= 0).all()
    assert np.array_equal(edit_distances(language, pairs.first, pairs.second), pairs.distance)
    assert np.array_equal(cells[pairs.anchor], pairs.first)
    assert (pairs.other == -1).all()
    digests = [
        frozenset(language.space.digest(tuple(theta)) for theta in ends)
        for ends in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    ]
    assert len(set(digests)) == len(pairs)
    assert all(len(ends) == 2 for ends in digests)


@pytest.mark.parametrize(("language", "cells"), [(NB101, SMALL), (NB201, some_cells(NB201, 2000))], ids=["101", "201"])
def test_listed_partners_are_cells_as_they_stand_there(language, cells):
    pairs = pairs_by_distance(language, cells, 30, (1, 2, 3, 5), seed=1)
    assert [pairs.count(distance) for distance in (1, 2, 3, 5)] == [30] * 4
    assert np.array_equal(cells[pairs.other], pairs.second)
    assert np.array_equal(edit_distances(language, pairs.first, pairs.second), pairs.distance)


def test_few_cells_give_the_near_pairs_that_exist():
    """All pairs of 40 graphs are measured; what is drawn are nearly all of each distance, and no more."""
    cells = SMALL[:40]
    one, other = np.triu_indices(len(cells), 1)
    exist = np.bincount(edit_distances(NB101, cells[one], cells[other]), minlength=9)
    pairs = pairs_by_distance(NB101, cells, 1000)
    counts = np.array([pairs.count(distance) for distance in range(1, 9)])
    assert (counts <= exist[1:9]).all()
    assert (counts >= 0.9 * exist[1:9]).all()
    assert pairs_by_distance(NB101, cells, 5, (20,)).distance.shape == (0,)


def test_draws_depend_on_the_seed_alone():
    draw = [pairs_by_distance(NB201, some_cells(NB201, 300), 10, (1, 3), seed=seed) for seed in (4, 4, 5)]
    assert same(draw[0], draw[1])
    assert not same(draw[0], draw[2])
    random = [random_distances(NB101, SMALL, 50, seed) for seed in (4, 4, 5)]
    assert np.array_equal(random[0], random[1])
    assert not np.array_equal(random[0], random[2])


def test_random_pairs_are_never_a_cell_with_itself():
    assert (random_distances(NB101, SMALL[:2], 40, 0) > 0).all()
    whole = random_distances(NB101, SMALL, 3000, 0)
    one, other = np.random.default_rng(9).integers(0, len(SMALL), (2, 3000))
    assert whole.mean() == pytest.approx(edit_distances(NB101, SMALL[one], SMALL[other]).mean(), abs=0.15)


def test_cosine_is_that_of_each_embedding_alone():
    controller = controller_of(NB101)
    pairs = pairs_by_distance(NB101, SMALL, 3, (1, 2))
    one, other = (embed(controller, NB101, side) for side in (pairs.first, pairs.second))
    expected = [float(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(one, other, strict=True)]
    assert cosine(controller, NB101, pairs) == pytest.approx(expected, abs=1e-6)
    alone = np.concatenate([embed(controller, NB101, cell[None]) for cell in pairs.first])
    assert alone == pytest.approx(one, abs=1e-6)


def test_rho_is_scipys_and_its_interval_knows_anchors():
    rng = np.random.default_rng(0)
    distance = np.repeat(np.arange(1, 9), 25)
    similarity = 1 - 0.1 * distance + rng.normal(0, 0.2, len(distance))
    cells = np.zeros((len(distance), 6), np.uint8)

    def pairs(anchor):
        return Pairs(cells, cells, distance, np.asarray(anchor), np.full(len(distance), -1))

    apart = locality(similarity, pairs(np.arange(200)))
    assert apart.estimate == pytest.approx(spearmanr(distance, similarity).statistic)
    assert apart.lo < apart.estimate < apart.hi < -0.4
    # The same twenty-five rows eight times are no more than once.
    twice = locality(
        np.tile(similarity[::8], 8), Pairs(cells, cells, np.tile(distance[::8], 8), np.tile(np.arange(25), 8), distance)
    )
    once = locality(similarity[::8], Pairs(cells[::8], cells[::8], distance[::8], np.arange(25), distance[::8]))
    assert twice.hi - twice.lo == pytest.approx(once.hi - once.lo, rel=0.15)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ConfigError, match=r"0 pairs of distances \[1\]"):
        pairs_by_distance(NB101, SMALL, 0, (1,))
    with pytest.raises(ConfigError, match=r"distances \[0, 1\]"):
        pairs_by_distance(NB101, SMALL, 1, (0, 1))
    for call in (lambda cells: pairs_by_distance(NB101, cells, 1), lambda cells: random_distances(NB101, cells, 1, 0)):
        with pytest.raises(DataError, match="1 cells make no pair"):
            call(SMALL[:1])
    assert not len(pairs_by_distance(DartsLanguage(4), some_cells(DartsLanguage(4), 30), 2, (40,), listed=False))
