"""What a cell is: nodes, edges, concat, and the two identities of a genotype.

States are numbered as in the DARTS code: 0 is C_{k-2}, 1 is C_{k-1}, 2 + i is intermediate node i.

Structural identity is what is built (parameter counts, golden numbers). Functional identity is what
is computed: nodes that do not reach the concat are dropped, the order of the edges of a node does
not matter (a sum), and nodes may be renamed as long as the concat keeps its order.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from dermonas.errors import GenotypeError

# Index = value in theta. Source: CSNAS, section III-A; order as in the authors' code (spec 1.1).
PRIMITIVES: tuple[str, ...] = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)

# Only the published NASNet-A and AmoebaNet-A cells use these; they are never searched.
EXTRA_OPERATIONS: tuple[str, ...] = ("sep_conv_7x7", "conv_7x1_1x7")

# "none" is the absence of an edge, so a built cell never holds it.
_BUILDABLE: frozenset[str] = frozenset(PRIMITIVES[1:] + EXTRA_OPERATIONS)

Functional = tuple[int, tuple[tuple[tuple[int, str], ...], ...]]


class Edge(NamedTuple):
    """One operation applied to one earlier state.

    Attributes:
        operation: A name of PRIMITIVES (not "none") or EXTRA_OPERATIONS.
        source: State index: 0 is C_{k-2}, 1 is C_{k-1}, 2 + i is node i.
    """

    operation: str
    source: int


@dataclass(frozen=True)
class Cell:
    """A cell: each node is the sum of its edges, the output is the concat of some nodes.

    Attributes:
        nodes: For each node its edges, at least one, in the order in which they are built. The
            same edge may appear twice (NASNet-A has such a node).
        concat: State indices (2 + i for node i) in the order of concatenation, distinct.

    Raises:
        GenotypeError: If an operation, a source or the concat is impossible; names node and edge.
    """

    nodes: tuple[tuple[Edge, ...], ...]
    concat: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.nodes:
            raise GenotypeError("cell has no node: give at least one")
        for i, edges in enumerate(self.nodes):
            if not edges:
                raise GenotypeError(f"node {i} has no edge: give it at least one [operation, source]")
            for j, (operation, source) in enumerate(edges):
                if operation not in _BUILDABLE:
                    allowed = ", ".join(PRIMITIVES[1:] + EXTRA_OPERATIONS)
                    raise GenotypeError(f"node {i}, edge {j}: operation {operation!r} is not one of {allowed}")
                if not 0 <= source < i + 2:
                    raise GenotypeError(
                        f"node {i}, edge {j}: source {source} does not come before the node; use 0 to {i + 1}"
                    )
        if not self.concat:
            raise GenotypeError("concat is empty: name at least one node, as 2 + its index")
        top = len(self.nodes) + 1
        for state in self.concat:
            if not 2 <= state <= top:
                raise GenotypeError(f"concat: state {state} is no node of this cell; use 2 to {top}")
        if len(set(self.concat)) != len(self.concat):
            raise GenotypeError(f"concat {list(self.concat)} names a node twice: name each once")

    @cached_property
    def live_nodes(self) -> frozenset[int]:
        """Nodes (0-based) from which a path leads to the concat; the others are dead."""
        live = {state - 2 for state in self.concat}
        for i in reversed(range(len(self.nodes))):  # sources precede nodes, so one sweep back is enough
            if i in live:
                live.update(source - 2 for _, source in self.nodes[i] if source >= 2)
        return frozenset(live)

    @cached_property
    def live_sources(self) -> frozenset[int]:
        """Cell inputs (0 and 1) that some live node uses."""
        return frozenset(edge.source for i in self.live_nodes for edge in self.nodes[i] if edge.source < 2)

    def functional(self) -> Functional:
        """Return the canonical functional form, hashable.

        Two cells have equal forms exactly when they compute the same function of (inputs, weights)
        for every choice of operations: dead nodes dropped, edge order ignored, nodes renamed.

        Returns:
            (size of the concat, edges by node): concat nodes first, in concat order, then the other
            live nodes in the order that gives the smallest form. Edges are (source, operation),
            sorted; sources count 0, 1 for the inputs and then nodes in this same order.
        """
        free = sorted(self.live_nodes.difference(state - 2 for state in self.concat))
        width = len(self.concat)
        # Concat nodes are fixed by their place in the concat. The few others (one at most for the
        # searched spaces, four for a 5-node cell with one output) are tried in every order.
        best = min(self._relabelled((*self.concat, *(i + 2 for i in order))) for order in itertools.permutations(free))
        return width, best

    def _relabelled(self, order: tuple[int, ...]) -> tuple[tuple[tuple[int, str], ...], ...]:
        label = {0: 0, 1: 1, **{state: k + 2 for k, state in enumerate(order)}}
        return tuple(
            tuple(sorted((label[source], operation) for operation, source in self.nodes[state - 2])) for state in order
        )


@dataclass(frozen=True)
class Genotype:
    """A normal and a reduction cell with the same number of nodes.

    Attributes:
        normal: The cell that keeps the spatial size.
        reduce: The cell that halves it (edges from the inputs have stride 2).

    Raises:
        GenotypeError: If the cells differ in their number of nodes.
    """

    normal: Cell
    reduce: Cell

    def __post_init__(self) -> None:
        if len(self.normal.nodes) != len(self.reduce.nodes):
            raise GenotypeError(
                f"normal has {len(self.normal.nodes)} nodes but reduce has {len(self.reduce.nodes)}: give both as many"
            )

    @property
    def nodes(self) -> int:
        """Number of intermediate nodes of a cell, dead ones included."""
        return len(self.normal.nodes)

    @cached_property
    def digest(self) -> str:
        """Functional identity: 16 hex digits, equal exactly when the functional forms are."""
        return _digest([self.normal.functional(), self.reduce.functional()])

    @cached_property
    def structural_digest(self) -> str:
        """Identity of what is built, dead nodes included: 16 hex digits, edge order in a node ignored."""
        return _digest([[[sorted(edges) for edges in cell.nodes], cell.concat] for cell in (self.normal, self.reduce)])

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists: normal, normal_concat, reduce, reduce_concat (edges as [operation, source])."""
        out: dict[str, Any] = {}
        for key, cell in (("normal", self.normal), ("reduce", self.reduce)):
            out[key] = [[[edge.operation, edge.source] for edge in edges] for edges in cell.nodes]
            out[f"{key}_concat"] = list(cell.concat)
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Genotype:
        """Read what `to_dict` writes, or the flat DARTS form (a list of pairs, two per node).

        Args:
            data: Needs normal, normal_concat, reduce, reduce_concat; other keys are ignored.

        Raises:
            GenotypeError: If a key is missing or holds something else; names the key.
        """
        if not isinstance(data, Mapping):
            raise GenotypeError(f"genotype: expected an object with normal and reduce, found {type(data).__name__}")
        return cls(_cell(data, "normal"), _cell(data, "reduce"))

    def to_json(self) -> str:
        """Return `to_dict` as JSON, one line a node, ending in a newline."""
        data = self.to_dict()
        lines = []
        for key in ("normal", "reduce"):
            nodes = ",\n".join(f"    {json.dumps(edges)}" for edges in data[key])
            lines.append(f'  "{key}": [\n{nodes}\n  ],\n  "{key}_concat": {json.dumps(data[f"{key}_concat"])}')
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """Read what `to_json` writes.

        Raises:
            GenotypeError: If the text is not JSON or not a genotype.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise GenotypeError(f"genotype is not JSON ({error}): give an object as to_json writes it") from error
        return cls.from_dict(data)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()[:16]


def _cell(data: Mapping[str, Any], key: str) -> Cell:
    for name in (key, f"{key}_concat"):
        if name not in data:
            raise GenotypeError(f"{name}: missing; a genotype has normal, normal_concat, reduce, reduce_concat")
    nodes, concat = data[key], data[f"{key}_concat"]
    if not isinstance(concat, list | tuple) or not all(type(state) is int for state in concat):
        raise GenotypeError(f"{key}_concat: expected a list of state numbers, found {concat!r}")
    if not isinstance(nodes, list | tuple):
        raise GenotypeError(f"{key}: expected a list of nodes, each a list of [operation, source], found {nodes!r}")
    if any(_is_edge(item) for item in nodes):
        if len(nodes) % 2 or not all(_is_edge(item) for item in nodes):
            raise GenotypeError(f"{key}: a flat list must hold [operation, source] pairs only, two per node")
        nodes = [nodes[i : i + 2] for i in range(0, len(nodes), 2)]
    for i, edges in enumerate(nodes):
        if not isinstance(edges, list | tuple) or not all(_is_edge(edge) for edge in edges):
            raise GenotypeError(f"{key}: node {i}: expected a list of [operation, source], found {edges!r}")
    try:
        return Cell(tuple(tuple(Edge(*edge) for edge in edges) for edges in nodes), tuple(concat))
    except GenotypeError as error:
        raise GenotypeError(f"{key}: {error}") from error


def _is_edge(item: Any) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str) and type(item[1]) is int
