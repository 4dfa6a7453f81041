"""NAS-Bench-101's space: graphs of at most seven vertices and nine edges, an operation on each inner vertex."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dermonas.errors import GenotypeError
from dermonas.space.domain import Theta
from dermonas.space.modelspec import INPUT, LABELS, MAX_VERTICES, OPERATIONS, OUTPUT, Matrix, ModelSpec, vertex_hashes
from dermonas.space.theta import check_theta

CELLS = tuple(itertools.combinations(range(MAX_VERTICES), 2))
"""(row, column) of each of theta's first 21 positions: the upper triangle row by row."""

INVALID = "invalid"
"""The digest of every theta that is no valid cell."""

_INNER = MAX_VERTICES - 2
_POSITION = {cell: position for position, cell in enumerate(CELLS)}
_CACHED = 1 << 18  # thetas whose form is kept: some 100 MB at the most


@dataclass(frozen=True)
class NasBench101Space:
    """NAS-Bench-101's space; implements `Domain`.

    Theta = the 21 cells of a 7 x 7 upper triangle row by row (0 or 1), then the operations of the five inner
    vertices (0 to 2). The canonical theta is the pruned graph's, its inner vertices ordered by longest path from the
    input, then by their hash, then so that theta is smallest; vertices left over come after them, without edges and
    with operation 0; the output is vertex 6.

    Thetas that are no valid cell are all one class: canonical all zeros, digest "invalid", no neighbours. A sampler
    that looks at positions one by one (TPE) may propose them; a table gives them its worst value.

    Source: spec/nao.md 1. The class of invalid thetas is ours: the benchmark refuses them.
    """

    @property
    def name(self) -> str:
        """Always "nasbench101"."""
        return "nasbench101"

    @property
    def choices(self) -> tuple[int, ...]:
        """Two choices for each of 21 cells, three for each of five operations."""
        return (2,) * len(CELLS) + (len(OPERATIONS),) * _INNER

    def spec(self, theta: Theta) -> ModelSpec:
        """Return the cell with all seven vertices, as `theta` has it.

        Raises:
            GenotypeError: If theta has the wrong length or a choice out of range.
        """
        check_theta(self.name, self.choices, theta)
        matrix = [[0] * MAX_VERTICES for _ in range(MAX_VERTICES)]
        for (row, column), cell in zip(CELLS, theta[: len(CELLS)], strict=True):
            matrix[row][column] = int(cell)
        inner = (OPERATIONS[choice] for choice in theta[len(CELLS) :])
        return ModelSpec(tuple(map(tuple, matrix)), (INPUT, *inner, OUTPUT))

    def theta(self, spec: ModelSpec) -> Theta:
        """Return the canonical theta of a cell.

        Raises:
            GenotypeError: If the cell is not valid.
        """
        if not spec.valid:
            raise GenotypeError(f"a cell with {len(spec.matrix)} vertices and {spec.edges} edges is not valid here")
        assert spec.pruned is not None
        return _canonical(spec.pruned)

    def valid(self, theta: Theta) -> bool:
        """Return whether `theta` is a cell of the benchmark."""
        return self.spec(theta).valid

    def canonical(self, theta: Theta) -> Theta:
        """Return the canonical theta of the cell's graph, all zeros for an invalid one.

        Raises:
            GenotypeError: If theta has the wrong length or a choice out of range.
        """
        check_theta(self.name, self.choices, theta)
        return _form(tuple(map(int, theta)))[0]

    def digest(self, theta: Theta) -> str:
        """Return the graph hash, "invalid" for an invalid theta.

        Raises:
            GenotypeError: If theta has the wrong length or a choice out of range.
        """
        check_theta(self.name, self.choices, theta)
        return _form(tuple(map(int, theta)))[1]

    def sample(self, rng: np.random.Generator) -> Theta:
        """Draw uniformly from the valid thetas: every position uniform and independent, again until valid."""
        while True:
            theta: Theta = tuple(rng.integers(0, self.choices).tolist())
            if _form(theta)[1] != INVALID:
                return theta

    def neighbours(self, theta: Theta) -> Iterator[Theta]:
        """Yield the canonical thetas of the valid cells one edit away, each once, never that of `theta`.

        An edit of the pruned graph gives one inner vertex another operation, adds or removes one edge, or, while
        there are fewer than seven vertices, adds a vertex with one edge in and one out. What an edge's removal leaves
        dangling is pruned.

        Raises:
            GenotypeError: If theta has the wrong length or a choice out of range.
        """
        start = self.canonical(theta)
        seen = {start}
        for edited in _edits(start):
            found, digest = _form(edited)
            if digest != INVALID and found not in seen:
                seen.add(found)
                yield found


