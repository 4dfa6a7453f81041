"""NAS-Bench-201's cells as six tokens, and their positives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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
from dermonas.space.nasbench201 import EDGES, OPERATIONS, NasBench201Space

PADDING = "start symbol"
"""Reason: token 0 inside a sequence that has no padding."""


@dataclass(frozen=True)
class NasBench201Language:
    """One token an edge, 1 + its operation, in the order of theta; 0 only starts the decoder's input.

    An edit gives one edge another of the five operations. That is one edit of the labelled graph too: an operation
    changed, or an edge added or taken away where one of the two is none.

    Source: ours; the paper has NAS-Bench-101 only. Tokens as spec/nao.md 8 has them for theta.
    """

    @property
    def space(self) -> NasBench201Space:
        """The space."""
        return NasBench201Space()

    @property
    def name(self) -> str:
        """The space's name."""
        return self.space.name

    @property
    def vocabulary(self) -> int:
        """Six: the start and the five operations."""
        return len(OPERATIONS) + 1

    @property
    def length(self) -> int:
        """Six edges."""
        return len(EDGES)

    @property
    def allowed(self) -> Booleans:
        """Everything but the start symbol."""
        return np.tile(np.arange(self.vocabulary) > 0, (self.length, 1))

    @property
    def draws(self) -> int:
        """Uniform numbers of one positive."""
        return draws(2 * len(EDGES))

    def encode(self, thetas: Thetas) -> Tokens:
        """Return (cells, 6) tokens."""
        return thetas.astype(np.int64) + 1

    def decode(self, tokens: Tokens) -> Decoded:
        """Return the cells; a sequence with a 0 is none."""
        good = np.all(tokens > 0, axis=1)
        thetas = np.where(good[:, None], tokens - 1, 0).astype(np.uint8)
        return Decoded(thetas, tuple("" if fine else PADDING for fine in good))

    def positives(self, thetas: Thetas, uniforms: Uniforms, fallback: Fallback = "redraw") -> Positives:
        """Return cells with 1, 2 or 3 edges changed, equally likely; see `Language.positives`."""
        return draw_positives(thetas, uniforms, fallback, _attempt, _changed)


def _attempt(anchors: Thetas, distance: np.ndarray, uniforms: Uniforms) -> tuple[Thetas, Booleans]:
    edges = len(EDGES)
    everywhere = np.ones((len(anchors), edges), bool)
    chosen = ranks(uniforms[:, :edges], everywhere) < distance[:, None]
    others = (anchors + 1 + pick(uniforms[:, edges:], len(OPERATIONS) - 1)) % len(OPERATIONS)
    return np.where(chosen, others, anchors).astype(np.uint8), everywhere[:, 0]


def _changed(anchors: Thetas, edited: Thetas) -> Booleans:
    classes, places = _classes(), len(OPERATIONS) ** np.arange(len(EDGES) - 1, -1, -1)
    return np.asarray(classes[anchors @ places] != classes[edited @ places])


@lru_cache(maxsize=1)
def _classes() -> NDArray[np.int64]:
    """Return a number for the class of each theta, thetas in lexicographic order."""
    space = NasBench201Space()
    numbers: dict[str, int] = {}
    thetas = np.ndindex(*space.choices)
    return np.array([numbers.setdefault(space.digest(theta), len(numbers)) for theta in thetas])
