"""Positives are one to three edits away, exactly, and other networks; the draw depends on its key alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dermonas.controller.darts import DartsLanguage
from dermonas.controller.language import uniforms
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.controller.nasbench101_bits import fingerprints, from_thetas, is_sound
from dermonas.controller.nasbench201 import NasBench201Language
from dermonas.errors import GenotypeError
from dermonas.space.nasbench101_graphs import every_graph
from tests.unit.controller.cells import LANGUAGES, NAMES, edit_distance, some_cells

each_language = pytest.mark.parametrize("language", LANGUAGES, ids=NAMES)


def near(language, thetas, seed=0, epoch=0, first=0, count=7, fallback="redraw"):
    numbers = uniforms(language, seed, epoch, range(first, first + len(thetas)), count)
    return language.positives(thetas, numbers, fallback)


def pairs(thetas, positives):
    """(anchor, positive, edits) as plain tuples."""
    for anchor, row, distances in zip(
        thetas.tolist(), positives.thetas.tolist(), positives.distance.tolist(), strict=True
    ):
        for positive, distance in zip(row, distances, strict=True):
            yield tuple(anchor), tuple(positive), distance


@each_language
def test_positives_are_one_to_three_edits_away_by_exact_distance(language):
    thetas = some_cells(language, 24, seed=3)
    seen = set()
    for anchor, positive, edits in pairs(thetas, near(language, thetas, count=2)):
        if edits:
            distance = edit_distance(language, anchor, positive)
            assert distance is not None
            assert 1 <= distance <= edits
            seen.add(edits)
    assert seen == {1, 2, 3}


@each_language
def test_positives_are_valid_other_networks(language):
    thetas = some_cells(language, 60, seed=4)
    positives = near(language, thetas)
    digest = language.space.digest
    for anchor, positive, edits in pairs(thetas, positives):
        assert (digest(anchor) == digest(positive)) == (edits == 0)
        assert digest(positive) != "invalid"
    assert set(language.decode(language.encode(positives.thetas.reshape(420, -1))).reasons) == {""}


@pytest.mark.parametrize("language", LANGUAGES[1:], ids=NAMES[1:])
def test_the_edits_are_counted_right(language):
    """Positions changed: an operation is one, a rewire of ours two."""
    thetas = some_cells(language, 200, seed=5)
    positives = near(language, thetas)
    changed = (positives.thetas != thetas[:, None]).sum(axis=2)
    np.testing.assert_array_equal(changed, positives.distance)


@pytest.mark.parametrize("language", LANGUAGES[2:], ids=NAMES[2:])
def test_our_positives_are_canonical(language):
    positives = near(language, some_cells(language, 40)).thetas.reshape(280, -1)
    for theta in map(tuple, positives.tolist()):
        assert language.space.canonical(theta) == theta


@each_language
def test_distances_are_equally_likely_while_nothing_fails(language):
    # Anchors on which edits nearly always work: large graphs for NAS-Bench-101.
    thetas = some_cells(language, 400)[-200:] if language.name != "nasbench101" else every_graph(6)[-200:]
    positives = near(language, thetas, count=30)
    share = np.bincount(positives.distance.ravel(), minlength=4) / positives.distance.size
    assert share[0] < 0.01
    assert share[1:] == pytest.approx([1 / 3] * 3, abs=0.02)


@each_language
def test_an_anchor_has_the_same_positives_in_any_batch(language):
    thetas = some_cells(language, 12)
    together = near(language, thetas)
    part = near(language, thetas[5:9], first=5)
    np.testing.assert_array_equal(part.thetas, together.thetas[5:9])
    assert (near(language, thetas, epoch=1).thetas != together.thetas).any()
    assert (near(language, thetas, seed=1).thetas != together.thetas).any()


def test_a_graph_without_edits_stands_for_itself_and_is_counted():
    language = NasBench101Language()
    edge = every_graph(2)
    for fallback in ("redraw", "paper"):
        positives = near(language, edge, fallback=fallback)
        assert not positives.distance.any()
        assert (positives.thetas == edge[:, None]).all()


def test_the_papers_fallback_keeps_to_the_distance_and_to_equal_networks():
    language = NasBench201Language()
    nothing = np.zeros((40, 6), np.uint8)  # most single edits of it change nothing
    redrawn, paper = near(language, nothing), near(language, nothing, fallback="paper")
    digest = language.space.digest
    zero = digest((0,) * 6)
    assert any(digest(p) == zero for _, p, _ in pairs(nothing, paper))
    assert not any(digest(p) == zero for _, p, d in pairs(nothing, redrawn) if d)
    three = every_graph(3)  # at most one inner vertex: two operations cannot change
    assert (near(NasBench101Language(), three, count=40, fallback="paper").distance == 0).mean() > 0.3
    assert (near(NasBench101Language(), three, count=40).distance[1:] == 0).mean() < 0.02


def test_a_deletion_takes_a_vertex_with_one_edge_in_and_one_out():
    language = NasBench101Language()
    large = every_graph(6)[-300:]
    sizes = from_thetas(large).size
    positives = near(language, large, count=10)
    smaller = from_thetas(positives.thetas.reshape(3000, -1)).size.reshape(300, 10)
    lost = sizes[:, None] - smaller
    assert set(np.unique(lost)) == {0, 1}
    assert (positives.distance[lost == 1] == 3).all()
    assert 0 < (lost == 1).sum() < 0.15 * lost[positives.distance == 3].size


def test_anchors_of_ours_must_be_canonical():
    language = DartsLanguage(4)
    thetas = some_cells(language, 2)
    thetas[1, 2:5] = 1
    with pytest.raises(GenotypeError, match="anchor 1 has 3 edges in node 1"):
        near(language, thetas)


def test_uniform_genotypes_are_far_apart():
    """Spec 8: random pairs are further apart than two positives of one anchor can be."""
    for nodes, mean in ((4, 20.3), (5, 26.7)):
        thetas = DartsLanguage(nodes).sample(np.random.default_rng(0), 2000)
        apart = (thetas[:1000] != thetas[1000:]).sum(axis=1)
        assert apart.min() > 6
        assert apart.mean() == pytest.approx(mean, abs=0.6)


def test_fingerprints_part_graphs_as_the_hash_does():
    language = NasBench101Language()
    graphs = every_graph(5)
    assert len(np.unique(fingerprints(from_thetas(graphs)))) == len(graphs)
    rng = np.random.default_rng(0)
    thetas = np.array([language.space.sample(rng) for _ in range(800)], np.uint8)
    thetas[:400, :15] = 0
    numbers = fingerprints(from_thetas(thetas))
    by_number: dict[int, set[str]] = {}
    for number, theta in zip(numbers.tolist(), thetas.tolist(), strict=True):
        if from_thetas(np.array([theta])).size[0]:
            by_number.setdefault(number, set()).add(language.space.digest(tuple(theta)))
    assert all(len(digests) == 1 for digests in by_number.values())
    assert len(set().union(*by_number.values())) == len(by_number)
    canonical = np.array([language.space.canonical(tuple(t)) for t in thetas[400:].tolist()])
    np.testing.assert_array_equal(fingerprints(from_thetas(canonical)), numbers[400:])


def test_soundness_agrees_with_pruning():
    space = NasBench101Language().space
    size = 4
    cells = list(itertools.combinations(range(7), 2))
    inside = [k for k, (_, column) in enumerate(cells) if column < size - 1]
    last = [k for k, (row, column) in enumerate(cells) if column == 6 and row < size - 1]
    for bits in itertools.product((0, 1), repeat=6):
        theta = np.zeros(26, np.uint8)
        theta[inside], theta[last] = bits[:3], bits[3:]
        spec = space.spec(tuple(theta.tolist())).pruned
        edges = np.array([sum(bit << k for k, bit in enumerate(bits))])  # so few columns lie as the rows do
        assert is_sound(np.array([size]), edges)[0] == (spec is not None and len(spec.matrix) == size)