@lru_cache(maxsize=_CACHED)
def _form(theta: Theta) -> tuple[Theta, str]:
    """Return the canonical theta and the digest of a theta that fits."""
    spec = NasBench101Space().spec(theta)
    if not spec.valid:
        return (0,) * len(theta), INVALID
    assert spec.pruned is not None
    return _canonical(spec.pruned), spec.digest


def _canonical(spec: ModelSpec) -> Theta:
    """Return the canonical theta of a pruned valid cell."""
    labels = [LABELS[operation] for operation in spec.operations]
    hashes = vertex_hashes(spec.matrix, labels)
    depth = [0] * len(labels)
    for source, target in itertools.combinations(range(len(labels)), 2):
        if spec.matrix[source][target]:
            depth[target] = max(depth[target], depth[source] + 1)
    inner = sorted(range(1, len(labels) - 1), key=lambda v: (depth[v], hashes[v]))
    ties = [list(tied) for _, tied in itertools.groupby(inner, key=lambda v: (depth[v], hashes[v]))]
    orders = itertools.product(*map(itertools.permutations, ties))
    return min(_placed(spec.matrix, labels, list(itertools.chain(*order))) for order in orders)


def _placed(matrix: Matrix, labels: Sequence[int], inner: Sequence[int]) -> Theta:
    """Write a graph as theta with its inner vertices in the order given and its output last."""
    place = {0: 0, len(labels) - 1: MAX_VERTICES - 1, **{vertex: rank for rank, vertex in enumerate(inner, start=1)}}
    theta = [0] * (len(CELLS) + _INNER)
    for source, target in itertools.combinations(range(len(labels)), 2):
        if matrix[source][target]:
            theta[_POSITION[place[source], place[target]]] = 1
    for rank, vertex in enumerate(inner):
        theta[len(CELLS) + rank] = labels[vertex]
    return tuple(theta)


def _edits(theta: Theta) -> Iterator[Theta]:
    """Yield what a canonical theta becomes by one edit, invalid results among them."""
    used = sorted({vertex for cell, on in zip(CELLS, theta[: len(CELLS)], strict=True) if on for vertex in cell})
    size = len(used)
    matrix = [[theta[_POSITION[u, w]] if u < w else 0 for w in used] for u in used]
    labels = [-1, *theta[len(CELLS) : len(CELLS) + size - 2], -2]
    for vertex, label in itertools.product(range(1, size - 1), range(len(OPERATIONS))):
        if label != labels[vertex]:
            yield _sorted(matrix, [*labels[:vertex], label, *labels[vertex + 1 :]])
    reached = _reached(matrix)
    for source, target in itertools.permutations(range(size), 2):
        if reached[target][source]:  # the edge would close a cycle
            continue
        edited = [row.copy() for row in matrix]
        edited[source][target] = 1 - matrix[source][target]
        yield _sorted(edited, labels)
        if size < MAX_VERTICES:
            larger = [[*row, int(vertex == source)] for vertex, row in enumerate(matrix)]
            larger.append([int(vertex == target) for vertex in range(size + 1)])
            yield from (_sorted(larger, [*labels, label]) for label in range(len(OPERATIONS)))


def _reached(matrix: Sequence[Sequence[int]]) -> list[list[bool]]:
    """Return whether there is a path from row to column in an upper-triangular matrix."""
    size = len(matrix)
    reached = [[bool(cell) for cell in row] for row in matrix]
    for source in range(size - 1, -1, -1):
        for middle in range(source + 1, size):
            if matrix[source][middle]:
                reached[source] = [a or b for a, b in zip(reached[source], reached[middle], strict=True)]
    return reached


def _sorted(matrix: Sequence[Sequence[int]], labels: Sequence[int]) -> Theta:
    """Write an acyclic graph as theta, its vertices in any order."""
    left, order = set(range(len(labels))) - {labels.index(-2)}, []
    while left:
        order += [vertex for vertex in sorted(left) if not any(matrix[source][vertex] for source in left)]
        left -= set(order)
    order = [labels.index(-1), *(vertex for vertex in order if labels[vertex] >= 0), labels.index(-2)]
    rows = tuple(tuple(matrix[u][w] for w in order) for u in order)
    return _placed(rows, [labels[vertex] for vertex in order], range(1, len(order) - 1))
