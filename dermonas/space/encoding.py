"""Three ways to write the edges of one cell as a vector of choices.

Each encoding speaks of one cell: a theta of `DartsSpace` is the normal cell's vector followed by the
reduction cell's. `decode` is total (every vector is a cell), `encode` is its inverse on canonical
vectors, `filler` is what an undescribed or dead node holds, `edits` are the one-step changes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, Protocol

from dermonas.errors import GenotypeError
from dermonas.space.genotype import PRIMITIVES, Edge

EncodingName = Literal["first2", "all", "pairs"]
NodeEdges = tuple[Edge, ...]

_INDEX = {operation: value for value, operation in enumerate(PRIMITIVES)}
_OPERATIONS = PRIMITIVES[1:]

# Sources a later edge could come from never exceed a handful, so all edges exist once and are shared.
_EDGES = tuple(tuple(Edge(operation, source) for operation in PRIMITIVES) for source in range(8))

# Where the rule must invent an edge it invents a max_pool_3x3: what the authors' noisy parse gives
# in 90 % of draws. Source: spec 1.3 b, measured on the CSNAS code.
_FILLER = _INDEX["max_pool_3x3"]


class Encoding(Protocol):
    """One cell's edges as a vector of choices."""

    def choices(self, nodes: int) -> tuple[int, ...]:
        """Return the number of choices at each position for a cell of `nodes` nodes."""

    def decode(self, vector: Sequence[int], nodes: int) -> tuple[NodeEdges, ...]:
        """Return each node's edges. The vector must fit `choices(nodes)`."""

    def encode(self, nodes: Sequence[NodeEdges]) -> list[int]:
        """Return the canonical vector that decodes to these edges, their order aside.

        Raises:
            GenotypeError: If no vector does; names the node.
        """

    def filler(self) -> NodeEdges:
        """Return the edges of a node that the vector leaves open; dead nodes canonically hold them."""

    def edits(self, node: int, edges: NodeEdges) -> Iterator[NodeEdges]:
        """Yield what the edges of node `node` (0-based) become by one change, each once."""


class All:
    """An operation or none for every source of every node; every edge that is not none is kept.

    Position = node-major, source-minor: node i has positions for sources 0 .. i+1; 14 positions for
    4 nodes, 20 for 5. A node whose positions are all none gets one max_pool_3x3 from source 0, so
    that it has an input. Source: CSNAS, the sum over all incoming edges in section III-A
    (spec 1.3 d). Deviation: the paper does not say what an empty node is; the filler is ours.
    """

    def choices(self, nodes: int) -> tuple[int, ...]:
        """Return 8 choices for each of the sum of (i + 2) positions."""
        return (len(PRIMITIVES),) * sum(i + 2 for i in range(nodes))

    def decode(self, vector: Sequence[int], nodes: int) -> tuple[NodeEdges, ...]:
        """Return each node's non-none edges by ascending source, or the filler."""
        return tuple(
            tuple(_EDGES[j][value] for j, value in enumerate(values) if value) or self.filler()
            for values in _by_node(vector, nodes)
        )

    def encode(self, nodes: Sequence[NodeEdges]) -> list[int]:
        """Return operation indices at the sources used, 0 elsewhere.

        Raises:
            GenotypeError: If a node uses a source twice or an operation outside PRIMITIVES.
        """
        vector: list[int] = []
        for i, edges in enumerate(nodes):
            _require_distinct(i, edges)
            values = [0] * (i + 2)
            for operation, source in edges:
                values[source] = _value(i, operation)
            vector += values
        return vector

    def filler(self) -> NodeEdges:
        """Return one max_pool_3x3 from source 0."""
        return (_EDGES[0][_FILLER],)

    def edits(self, node: int, edges: NodeEdges) -> Iterator[NodeEdges]:
        """Yield every change, addition and removal of one edge that leaves the node an edge."""
        yield from _other_operations(edges)
        used = {source for _, source in edges}
        for source in range(node + 2):
            if source not in used:
                yield from ((*edges, Edge(operation, source)) for operation in _OPERATIONS)
        if len(edges) > 1:
            yield from (edges[:j] + edges[j + 1 :] for j in range(len(edges)))


