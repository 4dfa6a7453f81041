"""Exact edit distances against networkx, and what a distance must be."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from cells import LANGUAGES, NAMES, edit_distance, graphs, some_cells

from dermonas.controller.darts import DartsLanguage
from dermonas.controller.edit_distance import edit_distances
from dermonas.controller.language import uniforms
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.controller.nasbench101_bits import from_thetas, to_thetas
from dermonas.controller.nasbench201 import NasBench201Language
from dermonas.errors import DataError
from dermonas.space.nasbench101 import CELLS
from dermonas.space.nasbench101_graphs import every_graph

NB101, NB201 = NasBench101Language(), NasBench201Language()


def exactly(language, one, other):
    """Without a bound: fast for few vertices only."""
    return nx.graph_edit_distance(
        *(graphs(language, tuple(theta.tolist()))[0] for theta in (one, other)),
        node_match=lambda a, b: a["label"] == b["label"],
        edge_match=lambda a, b: a["label"] == b["label"],
    )


def steps(language, cells, count, seed=0):
    """The cells after 1, 2, ... rounds of random edits."""
    walked = []
    for step in range(count):
        numbers = uniforms(language, seed, step, range(len(cells)), 1)
        cells = language.positives(cells, numbers).thetas[:, 0]
        walked.append(cells)
    return walked


def test_far_pairs_of_small_cells_agree_with_networkx():
    small = every_graph(5).astype(np.uint8)
    rng = np.random.default_rng(0)
    one, other = (small[rng.integers(0, len(small), 120)] for _ in range(2))
    found = edit_distances(NB101, one, other)
    assert found.tolist() == [exactly(NB101, a, b) for a, b in zip(one, other, strict=True)]
    assert found.max() >= 8


def test_far_pairs_of_nasbench201_agree_with_networkx():
    one, other = some_cells(NB201, 120, seed=1), some_cells(NB201, 120, seed=2)
    found = edit_distances(NB201, one, other)
    assert found.tolist() == [exactly(NB201, a, b) for a, b in zip(one, other, strict=True)]
    hamming = (one != other).sum(axis=1)
    assert (found <= hamming).all()
    assert (found < hamming).any()  # exchanging the inner nodes matters


@pytest.mark.parametrize("language", LANGUAGES, ids=NAMES)
def test_near_pairs_agree_with_networkx(language):
    cells = some_cells(language, 25)
    for other in steps(language, cells, 2):
        found = edit_distances(language, cells, other).tolist()
        slow = [
            edit_distance(language, tuple(a.tolist()), tuple(b.tolist())) for a, b in zip(cells, other, strict=True)
        ]
        # The slow one may stop above 3; of two cells of ours it adds what each gives.
        assert [min(d, 4) for d in found] == [4 if d is None else min(d, 4) for d in slow]
        assert min(found) <= 3


def test_vertices_renamed_are_the_same_graph():
    cells = some_cells(NB101, 60)
    tokens = NB101.encode(cells)
    others = np.array([NB101.space.canonical(tuple(theta.tolist())) for theta in cells], np.uint8)
    assert (NB101.encode(others) != tokens).any()
    assert not edit_distances(NB101, cells, others).any()
    assert not edit_distances(NB101, cells, to_thetas(from_thetas(cells))).any()


def test_dead_vertices_do_not_count():
    theta = np.zeros((1, 26), np.uint8)
    theta[0, CELLS.index((0, 6))] = 1
    dangling = theta.copy()
    dangling[0, [CELLS.index((0, 1)), CELLS.index((2, 6))]] = 1
    dangling[0, -5:] = 2
    assert edit_distances(NB101, theta, dangling).tolist() == [0]


@pytest.mark.parametrize("language", LANGUAGES, ids=NAMES)
def test_it_is_a_metric_on_cells(language):
    one, two, three = (some_cells(language, 60, seed=seed) for seed in range(3))
    there = edit_distances(language, one, two)
    assert not edit_distances(language, one, one).any()
    assert (there == edit_distances(language, two, one)).all()
    assert (edit_distances(language, one, three) <= there + edit_distances(language, two, three)).all()


@pytest.mark.parametrize("language", LANGUAGES, ids=NAMES)
def test_an_edit_of_the_language_costs_no_more_than_it_says(language):
    cells = some_cells(language, 200)
    near = language.positives(cells, uniforms(language, 3, 0, range(200), 1))
    found = edit_distances(language, cells, near.thetas[:, 0])
    assert (found <= near.distance[:, 0]).all()
    assert (found == near.distance[:, 0]).mean() > 0.8


def test_nasbench101_cells_of_seven_vertices_count_edges_and_operations():
    """Known by hand: a chain of five 3x3 convolutions against the same of poolings, and against the bare cell.

    Of the chain the bare cell is best made by cutting off the last five vertices and calling the second one output.
    """
    chain, bare = np.zeros((2, 26), np.uint8)
    chain[[CELLS.index((v, v + 1)) for v in range(6)]] = 1
    bare[CELLS.index((0, 6))] = 1
    pools = chain.copy()
    pools[21:] = 2
    pairs = np.stack([chain, chain, bare]), np.stack([pools, bare, pools])
    assert edit_distances(NB101, *pairs).tolist() == [5, 5 + 5 + 1, 5 + 5 + 1]


def test_what_has_no_distance_is_refused():
    cells = some_cells(NB201, 3)
    with pytest.raises(DataError, match=r"\(3, 6\) and \(2, 6\)"):
        edit_distances(NB201, cells, cells[:2])
    with pytest.raises(DataError, match="cell 1: its input"):
        edit_distances(NB101, some_cells(NB101, 2), np.stack([some_cells(NB101, 2)[0], np.zeros(26, np.uint8)]))
    assert edit_distances(DartsLanguage(4), np.zeros((0, 28), int), np.zeros((0, 28), int)).shape == (0,)
