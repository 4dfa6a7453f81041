"""NAS-Bench-101's graphs as machine words, so that a batch of them is pruned, checked and hashed at once.

Layout: the edge from vertex i to vertex j > i is bit j(j-1)/2 + i, column by column, as the tokens have it. A graph
of n vertices therefore uses the first n(n-1)/2 bits whatever n is; its output is vertex n-1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dermonas.controller.language import Booleans, Thetas
from dermonas.space.modelspec import MAX_EDGES, MAX_VERTICES
from dermonas.space.nasbench101 import CELLS

PAIRS = tuple((row, column) for column in range(1, MAX_VERTICES) for row in range(column))
"""(row, column) of each of the 21 bits."""

INNER = MAX_VERTICES - 2
_BITS = len(PAIRS)
_ROWS, _COLUMNS = (np.array(side) for side in zip(*PAIRS, strict=True))
_FROM_THETA = np.array([CELLS.index(pair) for pair in PAIRS])
_POWERS = (1 << np.arange(_BITS)).astype(np.int64)


class Graphs(NamedTuple):
    """A batch of graphs.

    Attributes:
        size: (graphs,) vertices n, 2 to 7; 0 where the input does not reach the output.
        edges: (graphs,) the bits.
        operations: (graphs, 5), of vertices 1 to n-2; zeros after them.
    """

    size: NDArray[np.int64]
    edges: NDArray[np.int64]
    operations: NDArray[np.int64]


def unpack(edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (graphs, 21) of 0 and 1."""
    return (edges[:, None] >> np.arange(_BITS)) & 1


def live(size: NDArray[Any], edges: NDArray[Any]) -> NDArray[Any]:
    """Return for each graph the set of vertices on a path from input to output, vertex v as bit v."""
    forward = np.ones_like(edges)
    backward = np.left_shift(1, size - 1)
    parents = [(edges >> (j * (j - 1) // 2)) & ((1 << j) - 1) for j in range(MAX_VERTICES)]
    for j in range(1, MAX_VERTICES):
        forward |= ((parents[j] & forward) != 0).astype(edges.dtype) << j
    for j in range(MAX_VERTICES - 1, 0, -1):
        backward |= np.where((backward >> j) & 1, parents[j], 0)
    return forward & backward


def prune(graphs: Graphs) -> Graphs:
    """Return the graphs without the vertices that lie on no path from input to output, order kept."""
    alive = live(graphs.size, graphs.edges)
    kept = (alive[:, None] >> np.arange(MAX_VERTICES)) & 1
    place = np.cumsum(kept, axis=1) - 1
    row, column = place[:, _ROWS], place[:, _COLUMNS]
    both = unpack(graphs.edges) & kept[:, _ROWS] & kept[:, _COLUMNS]
    edges = (both << np.where(both, column * (column - 1) // 2 + row, 0)).sum(axis=1)
    inner = kept[:, 1 : MAX_VERTICES - 1] & (np.arange(1, MAX_VERTICES - 1) < graphs.size[:, None] - 1)
    # A stable sort brings the operations kept to the front.
    order = np.argsort(1 - inner, axis=1, kind="stable")
    operations = np.take_along_axis(graphs.operations * inner, order, axis=1)
    connected = (alive & 1) & (alive >> (graphs.size - 1))
    return Graphs(kept.sum(axis=1) * connected, edges * connected, operations * connected[:, None])


def is_sound(size: NDArray[np.int64], edges: NDArray[np.int64]) -> Booleans:
    """Return whether pruning changes nothing and there are at most nine edges; edges may be (graphs, tries)."""
    table, starts = _sound()
    first = starts[size]
    return np.asarray(table[(first if edges.ndim == 1 else first[:, None]) + edges])


@lru_cache(maxsize=1)
def _sound() -> tuple[Booleans, NDArray[np.int64]]:
    """Return the answers for every graph of 2 to 7 vertices, and where those of each size start."""
    tables, starts, total = [], np.zeros(MAX_VERTICES + 1, np.int64), 0
    for size in range(2, MAX_VERTICES + 1):
        edges = np.arange(1 << (size * (size - 1) // 2), dtype=np.int32)
        alive = live(np.full(edges.shape, size, np.int32), edges)
        tables.append((alive == (1 << size) - 1) & (np.bitwise_count(edges) <= MAX_EDGES))
        starts[size] = total
        total += len(edges)
    return np.concatenate(tables), starts


def from_thetas(thetas: Thetas) -> Graphs:
    """Return the pruned graphs of (cells, 26) thetas."""
    edges = thetas[:, _FROM_THETA].astype(np.int64) @ _POWERS
    size = np.full(len(thetas), MAX_VERTICES)
    return prune(Graphs(size, edges, thetas[:, _BITS:].astype(np.int64)))


def to_thetas(graphs: Graphs) -> Thetas:
    """Return (cells, 26) thetas: vertices in their order, spare ones after them, the output vertex 6."""
    bits = unpack(graphs.edges)
    thetas = np.zeros((len(graphs.size), _BITS + INNER), np.uint8)
    thetas[:, _FROM_THETA] = bits
    for size in range(2, MAX_VERTICES):
        rows = np.flatnonzero(graphs.size == size)
        last = size - 1 == _COLUMNS
        thetas[rows[:, None], _FROM_THETA[last]] = 0
        moved = [CELLS.index((row, MAX_VERTICES - 1)) for row in _ROWS[last]]
        thetas[rows[:, None], moved] = bits[rows[:, None], np.flatnonzero(last)]
    thetas[:, _BITS:] = graphs.operations
    return thetas


def fingerprints(graphs: Graphs) -> NDArray[np.uint64]:
    """Return a 64-bit number a graph, equal for relabelled graphs.

    The refinement is that of the benchmark's graph hash (label, then rounds over in- and out-neighbours), which tells
    all graphs of the space apart; MD5 is replaced by integer mixing, which a batch takes at once. Chance collisions
    have odds of 2**-64 a pair; only `positives` relies on it, to refuse an edit that changes nothing.
    """
    vertex = np.arange(MAX_VERTICES)
    present = vertex < graphs.size[:, None]
    labels = np.zeros(present.shape, np.uint64)
    labels[:, 1 : MAX_VERTICES - 1] = graphs.operations + 3
    labels[:, 0] = 1
    labels[np.arange(len(labels)), graphs.size - 1] = 2
    adjacency = np.zeros((len(labels), MAX_VERTICES, MAX_VERTICES), np.uint64)
    adjacency[:, _ROWS, _COLUMNS] = unpack(graphs.edges)
    inward = np.ascontiguousarray(adjacency.transpose(0, 2, 1))
    values = _mix(labels) * present
    for _ in range(MAX_VERTICES):
        sources, targets = (side @ values[:, :, None] for side in (inward, adjacency))
        values = _mix(values + _SOURCES * sources[:, :, 0] + _TARGETS * targets[:, :, 0]) * present
    return np.asarray(_mix(values.sum(axis=1) + graphs.size.astype(np.uint64)))


# Odd numbers without a pattern: the three parts of a vertex's new value must not cancel.
_ODD = np.uint64(0x9E3779B97F4A7C15)
_SOURCES, _TARGETS = np.uint64(0xD1342543DE82EF95), np.uint64(0xAF251AF3B0F025B5)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit numbers. Source: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    values = values + _ODD
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))
