"""Genotypes: validation, JSON, and functional identity against graph isomorphism."""

import json
import random

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermonas.errors import GenotypeError
from dermonas.space.genotype import EXTRA_OPERATIONS, PRIMITIVES, Cell, Edge, Genotype

BUILDABLE = PRIMITIVES[1:] + EXTRA_OPERATIONS


def random_cell(rng: random.Random, operations: tuple[str, ...], nodes: int, width: int, edges: int) -> Cell:
    return Cell(
        tuple(
            tuple(Edge(rng.choice(operations), rng.randrange(i + 2)) for _ in range(rng.randint(1, edges)))
            for i in range(nodes)
        ),
        tuple(rng.sample(range(2, nodes + 2), width)),
    )


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    nodes = draw(st.integers(1, 5))
    rng = draw(st.randoms(use_true_random=False))
    return random_cell(rng, draw(st.sampled_from([BUILDABLE, BUILDABLE[:2]])), nodes, rng.randint(1, nodes), 3)


def graph(cell: Cell) -> nx.MultiDiGraph:
    """The cell as a graph: inputs and concat places are labelled, other nodes are not, dead ones are left out."""
    out = nx.MultiDiGraph()
    for state in range(len(cell.nodes) + 2):
        place = cell.concat.index(state) if state in cell.concat else None
        out.add_node(state, label=("input", state) if state < 2 else ("node", place))
    for i, edges in enumerate(cell.nodes):
        for operation, source in edges:
            out.add_edge(source, i + 2, operation=operation)
    keep = {0, 1, *cell.concat}.union(*(nx.ancestors(out, state) for state in cell.concat))
    return out.subgraph(keep).copy()


def isomorphic(a: Cell, b: Cell) -> bool:
    return len(a.concat) == len(b.concat) and nx.is_isomorphic(
        graph(a),
        graph(b),
        node_match=lambda x, y: x["label"] == y["label"],
        edge_match=lambda x, y: (
            sorted(e["operation"] for e in x.values()) == sorted(e["operation"] for e in y.values())
        ),
    )


def renamed(cell: Cell, rng: random.Random) -> Cell:
    """The same function: nodes in another topological order, edges shuffled, a dead node appended."""
    waiting, order = set(range(2, len(cell.nodes) + 2)), [0, 1]
    while waiting:
        ready = sorted(s for s in waiting if all(edge.source in order for edge in cell.nodes[s - 2]))
        order.append(rng.choice(ready))
        waiting.remove(order[-1])
    place = {state: k for k, state in enumerate(order)}
    nodes = []
    for state in order[2:]:
        edges = [Edge(operation, place[source]) for operation, source in cell.nodes[state - 2]]
        rng.shuffle(edges)
        nodes.append(tuple(edges))
    nodes.append((Edge(rng.choice(BUILDABLE), rng.randrange(len(nodes) + 2)),))
    return Cell(tuple(nodes), tuple(place[state] for state in cell.concat))


def mutated(cell: Cell, rng: random.Random) -> Cell:
    i = rng.randrange(len(cell.nodes))
    edges = list(cell.nodes[i])
    edges[rng.randrange(len(edges))] = Edge(rng.choice(BUILDABLE[:2]), rng.randrange(i + 2))
    return Cell((*cell.nodes[:i], tuple(edges), *cell.nodes[i + 1 :]), cell.concat)


@pytest.mark.parametrize("seed", range(4))
def test_functional_identity_is_isomorphism_on_random_pairs(seed: int) -> None:
    rng = random.Random(seed)
    seen = {True: 0, False: 0}
    for _ in range(250):
        nodes = rng.randint(2, 5)
        a = random_cell(rng, BUILDABLE[:2], nodes, rng.randint(1, min(3, nodes)), 2)
        kind = rng.randrange(3)
        b = mutated(a, rng) if kind else random_cell(rng, BUILDABLE[:2], nodes, len(a.concat), 2)
        if kind == 2:
            b = renamed(b, rng)
        same = isomorphic(a, b)
        assert (a.functional() == b.functional()) is same, (a, b)
        seen[same] += 1
    assert min(seen.values()) > 40, "the pairs must show both outcomes"


@settings(deadline=None, max_examples=100)
@given(cells(), st.randoms(use_true_random=False))
def test_renaming_reordering_and_dead_nodes_leave_the_function(cell: Cell, rng: random.Random) -> None:
    other = renamed(cell, rng)
    assert other.functional() == cell.functional()
    assert Genotype(cell, cell).digest == Genotype(other, other).digest
    assert Genotype(cell, cell).structural_digest != Genotype(other, other).structural_digest


def test_two_and_more_free_nodes_may_be_exchanged() -> None:
    first, second, last = Edge("sep_conv_3x3", 0), Edge("skip_connect", 1), (Edge("avg_pool_3x3", 2),)
    tail = (Edge("max_pool_3x3", 2), Edge("dil_conv_3x3", 3))
    swapped = (Edge("max_pool_3x3", 3), Edge("dil_conv_3x3", 2))
    a = Cell(((first,), (second,), tail), (4,))
    assert a.functional() == Cell(((second,), (first,), swapped), (4,)).functional()
    assert a.functional() != Cell(((first,), (second,), swapped), (4,)).functional()
    assert a.functional() != Cell(((first,), (second,), last), (4,)).functional()


def test_the_concat_order_and_repeated_edges_count() -> None:
    nodes = ((Edge("skip_connect", 0),), (Edge("sep_conv_3x3", 1),))
    assert Cell(nodes, (2, 3)).functional() != Cell(nodes, (3, 2)).functional()
    once, twice = (Edge("skip_connect", 0),), (Edge("skip_connect", 0), Edge("skip_connect", 0))
    assert Cell((once,), (2,)).functional() != Cell((twice,), (2,)).functional()


