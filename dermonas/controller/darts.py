"""Our theta as 28 or 40 tokens, and its positives: edits of selected edges of live nodes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

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
    pick,
    ranks,
)
from dermonas.controller.nasbench201 import PADDING
from dermonas.errors import GenotypeError
from dermonas.space.darts import DartsSpace
from dermonas.space.genotype import PRIMITIVES

EDGES = "fewer than two edges"
"""Reason: a node with fewer than two edges that are not none (strict decoding only)."""

_OPERATIONS = len(PRIMITIVES) - 1  # without none
_FILLER = PRIMITIVES.index("max_pool_3x3")


@dataclass(frozen=True)
class DartsLanguage:
    """One token a position, 1 + its value, normal cell first; 0 only starts the decoder's input.

    Works on canonical "first2" thetas: each node has exactly two positions that are not none. Another encoding of the
    same space is read and written through `DartsSpace.theta`.

    Edits touch selected edges of live nodes only. Another operation costs 1; a rewire (an edge goes, one from another
    source of the same node comes) costs 2: an edge deleted and one inserted. An edit that kills or revives the node
    outside the concat costs more than 3 and is redrawn. Distance 1 is one operation; 2 two operations or one rewire;
    3 three operations or one operation and one rewire; the two kinds equally likely.

    Attributes:
        nodes: Intermediate nodes of a cell, 4 or 5.
        decoding: "strict" refuses a sequence in which a node has fewer than two edges that are not none; "lenient"
            fills such a node as the encoding does.

    Source: spec/nao.md 8 (ours, not published).
    """

    nodes: int = 5
    decoding: Literal["strict", "lenient"] = "strict"

    @cached_property
    def space(self) -> DartsSpace:
        """The space in the "first2" encoding."""
        return DartsSpace(self.nodes, "first2")

    @property
    def name(self) -> str:
        """The space's name."""
        return self.space.name

    @property
    def vocabulary(self) -> int:
        """Nine: the start and the eight values of a position."""
        return len(PRIMITIVES) + 1

    @property
    def length(self) -> int:
        """28 with 4 nodes, 40 with 5."""
        return len(self.space.choices)

    @property
    def allowed(self) -> Booleans:
        """Everything but the start symbol."""
        return np.tile(np.arange(self.vocabulary) > 0, (self.length, 1))

    @property
    def draws(self) -> int:
        """Uniform numbers of one positive."""
        return draws(1 + 3 * self.length)

    def sample(self, rng: np.random.Generator, count: int) -> Thetas:
        """Draw genotypes uniformly: two different sources a node, operations uniform and independent.

        Returns:
            (count, length), canonical.
        """
        keys = rng.random((count, self.length))
        operations = 1 + rng.integers(0, _OPERATIONS, (count, self.length))
        thetas = np.zeros((count, self.length), np.uint8)
        for node in self._node_positions:
            chosen = ranks(keys[:, node], np.ones((count, len(node)), bool)) < 2
            thetas[:, node] = np.where(chosen, operations[:, node], 0)
        return np.where(self._live(thetas), thetas, self._filler[None, :]).astype(np.uint8)

    def encode(self, thetas: Thetas) -> Tokens:
        """Return (cells, length) tokens of canonical thetas."""
        return thetas.astype(np.int64) + 1

    def decode(self, tokens: Tokens) -> Decoded:
        """Return canonical thetas; reasons are `PADDING` and, in strict decoding, `EDGES`."""
        values = tokens - 1
        padded = np.any(values < 0, axis=1)
        edges = np.stack([(values[:, node] > 0).sum(axis=1) for node in self._node_positions], axis=1)
        thin = np.any(edges < 2, axis=1) & (self.decoding == "strict")
        reasons = tuple(PADDING if p else EDGES if t else "" for p, t in zip(padded, thin, strict=True))
        thetas = np.zeros(values.shape, np.uint8)
        for row, reason in enumerate(reasons):
            if not reason:
                thetas[row] = self.space.canonical(tuple(values[row].tolist()))
        return Decoded(thetas, reasons)

    def positives(self, thetas: Thetas, uniforms: Uniforms, fallback: Fallback = "redraw") -> Positives:
        """Return canonical cells 1, 2 or 3 edits away, equally likely; see `Language.positives`.

        Raises:
            GenotypeError: If a theta is not canonical.
        """
        selected = np.stack([(thetas[:, node] > 0).sum(axis=1) for node in self._node_positions], axis=1)
        if not (selected == 2).all():
            row, node = np.argwhere(selected != 2)[0]
            raise GenotypeError(
                f"{self.name}: anchor {row} has {selected[row, node]} edges in node {node}; give canonical thetas"
            )
        return draw_positives(thetas, uniforms, fallback, self._attempt, _differs)

    @cached_property
    def _node_positions(self) -> tuple[NDArray[np.int64], ...]:
        """Positions of each node, normal cell first."""
        sizes = [i + 2 for i in range(self.nodes)] * 2
        bounds = [0, *itertools.accumulate(sizes)]
        return tuple(np.arange(start, stop) for start, stop in itertools.pairwise(bounds))

    @cached_property
    def _node_of(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(2 * self.nodes), [len(node) for node in self._node_positions])

    @cached_property
    def _filler(self) -> Thetas:
        theta = np.zeros(self.length, np.uint8)
        for node in self._node_positions:
            theta[node[:2]] = _FILLER
        return theta

    def _live(self, thetas: Thetas) -> Booleans:
        """Return (cells, length): positions of live nodes. With 5 nodes the first may be dead, with 4 none is."""
        live = np.ones(thetas.shape, bool)
        if self.nodes == 5:
            for cell in range(2):
                nodes = self._node_positions[cell * self.nodes : (cell + 1) * self.nodes]
                users = [node[2] for node in nodes[1:]]  # the positions whose source is node 0
                live[:, nodes[0]] = np.any(thetas[:, users] > 0, axis=1, keepdims=True)
        return live

    def _attempt(self, anchors: Thetas, distance: np.ndarray, uniforms: Uniforms) -> tuple[Thetas, Booleans]:
        kind = uniforms[:, 0]
        keys, moves, choices = np.split(uniforms[:, 1:], 3, axis=1)
        rewire = (distance >= 2) & (kind < 0.5)
        changes = distance - 2 * rewire
        live, selected = self._live(anchors), anchors > 0
        everyone = np.arange(len(anchors))

        free = np.array([len(node) > 2 for node in self._node_positions])[self._node_of]
        gone = np.argmin(np.where(selected & live & free, moves, 2.0), axis=1)
        same_node = self._node_of[None, :] == self._node_of[gone][:, None]
        come = np.argmin(np.where(same_node & ~selected, moves, 2.0), axis=1)
        candidates = selected & live
        candidates[everyone[rewire], gone[rewire]] = False
        chosen = ranks(keys, candidates) < changes[:, None]

        others = (anchors + pick(choices, _OPERATIONS - 1)) % _OPERATIONS + 1
        edited = np.where(chosen, others, anchors).astype(np.uint8)
        added = 1 + pick(choices[everyone, come], _OPERATIONS)
        edited[everyone[rewire], gone[rewire]] = 0
        edited[everyone[rewire], come[rewire]] = added[rewire]
        return edited, (self._live(edited) == live).all(axis=1)


def _differs(anchors: Thetas, edited: Thetas) -> Booleans:
    """Canonical thetas differ exactly when the networks do."""
    return np.asarray((anchors != edited).any(axis=1))
