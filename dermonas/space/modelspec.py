"""A NAS-Bench-101 cell, what of it counts, and its hash."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from dermonas.errors import GenotypeError

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
"""The inner operations in the benchmark's own order; a choice, and a label of the hash, is an index into them."""

INPUT, OUTPUT = "input", "output"
MAX_VERTICES = 7
MAX_EDGES = 9

LABELS = {INPUT: -1, OUTPUT: -2, **{operation: label for label, operation in enumerate(OPERATIONS)}}
"""What the hash calls each operation."""

Matrix = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ModelSpec:
    """A cell as its adjacency matrix and the operation of each vertex.

    Attributes:
        matrix: Square, strictly upper-triangular, of 0 and 1; row = source. Any nested sequence is taken.
        operations: One name a vertex, the first "input" and the last "output".

    Raises:
        GenotypeError: If the matrix is not square, not 0-1 or not strictly upper-triangular, or there is not one
            operation a vertex.

    Source: Ying et al., NAS-Bench-101 (ICML 2019), and the benchmark's ModelSpec; spec/nao.md 1.
    """

    matrix: Matrix
    operations: tuple[str, ...]

    def __post_init__(self) -> None:
        matrix = tuple(tuple(int(cell) for cell in row) for row in self.matrix)
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "operations", tuple(self.operations))
        size = len(matrix)
        if any(len(row) != size for row in matrix):
            raise GenotypeError(
                f"the adjacency matrix has {size} rows of {sorted(map(len, matrix))} cells; make it square"
            )
        for row, column in itertools.product(range(size), repeat=2):
            if matrix[row][column] not in ((0, 1) if row < column else (0,)):
                raise GenotypeError(
                    f"the adjacency matrix has {matrix[row][column]} in row {row}, column {column}; "
                    "use 0 or 1 above the diagonal and 0 elsewhere"
                )
        if len(self.operations) != size or size < 2:
            raise GenotypeError(f"{len(self.operations)} operations for {size} vertices; give one each, at least two")

    @property
    def edges(self) -> int:
        """Number of edges."""
        return sum(map(sum, self.matrix))

    @cached_property
    def pruned(self) -> ModelSpec | None:
        """The cell without the vertices that lie on no path from input to output, None if there is no such path."""
        last = len(self.matrix) - 1
        forward, backward = {0}, {last}
        for vertex in range(1, last + 1):
            if any(self.matrix[source][vertex] for source in forward):
                forward.add(vertex)
        for vertex in range(last - 1, -1, -1):
            if any(self.matrix[vertex][target] for target in backward):
                backward.add(vertex)
        kept = sorted(forward & backward)
        if not kept:
            return None
        if len(kept) == last + 1:
            return self
        return ModelSpec(
            tuple(tuple(self.matrix[row][column] for column in kept) for row in kept),
            tuple(self.operations[vertex] for vertex in kept),
        )

    @cached_property
    def valid(self) -> bool:
        """Whether the pruned cell is one of the benchmark's: connected, within its bounds, its operations known."""
        cell = self.pruned
        return (
            cell is not None
            and len(cell.matrix) <= MAX_VERTICES
            and cell.edges <= MAX_EDGES
            and (cell.operations[0], cell.operations[-1]) == (INPUT, OUTPUT)
            and all(operation in OPERATIONS for operation in cell.operations[1:-1])
        )

    @cached_property
    def digest(self) -> str:
        """The benchmark's graph hash of the pruned cell: 32 hexadecimal digits, the key of its tables.

        Raises:
            GenotypeError: If the cell is not valid.
        """
        if not self.valid:
            raise GenotypeError(f"a cell with {len(self.matrix)} vertices and {self.edges} edges is not valid: no hash")
        assert self.pruned is not None
        return graph_hash(self.pruned.matrix, [LABELS[operation] for operation in self.pruned.operations])


def graph_hash(matrix: Sequence[Sequence[int]], labels: Sequence[int]) -> str:
    """Return the benchmark's hash of a labelled graph, equal for relabelled graphs.

    Args:
        matrix: Square, 0-1, row = source.
        labels: One a vertex: -1 input, -2 output, else the operation's index.

    Returns:
        MD5 over the sorted vertex hashes, 32 hexadecimal digits.

    Source: spec/nao.md 1 (google-research/nasbench, graph_util.hash_module).
    """
    return _md5(str(sorted(vertex_hashes(matrix, labels))))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def vertex_hashes(matrix: Sequence[Sequence[int]], labels: Sequence[int]) -> list[str]:
    """Return a hash a vertex: degrees and label, then as many rounds over the neighbours as there are vertices."""
    every = range(len(labels))
    targets = [[w for w in every if matrix[v][w]] for v in every]
    sources = [[w for w in every if matrix[w][v]] for v in every]
    hashes = [_md5(str((len(targets[v]), len(sources[v]), labels[v]))) for v in every]
    for _ in every:
        hashes = [
            _md5(
                "|".join(
                    (
                        "".join(sorted(hashes[w] for w in sources[v])),
                        "".join(sorted(hashes[w] for w in targets[v])),
                        hashes[v],
                    )
                )
            )
            for v in every
        ]
    return hashes
