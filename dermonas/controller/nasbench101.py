"""NAS-Bench-101's cells as 27 tokens, and their positives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dermonas.controller.edits import draw_positives, draws
from dermonas.controller.language import (
    Booleans,
    Decoded,
    Fallback,
    Positives,
    Thetas,
    Tokens,
    Uniforms,
)
from dermonas.controller.nasbench101_bits import PAIRS, Graphs, from_thetas, prune, to_thetas, unpack
from dermonas.controller.nasbench101_edits import DRAWS, attempt, changed
from dermonas.space.modelspec import MAX_EDGES, MAX_VERTICES, OPERATIONS
from dermonas.space.nasbench101 import NasBench101Space

# Tokens. Source: spec/nao.md 1.1; the operations' order is the benchmark's, not that of S.
_NO_EDGE, _FIRST_OPERATION = 1, 3
_OUTPUT = _FIRST_OPERATION + len(OPERATIONS)

_LENGTHS = np.array([(n + 2) * (n - 1) // 2 for n in range(MAX_VERTICES + 1)])  # of a graph of n vertices
_COLUMN = np.array([column for column in range(1, MAX_VERTICES) for _ in range(column + 1)])  # of each token
_OPERATION_AT = _LENGTHS[2:] - 1  # the token that ends columns 1 to 6
_IS_OPERATION = np.isin(np.arange(len(_COLUMN)), _OPERATION_AT)

NO_OUTPUT = "no output"
LENGTH = "output on a connection"
CONNECTION = "operation on a connection"
OPERATION = "connection on an operation"
DISCONNECTED = "disconnected"
TOO_MANY_EDGES = "more than nine edges"


@dataclass(frozen=True)
class NasBench101Language:
    """Column by column: for each earlier vertex 1 = no edge or 2 = edge, then the vertex's operation, 3 to 5, or
    6 = output; padded with 0 to 27.

    Decoding cuts after the first 6 and ignores what follows, so an early 6 makes a smaller graph. Reasons for a
    sequence that is no cell, the first that holds: no 6 (`NO_OUTPUT`), the 6 at a place of a connection (`LENGTH`),
    a connection that is not 1 or 2 (`CONNECTION`), an operation that is not 3 to 5 (`OPERATION`), and after pruning
    `DISCONNECTED` and `TOO_MANY_EDGES`.

    Positives are those of `nasbench101_edits`.

    Source: spec/nao.md 1.1 and 2.
    """

    @property
    def space(self) -> NasBench101Space:
        """The space."""
        return NasBench101Space()

    @property
    def name(self) -> str:
        """The space's name."""
        return self.space.name

    @property
    def vocabulary(self) -> int:
        """Seven symbols."""
        return _OUTPUT + 1

    @property
    def length(self) -> int:
        """27 tokens."""
        return len(_COLUMN)

    @property
    def allowed(self) -> Booleans:
        """1 and 2 at connections, 3 to 6 at operations, 6 alone at the end. Never a pad: decoding cuts at the 6."""
        symbols = np.arange(self.vocabulary)
        connections = (symbols == _NO_EDGE) | (symbols == _NO_EDGE + 1)
        allowed = np.where(_IS_OPERATION[:, None], symbols >= _FIRST_OPERATION, connections)
        allowed[-1] = symbols == _OUTPUT
        return allowed

    @property
    def draws(self) -> int:
        """Uniform numbers of one positive."""
        return draws(DRAWS)

    def encode(self, thetas: Thetas) -> Tokens:
        """Return (cells, 27) tokens of the pruned cells, vertices in theta's order; zeros for a disconnected one."""
        graphs = from_thetas(thetas)
        tokens = np.zeros((len(thetas), self.length), np.int64)
        tokens[:, ~_IS_OPERATION] = _NO_EDGE + unpack(graphs.edges)
        tokens[:, _OPERATION_AT[:-1]] = _FIRST_OPERATION + graphs.operations
        last = _OPERATION_AT[np.maximum(graphs.size, 2) - 2]
        tokens[np.arange(len(tokens)), last] = _OUTPUT
        return np.where(graphs.size[:, None] > _COLUMN, tokens, 0)

    def decode(self, tokens: Tokens) -> Decoded:
        """Return the pruned cells, vertices in their order, and why a sequence is none."""
        is_output = tokens == _OUTPUT
        end = np.where(is_output.any(axis=1), is_output.argmax(axis=1), 0)
        size = _COLUMN[end] + 1
        within = size[:, None] > _COLUMN
        edge, operation = tokens - _NO_EDGE, tokens - _FIRST_OPERATION
        fine = np.where(_IS_OPERATION, (operation >= 0) | (size[:, None] - 1 == _COLUMN), (edge >= 0) & (edge <= 1))
        fine |= ~within
        raw = _read(size, np.where(within, edge, 0), np.where(within, operation, 0))
        graphs = prune(raw)
        tests = {
            NO_OUTPUT: ~is_output.any(axis=1),
            LENGTH: ~_IS_OPERATION[end],
            CONNECTION: ~fine[:, ~_IS_OPERATION].all(axis=1),
            OPERATION: ~fine[:, _IS_OPERATION].all(axis=1),
            DISCONNECTED: graphs.size == 0,
            TOO_MANY_EDGES: np.bitwise_count(graphs.edges) > MAX_EDGES,
        }
        reasons = np.select(list(tests.values()), list(tests), default="").tolist()
        thetas = to_thetas(graphs)
        thetas[[bool(reason) for reason in reasons]] = 0
        return Decoded(thetas, tuple(reasons))

    def positives(self, thetas: Thetas, uniforms: Uniforms, fallback: Fallback = "redraw") -> Positives:
        """Return pruned cells 1, 2 or 3 edits away, equally likely; see `Language.positives`."""
        return draw_positives(to_thetas(from_thetas(thetas)), uniforms, fallback, attempt, changed)


def _read(size: NDArray[np.int64], edge: NDArray[np.int64], operation: NDArray[np.int64]) -> Graphs:
    """Build graphs from tokens; where the tokens are wrong, some graph."""
    bits = np.clip(edge[:, ~_IS_OPERATION], 0, 1)
    edges = bits @ (1 << np.arange(len(PAIRS)))
    inner = np.clip(operation[:, _OPERATION_AT[:-1]], 0, len(OPERATIONS) - 1)
    return Graphs(size, edges, inner * (np.arange(2, MAX_VERTICES) < size[:, None]))
