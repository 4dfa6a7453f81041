"""Edits of NAS-Bench-101 cells: operations changed, edges flipped, a vertex removed.

Distance 1 is one operation or one edge; 2 two operations, one of each, or two edges; 3 three operations, two and one,
one and two, or a vertex with one edge in and one out, removed with them (odds .3, .3, .3, .1; else equal). Three
edges together are left out, as in the paper's code, for their low validity. A cell in which pruning would change
anything is not taken: flips are drawn up to 21 times until there is one.

Source: spec/nao.md 2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dermonas.controller.language import Booleans, Thetas, Uniforms, pick, ranks
from dermonas.controller.nasbench101_bits import (
    INNER,
    PAIRS,
    Graphs,
    fingerprints,
    from_thetas,
    is_sound,
    to_thetas,
    unpack,
)
from dermonas.space.modelspec import MAX_VERTICES, OPERATIONS

_REDRAWS = 21


class _Kind(NamedTuple):
    odds: float
    operations: int
    edges: int
    delete: bool = False


_KINDS = {
    1: (_Kind(1 / 2, 1, 0), _Kind(1 / 2, 0, 1)),
    2: (_Kind(1 / 3, 2, 0), _Kind(1 / 3, 1, 1), _Kind(1 / 3, 0, 2)),
    3: (_Kind(0.1, 0, 0, True), _Kind(0.3, 3, 0), _Kind(0.3, 2, 1), _Kind(0.3, 1, 2)),
}

# Odds of the kinds up to each, and what each does, by distance; a distance has at most four kinds.
_CUMULATIVE = np.ones((4, 4))
_WHAT = np.zeros((4, 4, 3), np.int64)  # operations, edges, delete
for _distance, _kinds in _KINDS.items():
    _CUMULATIVE[_distance, : len(_kinds) - 1] = np.cumsum([kind.odds for kind in _kinds[:-1]])
    _WHAT[_distance, : len(_kinds)] = [kind[1:] for kind in _kinds]

DRAWS = 1 + 2 * INNER + 2 * _REDRAWS
"""Uniform numbers of an attempt: the kind, an order of the vertices, their new operations, pairs of edges."""

# For each vertex v removed: where the edges (bits) of the smaller graph were in the larger one.
_BEFORE = np.array(
    [
        [PAIRS.index((i + (i >= v), j + (j >= v))) for i, j in PAIRS if j < MAX_VERTICES - 1]
        for v in range(MAX_VERTICES - 1)
    ]
)
_DEGREE = np.array([[v in pair for pair in PAIRS] for v in range(MAX_VERTICES)]).astype(np.int64)


def attempt(anchors: Thetas, distance: NDArray[np.int64], uniforms: Uniforms) -> tuple[Thetas, Booleans]:
    """Edit each anchor once.

    Args:
        anchors: (cells, 26), pruned, vertices in their first places.
        distance: (cells,), 1 to 3.
        uniforms: (cells, `DRAWS`).

    Returns:
        The edited cells, and whether each edit was possible and left a valid cell.
    """
    graphs = from_thetas(anchors)
    kind = (uniforms[:, :1] >= _CUMULATIVE[distance]).sum(axis=1)
    operations, edges, delete = _WHAT[distance, kind].T
    keys, choices, flips = np.split(uniforms[:, 1:], [INNER, 2 * INNER], axis=1)
    inner = np.arange(INNER) < (graphs.size - 2)[:, None]

    chosen = ranks(keys, inner) < operations[:, None]
    others = (graphs.operations + 1 + pick(choices, len(OPERATIONS) - 1)) % len(OPERATIONS)
    changed_operations = np.where(chosen, others, graphs.operations)
    flipped, found = _flip(graphs, edges, flips)
    edited = Graphs(graphs.size.copy(), flipped, changed_operations)
    good = found & (operations <= graphs.size - 2)

    rows = np.flatnonzero(delete)
    smaller, possible = _remove(Graphs(*(field[rows] for field in graphs)), keys[rows], inner[rows])
    for field, value in zip(edited, smaller, strict=True):
        field[rows] = value
    good[rows] = possible
    edited.size[~good], edited.edges[~good] = 2, 1  # any cell: it is not used
    return to_thetas(edited), good


def changed(anchors: Thetas, edited: Thetas) -> Booleans:
    """Return whether the graphs differ, relabelling aside."""
    return np.asarray(fingerprints(from_thetas(anchors)) != fingerprints(from_thetas(edited)))


def _flip(graphs: Graphs, count: NDArray[np.int64], uniforms: Uniforms) -> tuple[NDArray[np.int64], Booleans]:
    """Flip 0, 1 or 2 different edges, the first of the drawn flips that leaves a sound graph."""
    first, second = np.split(uniforms, 2, axis=1)
    cells = (graphs.size * (graphs.size - 1) // 2)[:, None]
    one, two = pick(first, cells), pick(second, np.maximum(cells - 1, 0))
    two += two >= one
    bits = np.where(count[:, None] > 0, 1 << one, 0) | np.where(count[:, None] > 1, 1 << two, 0)
    tries = graphs.edges[:, None] ^ bits
    # Two vertices have no second cell to flip; without edges the try is not sound.
    tries[(count > 1) & (cells[:, 0] < 2)] = 0
    sound = is_sound(graphs.size, tries)
    best = sound.argmax(axis=1)
    rows = np.arange(len(tries))
    return tries[rows, best], sound[rows, best]


def _remove(graphs: Graphs, keys: Uniforms, inner: Booleans) -> tuple[Graphs, Booleans]:
    """Remove one inner vertex with a single edge in and a single edge out, any of them."""
    bits = unpack(graphs.edges)
    light = inner & ((bits @ _DEGREE.T)[:, 1 : 1 + INNER] == 2)
    slot = np.where(light, keys, 2.0).argmin(axis=1)
    edges = np.take_along_axis(bits, _BEFORE[slot + 1], axis=1) @ (1 << np.arange(_BEFORE.shape[1]))
    moved = np.arange(INNER) + (np.arange(INNER) >= slot[:, None])
    operations = np.take_along_axis(np.pad(graphs.operations, ((0, 0), (0, 1))), moved, axis=1)
    possible = light.any(axis=1)
    size = np.where(possible, graphs.size - 1, 2)
    edges = np.where(possible, edges, 0)
    return Graphs(size, edges, operations), possible & is_sound(size, edges)
