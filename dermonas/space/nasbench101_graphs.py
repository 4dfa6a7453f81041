"""Every graph of NAS-Bench-101, from the rules alone."""

from __future__ import annotations

import itertools

import numpy as np

from dermonas.errors import ConfigError
from dermonas.space.modelspec import MAX_EDGES, MAX_VERTICES, OPERATIONS
from dermonas.space.nasbench101 import CELLS

_CHUNK = 1 << 18  # adjacency codes looked at together


def every_graph(max_vertices: int = MAX_VERTICES, max_edges: int = MAX_EDGES) -> np.ndarray:
    """List one theta for each graph of the space.

    Per size, the wirings without a vertex off the paths from input to output are found up to relabelling of the
    inner vertices; of each, the operations up to the wiring's automorphisms. The bounds given are the space's own for
    423,624 graphs, which takes a few seconds.

    Args:
        max_vertices: Largest number of vertices, 2 to 7, input and output counted.
        max_edges: Largest number of edges, 1 or more.

    Returns:
        Thetas of `NasBench101Space`, int8, shape (graphs, 26), no two isomorphic, smaller graphs first. Vertices
        left over hold operation 0 and come after the others; the output is vertex 6. Not the canonical thetas.

    Raises:
        ConfigError: If a bound is out of range.

    Source: spec/nao.md 1; the counts are those of Ying et al. (2019), section 2.
    """
    if not 2 <= max_vertices <= MAX_VERTICES or max_edges < 1:
        raise ConfigError(
            f"bounds are {max_vertices} vertices and {max_edges} edges: use 2 to {MAX_VERTICES}, 1 or more"
        )
    return np.concatenate([_graphs(size, max_edges) for size in range(2, max_vertices + 1)])


def _graphs(size: int, max_edges: int) -> np.ndarray:
    """Return the thetas of the graphs with exactly `size` vertices, int8, shape (graphs, 26)."""
    cells = list(itertools.combinations(range(size), 2))
    wirings = _full(size, max_edges)
    inner = [(0, *(v + 1 for v in order), size - 1) for order in itertools.permutations(range(size - 2))]
    relabelled = np.stack([_relabelled(wirings, cells, order) for order in inner])
    codes = _codes(wirings)
    # A wiring is kept if no relabelling that stays upper-triangular has a smaller code.
    first = (np.where(relabelled < 0, codes, relabelled) >= codes).all(axis=0)
    wirings, same = wirings[first], (relabelled == codes)[:, first]

    labelings = np.array(list(itertools.product(range(len(OPERATIONS)), repeat=size - 2)), dtype=np.int8)
    labelings = labelings.reshape(len(OPERATIONS) ** (size - 2), size - 2)
    powers = len(OPERATIONS) ** np.arange(size - 2)[::-1]
    moved = np.stack([labelings[:, np.array(order[1:-1], dtype=int) - 1] @ powers for order in inner])
    rows = []
    for wiring, automorphisms in zip(wirings, same.T, strict=True):
        least = (moved[automorphisms] >= labelings @ powers).all(axis=0)
        rows.append(np.hstack([np.broadcast_to(wiring, (least.sum(), len(cells))), labelings[least]]))
    graphs = np.concatenate(rows) if rows else np.zeros((0, len(cells) + size - 2), dtype=np.int8)

    thetas = np.zeros((len(graphs), len(CELLS) + MAX_VERTICES - 2), dtype=np.int8)
    for column, (source, target) in enumerate(cells):
        place = (source, MAX_VERTICES - 1 if target == size - 1 else target)
        thetas[:, CELLS.index(place)] = graphs[:, column]
    thetas[:, len(CELLS) : len(CELLS) + size - 2] = graphs[:, len(cells) :]
    return thetas


def _full(size: int, max_edges: int) -> np.ndarray:
    """Return the wirings in which every vertex lies on a path from input to output, int8, shape (n, cells).

    In an upper-triangular matrix that is so exactly when every vertex but the output has an edge out and every
    vertex but the input has one in.
    """
    cells = list(itertools.combinations(range(size), 2))
    out = np.array([[source == v for source, _ in cells] for v in range(size - 1)])
    into = np.array([[target == v for _, target in cells] for v in range(1, size)])
    found = []
    for start in range(0, 1 << len(cells), _CHUNK):
        codes = np.arange(start, min(start + _CHUNK, 1 << len(cells)))
        bits = (codes[:, None] >> np.arange(len(cells))[::-1] & 1).astype(np.int8)
        bits = bits[bits.sum(axis=1) <= max_edges]
        found.append(bits[((bits @ np.vstack([out, into]).T.astype(np.int8)) > 0).all(axis=1)])
    return np.concatenate(found)


def _codes(wirings: np.ndarray) -> np.ndarray:
    """Return each wiring as a number, its first cell the highest bit; int64, shape (n,)."""
    return wirings @ (1 << np.arange(wirings.shape[1], dtype=np.int64)[::-1])


def _relabelled(wirings: np.ndarray, cells: list[tuple[int, int]], order: tuple[int, ...]) -> np.ndarray:
    """Return the code of each wiring with vertex order[i] in place i, -1 where an edge would point backward."""
    place = {vertex: index for index, vertex in enumerate(order)}
    backward = np.array([place[source] > place[target] for source, target in cells])
    column = {cell: index for index, cell in enumerate(cells)}
    take = [column[min(order[a], order[b]), max(order[a], order[b])] for a, b in cells]
    return np.where(wirings[:, backward].any(axis=1), -1, _codes(wirings[:, take]))