class First2(All):
    """The same vector as `All`, of which a node keeps its two lowest sources that are not none.

    Selected = (non-none sources ascending + none sources ascending)[:2]; a selected none edge
    becomes max_pool_3x3; edges are emitted in that order. Source: CSNAS code, its matrix and DARTS
    parse made deterministic (spec 1.3, REC). Deviation: the code's N(0, 1e-3) noise is left out; it
    moved nothing but the operation of a filler, in one draw of ten.
    """

    def decode(self, vector: Sequence[int], nodes: int) -> tuple[NodeEdges, ...]:
        """Return the two selected edges of each node."""
        out = []
        for values in _by_node(vector, nodes):
            real = [j for j, value in enumerate(values) if value][:2]
            if len(real) < 2:
                real += [j for j, value in enumerate(values) if not value][: 2 - len(real)]
            out.append(tuple(_EDGES[j][values[j] or _FILLER] for j in real))
        return tuple(out)

    def encode(self, nodes: Sequence[NodeEdges]) -> list[int]:
        """Return operation indices at the two sources of each node, 0 elsewhere; fillers are 1.

        Raises:
            GenotypeError: If a node has not exactly two edges from different sources, or an
                operation outside PRIMITIVES.
        """
        _require_two(nodes)
        return super().encode(nodes)

    def filler(self) -> NodeEdges:
        """Return max_pool_3x3 from sources 0 and 1: what an all-none node decodes to."""
        return (_EDGES[0][_FILLER], _EDGES[1][_FILLER])

    def edits(self, node: int, edges: NodeEdges) -> Iterator[NodeEdges]:
        """Yield every change of one operation, and of one source to another that is not in use."""
        return _two_edge_edits(node, edges)


class Pairs:
    """A pair of sources for each node, then the operations of the lower and of the higher source.

    Three positions a node: an index into the C(i+2, 2) source pairs in lexicographic order, and two
    indices into the seven operations that are not none (0 = max_pool_3x3). Every vector is a cell
    whose nodes have two different sources, each such cell once: only dead nodes make two vectors
    equal. Ours, not the paper's: it takes away the bias of `First2` to low sources (spec 1.3 c).
    """

    def choices(self, nodes: int) -> tuple[int, ...]:
        """Return (C(i+2, 2), 7, 7) for each node i; node 0 has a single pair."""
        return tuple(
            itertools.chain.from_iterable((len(_pairs(i)[0]), len(_OPERATIONS), len(_OPERATIONS)) for i in range(nodes))
        )

    def decode(self, vector: Sequence[int], nodes: int) -> tuple[NodeEdges, ...]:
        """Return the two edges of each node, the lower source first."""
        out = []
        for i in range(nodes):
            pair, low, high = vector[3 * i : 3 * i + 3]
            a, b = _pairs(i)[0][pair]
            out.append((_EDGES[a][low + 1], _EDGES[b][high + 1]))
        return tuple(out)

    def encode(self, nodes: Sequence[NodeEdges]) -> list[int]:
        """Return the pair index and both operation indices of each node.

        Raises:
            GenotypeError: If a node has not exactly two edges from different sources, or an
                operation outside PRIMITIVES.
        """
        _require_two(nodes)
        vector: list[int] = []
        for i, edges in enumerate(nodes):
            _require_distinct(i, edges)
            (low, a), (high, b) = sorted(edges, key=lambda edge: edge[1])
            vector += [_pairs(i)[1][a, b], _value(i, low) - 1, _value(i, high) - 1]
        return vector

    def filler(self) -> NodeEdges:
        """Return max_pool_3x3 from sources 0 and 1: the vector (0, 0, 0)."""
        return (_EDGES[0][_FILLER], _EDGES[1][_FILLER])

    def edits(self, node: int, edges: NodeEdges) -> Iterator[NodeEdges]:
        """Yield every change of one operation, and of one source to another that is not in use."""
        return _two_edge_edits(node, edges)


ENCODINGS: dict[EncodingName, Encoding] = {"first2": First2(), "all": All(), "pairs": Pairs()}


@lru_cache(maxsize=16)
def _pairs(node: int) -> tuple[list[tuple[int, int]], dict[tuple[int, int], int]]:
    pairs = list(itertools.combinations(range(node + 2), 2))
    return pairs, {pair: k for k, pair in enumerate(pairs)}


def _by_node(vector: Sequence[int], nodes: int) -> Iterator[Sequence[int]]:
    start = 0
    for i in range(nodes):
        yield vector[start : start + i + 2]
        start += i + 2


def _value(node: int, operation: str) -> int:
    value = _INDEX.get(operation, 0)
    if not value:
        raise GenotypeError(f"node {node}: {operation} cannot be searched, so the cell has no theta")
    return value


def _require_two(nodes: Sequence[NodeEdges]) -> None:
    for i, edges in enumerate(nodes):
        if len(edges) != 2:
            raise GenotypeError(f"node {i} has {len(edges)} edges, this encoding holds two: use the encoding 'all'")


def _require_distinct(node: int, edges: NodeEdges) -> None:
    sources = [source for _, source in edges]
    if len(set(sources)) != len(sources):
        raise GenotypeError(f"node {node} uses one source twice (sources {sources}), so the cell has no theta")


def _other_operations(edges: NodeEdges) -> Iterator[NodeEdges]:
    for j, (operation, source) in enumerate(edges):
        for other in _OPERATIONS:
            if other != operation:
                yield (*edges[:j], Edge(other, source), *edges[j + 1 :])


def _two_edge_edits(node: int, edges: NodeEdges) -> Iterator[NodeEdges]:
    yield from _other_operations(edges)
    used = {source for _, source in edges}
    for j, (operation, _) in enumerate(edges):
        for source in range(node + 2):
            if source not in used:
                yield (*edges[:j], Edge(operation, source), *edges[j + 1 :])