@settings(deadline=None, max_examples=60)
@given(cells())
def test_live_nodes_and_sources_are_the_ancestors_of_the_concat(cell: Cell) -> None:
    whole = nx.MultiDiGraph((e.source, i + 2) for i, edges in enumerate(cell.nodes) for e in edges)
    ancestors = set(cell.concat).union(*(nx.ancestors(whole, state) for state in cell.concat))
    assert cell.live_nodes == {state - 2 for state in ancestors if state >= 2}
    assert cell.live_sources == {state for state in ancestors if state < 2}


@settings(deadline=None, max_examples=60)
@given(cells())
def test_json_round_trip(cell: Cell) -> None:
    genotype = Genotype(cell, cell)
    again = Genotype.from_json(genotype.to_json())
    assert again == genotype
    assert hash(again) == hash(genotype)
    assert (again.digest, again.structural_digest) == (genotype.digest, genotype.structural_digest)
    assert Genotype.from_dict(genotype.to_dict()) == genotype
    assert genotype.nodes == len(cell.nodes)


def test_digest_is_stable_and_tells_the_cells_apart() -> None:
    a = Cell(((Edge("skip_connect", 0),),), (2,))
    b = Cell(((Edge("sep_conv_3x3", 1),),), (2,))
    assert Genotype(a, b).digest != Genotype(b, a).digest
    # Digests name networks in stores that outlive a version: this value must never change.
    assert Genotype(a, b).digest == "a70ab4fef3007205"


def test_structural_digest_ignores_the_order_within_a_node_only() -> None:
    x, y = Edge("skip_connect", 0), Edge("sep_conv_3x3", 1)
    one, two, three = Cell(((x, y),), (2,)), Cell(((y, x),), (2,)), Cell(((x,),), (2,))
    assert Genotype(one, one).structural_digest == Genotype(two, two).structural_digest
    assert Genotype(one, one).structural_digest != Genotype(three, three).structural_digest


def test_flat_darts_lists_and_extra_keys_are_read() -> None:
    flat = {
        "name": "x",
        "source": "y",
        "normal": [["sep_conv_3x3", 0], ["skip_connect", 1], ["max_pool_3x3", 2], ["max_pool_3x3", 0]],
        "normal_concat": [2, 3],
        "reduce": [("skip_connect", 0), ("skip_connect", 1), ("max_pool_3x3", 2), ("avg_pool_3x3", 0)],
        "reduce_concat": (2, 3),
    }
    genotype = Genotype.from_dict(flat)
    assert genotype.normal.nodes[0] == (Edge("sep_conv_3x3", 0), Edge("skip_connect", 1))
    assert genotype.reduce.nodes[1] == (Edge("max_pool_3x3", 2), Edge("avg_pool_3x3", 0))


@pytest.mark.parametrize(
    ("nodes", "concat", "words"),
    [
        ([], [2], "no node"),
        ([[]], [2], "node 0 has no edge"),
        ([[["none", 0]]], [2], "node 0, edge 0: operation 'none'"),
        ([[["skip_connect", 0], ["conv_9x9", 1]]], [2], "node 0, edge 1: operation 'conv_9x9'"),
        ([[["skip_connect", 2]]], [2], "node 0, edge 0: source 2"),
        ([[["skip_connect", 0]], [["skip_connect", -1]]], [2], "node 1, edge 0: source -1"),
        ([[["skip_connect", 0]]], [], "concat is empty"),
        ([[["skip_connect", 0]]], [1], "state 1 is no node"),
        ([[["skip_connect", 0]]], [3], "state 3 is no node"),
        ([[["skip_connect", 0]]], [2, 2], "names a node twice"),
        ([[["skip_connect", 0, 1]]], [2], "node 0: expected a list"),
        ([["skip_connect", 0], ["skip_connect", 1], ["skip_connect", 1]], [2], "two per node"),
        (None, [2], "expected a list of nodes"),
        ([[["skip_connect", 0]]], "2", "reduce_concat: expected a list of state numbers"),
        ([[["skip_connect", True]]], [2], "node 0: expected a list"),
    ],
)
def test_errors_are_one_line_and_name_the_place(nodes: object, concat: object, words: str) -> None:
    good = {"normal": [[["skip_connect", 0]]], "normal_concat": [2]}
    with pytest.raises(GenotypeError) as caught:
        Genotype.from_dict({**good, "reduce": nodes, "reduce_concat": concat})
    message = str(caught.value)
    assert words in message
    assert message.startswith("reduce")
    assert "\n" not in message


def test_missing_keys_bad_json_and_unequal_cells() -> None:
    cell = Cell(((Edge("skip_connect", 0),),), (2,))
    data = Genotype(cell, cell).to_dict()
    for key in data:
        with pytest.raises(GenotypeError, match=f"^{key}: missing"):
            Genotype.from_dict({k: v for k, v in data.items() if k != key})
    with pytest.raises(GenotypeError, match="not JSON"):
        Genotype.from_json("{")
    with pytest.raises(GenotypeError, match="expected an object"):
        Genotype.from_json(json.dumps([1]))
    with pytest.raises(GenotypeError, match="1 nodes but reduce has 2"):
        Genotype(cell, Cell(cell.nodes * 2, (2,)))


def test_the_eight_primitives_keep_their_places() -> None:
    assert (
        *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"),
        *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
    ) == PRIMITIVES
    assert not set(PRIMITIVES) & set(EXTRA_OPERATIONS)
