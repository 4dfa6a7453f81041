"""Exact edit distances of cells, for many pairs at once.

The price list is that of the labelled graph: a vertex inserted or deleted, its operation changed, an edge inserted or
deleted, or given another label, each cost 1.

Both graphs are padded with null vertices to one number of vertices, and the distance is the smallest cost over all
ways to match the vertices of the one with those of the other. That is exact: a vertex deleted and another one
inserted costs at least as much as the one turned into the other, so no more null vertices are needed than make the
numbers equal.

Source: spec/nao.md 2. The tests compare with networkx.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dermonas.controller.darts import DartsLanguage
from dermonas.controller.language import Language, Thetas
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.controller.nasbench101_bits import PAIRS, Graphs, from_thetas
from dermonas.controller.nasbench201 import NasBench201Language
from dermonas.errors import DataError
from dermonas.space.modelspec import MAX_VERTICES
from dermonas.space.nasbench201 import EDGES

_CHUNK = 128  # pairs compared together: 128 x 5,040 words of 8 bytes are 5 MB
_SLICE = 7  # bits of the adjacency that one table turns into an edge word
_NODES = 4  # of a NAS-Bench-201 cell
_LABELS = 6  # of a NAS-Bench-101 vertex: input, output, three operations, null


def edit_distances(language: Language, first: Thetas, second: Thetas) -> NDArray[np.int64]:
    """Return the edit distance of each pair of cells.

    NAS-Bench-101: of the pruned graphs, the input and the output vertices with labels of their own. NAS-Bench-201:
    of the graphs of four nodes and the edges that are not none; the inner two may be exchanged, which matters: cells
    of Hamming distance 4 can be the same graph. Our own space: the Hamming distance of canonical thetas, which is the
    labelled graphs' with every node in its place; a cheaper way by exchanging nodes is not looked for.

    Args:
        language: Of the cells.
        first: (pairs, positions), valid cells; canonical ones of our space.
        second: The same shape.

    Returns:
        (pairs,), 0 or more.

    Raises:
        DataError: Other shapes, an invalid cell, or a language without a distance.
    """
    first, second = np.asarray(first), np.asarray(second)
    positions = len(language.space.choices)
    if first.shape != second.shape or first.ndim != 2 or first.shape[1] != positions:
        raise DataError(f"cells of shape {first.shape} and {second.shape}: give (pairs, {positions}) both times")
    if isinstance(language, NasBench101Language):
        return _nasbench101(from_thetas(first), from_thetas(second))
    if isinstance(language, NasBench201Language):
        return _nasbench201(first, second)
    if isinstance(language, DartsLanguage):
        return np.asarray((first != second).sum(axis=1), np.int64)
    raise DataError(f"{language.name} has no edit distance: use nasbench101, nasbench201, darts4 or darts5")


def _nasbench101(first: Graphs, second: Graphs) -> NDArray[np.int64]:
    for graphs in (first, second):
        invalid = np.flatnonzero(graphs.size == 0)
        if len(invalid):
            raise DataError(f"cell {invalid[0]}: its input does not reach its output; give valid cells")
    edges, labels = _edge_tables(), _label_table()
    identity = 0  # itertools.permutations begins with it
    found = np.empty(len(first.size), np.int64)
    symbols = [_vertex_labels(graphs) for graphs in (first, second)]
    for start in range(0, len(found), _CHUNK):
        part = slice(start, start + _CHUNK)
        here = _edge_words(first.edges[part], edges[:, :, identity : identity + 1])
        there = _edge_words(second.edges[part], edges)
        cost = np.bitwise_count(here ^ there).astype(np.uint8)
        own = _label_words(symbols[0][part], labels[:, :, identity : identity + 1])
        # A vertex with another label differs in two bits, its own and the other's.
        cost += np.bitwise_count(own ^ _label_words(symbols[1][part], labels)) // 2
        found[part] = cost.min(axis=1)
    return found


def _edge_words(edges: NDArray[np.int64], tables: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return (graphs, matchings): the 7 x 7 adjacency as 49 bits, vertices renamed."""
    words = tables[0, edges & 127] | tables[1, (edges >> _SLICE) & 127]
    return np.asarray(words | tables[2, edges >> (2 * _SLICE)])


def _label_words(labels: NDArray[np.int64], table: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return (graphs, matchings): one of six bits set a vertex, vertices renamed."""
    words = table[0, labels[:, 0]]
    for vertex in range(1, MAX_VERTICES):
        words = words | table[vertex, labels[:, vertex]]
    return words


def _vertex_labels(graphs: Graphs) -> NDArray[np.int64]:
    """Return (graphs, 7): 0 to 2 an operation, 3 input, 4 output, 5 null."""
    labels = np.full((len(graphs.size), MAX_VERTICES), 5, np.int64)
    inner = np.arange(1, MAX_VERTICES - 1)
    present = inner < graphs.size[:, None] - 1
    labels[:, 1:-1] = np.where(present, graphs.operations, 5)
    labels[:, 0] = 3
    labels[np.arange(len(labels)), graphs.size - 1] = 4
    return labels


@lru_cache(maxsize=1)
def _orders() -> NDArray[np.uint64]:
    """Return (5040, 7): the new name of each vertex, in every way; the first way changes nothing."""
    return np.array(list(itertools.permutations(range(MAX_VERTICES))), np.uint64)


@lru_cache(maxsize=1)
def _edge_tables() -> NDArray[np.uint64]:
    """Return (3, 128, 5040): the edge word of each value of each slice of the 21 bits."""
    orders = _orders()
    bit = {pair: np.uint64(1) << (orders[:, pair[0]] * np.uint64(MAX_VERTICES) + orders[:, pair[1]]) for pair in PAIRS}
    tables = np.zeros((3, 1 << _SLICE, len(orders)), np.uint64)
    for place, pair in enumerate(PAIRS):
        values = np.flatnonzero(np.arange(1 << _SLICE) >> (place % _SLICE) & 1)
        tables[place // _SLICE, values] |= bit[pair]
    return tables


@lru_cache(maxsize=1)
def _label_table() -> NDArray[np.uint64]:
    """Return (7, 6, 5040): the bit of each vertex with each label."""
    orders = _orders().T[:, None, :]
    labels = np.arange(_LABELS, dtype=np.uint64)[None, :, None]
    return np.asarray(np.uint64(1) << (orders * np.uint64(_LABELS) + labels))


def _nasbench201(first: Thetas, second: Thetas) -> NDArray[np.int64]:
    """Match the four nodes in all 24 ways; the input and the output have labels of their own."""
    best = np.full(len(first), np.iinfo(np.int64).max)
    ours = _square(first)
    theirs = _square(second)
    kinds = np.array([0, 1, 1, 2])  # input, inner, inner, output
    for order in itertools.permutations(range(_NODES)):
        nodes = int((kinds != kinds[list(order)]).sum())
        renamed = theirs[:, order][:, :, order]
        best = np.minimum(best, nodes + (ours != renamed).sum(axis=(1, 2)))
    return best


def _square(thetas: Thetas) -> NDArray[np.int64]:
    """Return (cells, 4, 4): the operation from row to column, 0 where there is no edge (none is 0 too)."""
    matrices = np.zeros((len(thetas), _NODES, _NODES), np.int64)
    for position, (source, target) in enumerate(EDGES):
        matrices[:, source, target] = thetas[:, position]
    return matrices
