"""The searched space: normal and reduction cells of 4 or 5 nodes, the last four concatenated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dermonas.errors import ConfigError, GenotypeError
from dermonas.space.domain import Theta
from dermonas.space.encoding import ENCODINGS, Encoding, EncodingName, NodeEdges
from dermonas.space.genotype import Cell, Edge, Genotype
from dermonas.space.theta import check_theta

# Source: CSNAS code, multiplier 4 in both cell types (spec 1.4; the published parameter counts
# hold only so). With 5 nodes, node 0 is therefore outside the concat and may be dead.
_CONCAT_WIDTH = 4


@dataclass(frozen=True)
class DartsSpace:
    """The DARTS-like space of CSNAS and DermoCSNAS; implements `Domain`.

    Theta = the normal cell's vector followed by the reduction cell's, written in one of three
    encodings (see `encoding`). The canonical theta depends on the functional form alone, hence two
    thetas share it exactly when their digests are equal: unselected edges are none, fillers are
    written out as max_pool_3x3, and a dead node holds its encoding's filler. Renaming nodes never
    gives a second theta: the concat nodes are fixed by their place in the concat, and with 5 nodes
    only one node, the first, is outside of it.

    Attributes:
        nodes: Intermediate nodes of a cell, 4 or 5.
        encoding: "first2" (the papers'), "all" or "pairs".

    Raises:
        ConfigError: If nodes or encoding is something else.

    Source: CSNAS, section III-A; spec 1.2 to 1.4.
    """

    nodes: int = 5
    encoding: EncodingName = "first2"

    def __post_init__(self) -> None:
        if self.nodes not in (4, 5):
            raise ConfigError(f"nodes: {self.nodes!r} is not possible; use 4 or 5")
        if self.encoding not in ENCODINGS:
            raise ConfigError(f"encoding: {self.encoding!r} is unknown; use one of {', '.join(ENCODINGS)}")

    @property
    def name(self) -> str:
        """For example "darts5-first2"."""
        return f"darts{self.nodes}-{self.encoding}"

    @property
    def concat(self) -> tuple[int, ...]:
        """States of the last four nodes: 2..5 with 4 nodes, 3..6 with 5."""
        return tuple(range(self.nodes + 2 - _CONCAT_WIDTH, self.nodes + 2))

    @cached_property
    def choices(self) -> tuple[int, ...]:
        """Choices by position: 28 or 40 of 8 ("first2", "all"); 24 or 30 of mixed size ("pairs")."""
        return self._encoding.choices(self.nodes) * 2

    def genotype(self, theta: Theta) -> Genotype:
        """Return what `theta` builds, dead nodes as theta has them.

        Raises:
            GenotypeError: If theta has the wrong length or a choice out of range.
        """
        return Genotype(*self._cells(theta))

    def theta(self, genotype: Genotype) -> Theta:
        """Return the canonical theta of the network that `genotype` computes.

        Dead nodes are not kept (`genotype(theta(g))` has the digest of g, and its structure only if
        no node of g is dead), and the genotype may have another number of nodes, if it computes
        what a cell of this space does.

        Raises:
            GenotypeError: If no theta of this space computes it; names the cell and the reason.
        """
        theta: list[int] = []
        for kind, cell in (("normal", genotype.normal), ("reduce", genotype.reduce)):
            try:
                theta += self._vector(cell)
            except GenotypeError as error:
                raise GenotypeError(f"{self.name}: {kind}: {error}") from error
        return tuple(theta)

    def canonical(self, theta: Theta) -> Theta:
        """Return the canonical theta of the network that `theta` describes.

        Raises:
            GenotypeError: If theta has the wrong length or a choice out of range.
        """
        normal, reduce = self._cells(theta)
        return (*self._vector(normal), *self._vector(reduce))

    def digest(self, theta: Theta) -> str:
        """Return the functional digest of the genotype of `theta`.

        Raises:
            GenotypeError: If theta has the wrong length or a choice out of range.
        """
        return self.genotype(theta).digest

    def sample(self, rng: np.random.Generator) -> Theta:
        """Draw each position uniformly from its choices, independently."""
        return tuple(rng.integers(0, self.choices).tolist())

    def neighbours(self, theta: Theta) -> Iterator[Theta]:
        """Yield the canonical thetas one live edit away, each once, never that of `theta`.

        An edit gives one edge of a live node another operation or another source that the node does
        not use yet ("all": another operation, or adds or removes an edge). Edits start from the
        canonical theta, so a dead node that an edit revives comes back with the filler edges.
        """
        start = self.canonical(theta)
        half = len(start) // 2
        seen = {start}
        for offset, cell in zip((0, half), self._cells(start), strict=True):
            for i in sorted(cell.live_nodes):
                for edges in self._encoding.edits(i, cell.nodes[i]):
                    edited = Cell((*cell.nodes[:i], edges, *cell.nodes[i + 1 :]), cell.concat)
                    found = (*start[:offset], *self._vector(edited), *start[offset + half :])
                    if found not in seen:
                        seen.add(found)
                        yield found

    @property
    def _encoding(self) -> Encoding:
        return ENCODINGS[self.encoding]

    def _cells(self, theta: Theta) -> tuple[Cell, Cell]:
        check_theta(self.name, self.choices, theta)
        half = len(theta) // 2
        decode, concat = self._encoding.decode, self.concat
        return Cell(decode(theta[:half], self.nodes), concat), Cell(decode(theta[half:], self.nodes), concat)

    def _vector(self, cell: Cell) -> list[int]:
        return self._encoding.encode(self._placed(cell))

    def _placed(self, cell: Cell) -> list[NodeEdges]:
        """Return the live edges in this space's node order, with fillers in the node left over."""
        width, form = cell.functional()
        if width != _CONCAT_WIDTH:
            raise GenotypeError(f"the concat has {width} nodes, those of this space have {_CONCAT_WIDTH}")
        free, room = len(form) - width, self.nodes - width
        if free > room:
            raise GenotypeError(f"{len(form)} nodes reach the output, the cells of this space have {self.nodes}")
        # The form counts concat nodes first; here they come last.
        state = {0: 0, 1: 1, **{2 + k: 2 + (k + room if k < width else k - width) for k in range(len(form))}}
        nodes: list[NodeEdges] = [self._encoding.filler()] * room
        nodes[:free] = [_moved(edges, state) for edges in form[width:]]
        nodes += [_moved(edges, state) for edges in form[:width]]
        for i, edges in enumerate(nodes):
            if any(source > i + 1 for _, source in edges):
                raise GenotypeError("a node outside the concat uses one inside it; here only the first node is outside")
        return nodes


def _moved(edges: tuple[tuple[int, str], ...], state: dict[int, int]) -> NodeEdges:
    return tuple(Edge(operation, state[source]) for source, operation in edges)
