"""NAS-Bench-101's space: pruning, the hash and the enumeration against slow references."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

from dermonas.errors import ConfigError, GenotypeError
from dermonas.space.modelspec import INPUT, OPERATIONS, OUTPUT, ModelSpec
from dermonas.space.nasbench101 import CELLS, INVALID, NasBench101Space
from dermonas.space.nasbench101_graphs import every_graph

SPACE = NasBench101Space()
CONV3, CONV1, POOL = OPERATIONS


def uniform(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(rng.integers(0, SPACE.choices).tolist())


def graph(spec: ModelSpec) -> nx.DiGraph:
    """The live part of a cell, by networkx alone."""
    whole = nx.DiGraph()
    whole.add_nodes_from((v, {"op": op}) for v, op in enumerate(spec.operations))
    size = len(spec.matrix)
    whole.add_edges_from((u, w) for u, w in itertools.product(range(size), repeat=2) if spec.matrix[u][w])
    if not nx.has_path(whole, 0, size - 1):
        return nx.DiGraph()
    live = (nx.descendants(whole, 0) | {0}) & (nx.ancestors(whole, size - 1) | {size - 1})
    return nx.DiGraph(whole.subgraph(live))


def same(a: nx.DiGraph, b: nx.DiGraph) -> bool:
    return nx.is_isomorphic(a, b, node_match=lambda x, y: x["op"] == y["op"])


def relabelled(spec: ModelSpec, rng: np.random.Generator) -> ModelSpec:
    """The same graph with its inner vertices in another topological order."""
    size = len(spec.matrix)
    order, left = [0], set(range(1, size - 1))
    while left:
        ready = [v for v in sorted(left) if not any(spec.matrix[u][v] for u in left)]
        order.append(int(rng.choice(ready)))
        left.remove(order[-1])
    order.append(size - 1)
    return ModelSpec(
        tuple(tuple(spec.matrix[u][w] for w in order) for u in order), tuple(spec.operations[v] for v in order)
    )


def test_a_published_cell_has_its_published_hash():
    # Key and cell from nb101_subset (NAS-Bench-101, Apache-2.0).
    matrix = [[0] * 7 for _ in range(7)]
    for source, target in [(0, 1), (0, 4), (0, 5), (1, 2), (2, 3), (2, 6), (3, 5), (4, 5), (5, 6)]:
        matrix[source][target] = 1
    spec = ModelSpec(matrix, (INPUT, CONV3, POOL, CONV3, CONV3, CONV1, OUTPUT))
    assert spec.digest == "00005c142e6f48ac74fdcf73e3439874"


def test_pruning_and_validity_agree_with_networkx():
    rng = np.random.default_rng(0)
    seen = Counter()
    for _ in range(1500):
        spec = SPACE.spec(uniform(rng))
        live = graph(spec)
        if not live:
            assert spec.pruned is None
        else:
            assert spec.pruned is not None
            assert same(graph(spec.pruned), live)
            assert len(spec.pruned.matrix) == live.number_of_nodes()
            assert spec.pruned.pruned is spec.pruned
        valid = bool(live) and live.number_of_edges() <= 9
        assert spec.valid is valid
        seen[valid] += 1
    assert min(seen.values()) > 300


def test_the_hash_is_invariant_under_relabelling_and_dead_vertices():
    rng = np.random.default_rng(1)
    moved = 0
    for _ in range(300):
        theta = SPACE.sample(rng)
        spec = SPACE.spec(theta)
        other = relabelled(spec, rng)
        moved += other != spec
        assert other.digest == spec.digest == SPACE.digest(theta) == spec.pruned.digest
        assert SPACE.theta(other) == SPACE.theta(spec) == SPACE.canonical(theta)
    assert moved > 100


def test_equal_digests_are_isomorphic_graphs_and_the_reverse():
    # All pairs of all thetas on few vertices, written with the dead vertices anywhere.
    rng = np.random.default_rng(2)
    thetas = [SPACE.sample(rng) for _ in range(4000)]
    small = [t for t in thetas if len(SPACE.spec(t).pruned.matrix) <= 4][:120]
    graphs = [graph(SPACE.spec(t)) for t in small]
    for (a, g), (b, h) in itertools.combinations(zip(small, graphs, strict=True), 2):
        assert (SPACE.digest(a) == SPACE.digest(b)) is same(g, h)
        assert (SPACE.canonical(a) == SPACE.canonical(b)) is same(g, h)
    assert 10 < len({SPACE.digest(t) for t in small}) < len(small)


def test_the_canonical_theta_is_a_fixed_point_with_the_same_hash():
    rng = np.random.default_rng(3)
    for _ in range(300):
        theta = SPACE.sample(rng)
        canonical = SPACE.canonical(theta)
        assert SPACE.valid(canonical)
        assert SPACE.canonical(canonical) == canonical
        assert SPACE.digest(canonical) == SPACE.digest(theta)


def test_invalid_thetas_are_one_class():
    zeros = (0,) * 26
    crowded = (1,) * 21 + (2,) * 5
    for theta in (zeros, crowded):
        assert not SPACE.valid(theta)
        assert SPACE.digest(theta) == INVALID
        assert SPACE.canonical(theta) == zeros
        assert list(SPACE.neighbours(theta)) == []
    with pytest.raises(GenotypeError, match="not valid"):
        SPACE.theta(SPACE.spec(crowded))
    with pytest.raises(GenotypeError, match="no hash"):
        SPACE.spec(crowded).digest  # noqa: B018


def test_samples_are_valid_and_uniform_over_valid_thetas():
    rng = np.random.default_rng(4)
    drawn = [SPACE.sample(rng) for _ in range(1500)]
    assert all(SPACE.valid(theta) for theta in drawn)
    kept = [theta for theta in (uniform(rng) for _ in range(6000)) if SPACE.valid(theta)]
    means = [np.mean([sum(t[: len(CELLS)]) for t in thetas]) for thetas in (drawn, kept)]
    assert abs(means[0] - means[1]) < 0.2


def edits(theta: tuple[int, ...]) -> set[str]:
    """The hashes one edit away, by networkx: operation, edge, or a vertex with one edge in and out."""
    live = nx.convert_node_labels_to_integers(graph(SPACE.spec(theta)), ordering="sorted")
    size = live.number_of_nodes()
    order = sorted(live)
    found = []
    for v, op in itertools.product(order[1:-1], OPERATIONS):
        other = live.copy()
        other.nodes[v]["op"] = op
        found.append(other)
    for u, w in itertools.permutations(order, 2):
        if nx.has_path(live, w, u):
            continue
        other = live.copy()
        if live.has_edge(u, w):
            other.remove_edge(u, w)
        else:
            other.add_edge(u, w)
        found.append(other)
        if size < 7:
            for op in OPERATIONS:
                other = live.copy()
                other.add_node("new", op=op)
                other.add_edges_from([(u, "new"), ("new", w)])
                found.append(other)
    digests = set()
    for other in found:
        inner = [v for v in nx.topological_sort(other) if other.nodes[v]["op"] not in (INPUT, OUTPUT)]
        names = [order[0], *inner, order[-1]]
        matrix = nx.to_numpy_array(other, nodelist=names, dtype=int)
        spec = ModelSpec(matrix.tolist(), tuple(other.nodes[v]["op"] for v in names))
        if spec.valid:
            digests.add(spec.digest)
    return digests - {SPACE.digest(theta)}


def test_neighbours_are_the_valid_graphs_one_edit_away():
    rng = np.random.default_rng(5)
    sizes = Counter()
    thetas = [SPACE.sample(rng) for _ in range(600)]
    for size in range(2, 8):
        for theta in [t for t in thetas if len(SPACE.spec(t).pruned.matrix) == size][:8]:
            found = list(SPACE.neighbours(theta))
            assert all(SPACE.canonical(other) == other for other in found)
            assert len({SPACE.digest(other) for other in found}) == len(found)
            assert {SPACE.digest(other) for other in found} == edits(theta)
            sizes[size] += 1
    assert set(sizes) == set(range(2, 8))


@pytest.mark.parametrize(
    ("matrix", "operations", "message"),
    [
        ([[0, 1], [0]], (INPUT, OUTPUT), "make it square"),
        ([[0, 1], [1, 0]], (INPUT, OUTPUT), "row 1, column 0"),
        ([[0, 2], [0, 0]], (INPUT, OUTPUT), "has 2 in row 0, column 1"),
        ([[0, 1], [0, 0]], (INPUT, CONV3, OUTPUT), "3 operations for 2 vertices"),
    ],
)
def test_a_malformed_matrix_says_where(matrix, operations, message):
    with pytest.raises(GenotypeError, match=message):
        ModelSpec(matrix, operations)


def test_what_is_well_formed_may_still_be_invalid():
    line = ModelSpec([[0, 1, 0], [0, 0, 1], [0, 0, 0]], (INPUT, CONV3, OUTPUT))
    assert line.valid
    assert not replace(line, operations=(INPUT, "conv5x5", OUTPUT)).valid
    assert not replace(line, operations=(CONV3, CONV3, OUTPUT)).valid
    assert not ModelSpec([[0, 1, 0], [0, 0, 0], [0, 0, 0]], (INPUT, CONV3, OUTPUT)).valid
    # Eight vertices, of which three are live.
    large = np.zeros((8, 8), dtype=int)
    large[0, 3] = large[3, 7] = 1
    assert ModelSpec(large.tolist(), (INPUT, *(CONV3,) * 6, OUTPUT)).digest == line.digest


def degrees(g: nx.DiGraph) -> tuple:
    """What isomorphic graphs share, to compare few of them."""
    return tuple(sorted((g.in_degree(v), g.out_degree(v), g.nodes[v]["op"]) for v in g))


def brute_force(vertices: int, edges: int) -> list[nx.DiGraph]:
    """Every valid graph with exactly that many live vertices, sorted out by pairwise isomorphism."""
    cells = list(itertools.combinations(range(vertices), 2))
    kept: dict[tuple, list[nx.DiGraph]] = {}
    for bits in itertools.product((0, 1), repeat=len(cells)):
        if sum(bits) > edges:
            continue
        base = nx.DiGraph([cell for cell, on in zip(cells, bits, strict=True) if on])
        if set(base) != set(range(vertices)):
            continue
        if not all(nx.has_path(base, 0, v) and nx.has_path(base, v, vertices - 1) for v in base):
            continue
        for ops in itertools.product(OPERATIONS, repeat=vertices - 2):
            other = base.copy()
            nx.set_node_attributes(other, dict(enumerate((INPUT, *ops, OUTPUT))), "op")
            bucket = kept.setdefault(degrees(other), [])
            if not any(same(other, known) for known in bucket):
                bucket.append(other)
    return [g for bucket in kept.values() for g in bucket]


@pytest.mark.parametrize(("vertices", "edges"), [(2, 9), (3, 9), (4, 9), (4, 4), (5, 5)])
def test_the_enumeration_is_that_of_brute_force(vertices, edges):
    listed = [graph(SPACE.spec(tuple(t.tolist()))) for t in every_graph(vertices, edges)]
    listed = [g for g in listed if g.number_of_nodes() == vertices]
    expected = brute_force(vertices, edges)
    assert len(listed) == len(expected)
    buckets: dict[tuple, list[nx.DiGraph]] = {}
    for g in expected:
        buckets.setdefault(degrees(g), []).append(g)
    for g in listed:
        assert sum(same(g, known) for known in buckets[degrees(g)]) == 1


def test_up_to_six_vertices_every_graph_is_valid_and_has_its_own_hash():
    thetas = every_graph(5)
    assert thetas.dtype == np.int8
    digests = {SPACE.digest(tuple(t.tolist())) for t in thetas}
    assert INVALID not in digests
    assert len(digests) == len(thetas) == 2532  # 1 + 6 + 84 + 2,441: the benchmark's own counts
    assert len(every_graph(6)) == 2532 + 62010
    # What is drawn at random is on the list.
    rng = np.random.default_rng(6)
    drawn = [t for t in (SPACE.sample(rng) for _ in range(400)) if len(SPACE.spec(t).pruned.matrix) <= 5]
    assert len(drawn) > 20
    assert {SPACE.digest(t) for t in drawn} <= digests


@pytest.mark.parametrize("bounds", [(1, 9), (8, 9), (5, 0)])
def test_impossible_bounds_are_refused(bounds):
    with pytest.raises(ConfigError, match="bounds are"):
        every_graph(*bounds)
