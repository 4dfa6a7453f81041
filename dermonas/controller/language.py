"""What the controller needs to know of a space: its cells as tokens, and cells a few edits apart.

A `Language` works on arrays of thetas, one row a cell, and draws nothing itself: `positives` is a function of the
cells and of uniform numbers that `uniforms` keys by (seed, epoch, anchor), so a resumed pretraining meets the same
positives in whatever batch an anchor falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dermonas.seeding import numpy_generator
from dermonas.space.domain import Domain

Fallback = Literal["redraw", "paper"]
"""What becomes of a positive whose edits all failed; see `Language.positives`."""

MAX_EDITS = 3
"""Most edits between an anchor and its positive. Source: the NAO paper, section 3 (spec/nao.md 2)."""

Thetas = NDArray[np.integer[Any]]
Tokens = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Uniforms = NDArray[np.float64]


class Decoded(NamedTuple):
    """Cells read from token sequences.

    Attributes:
        thetas: (cells, positions), of the space; zeros where the sequence is no cell.
        reasons: For each sequence why it is no cell, "" where it is one.
    """

    thetas: Thetas
    reasons: tuple[str, ...]


class Positives(NamedTuple):
    """Cells near their anchors.

    Attributes:
        thetas: (anchors, count, positions).
        distance: (anchors, count), the edits made: 1 to 3, or 0 where all failed and the anchor itself stands.
    """

    thetas: Thetas
    distance: NDArray[np.int8]


class Language(Protocol):
    """A space as the controller's encoder and decoder see it."""

    @property
    def space(self) -> Domain:
        """The space whose thetas these are."""

    @property
    def name(self) -> str:
        """Names the language in a controller file."""

    @property
    def vocabulary(self) -> int:
        """Number of symbols; 0 starts a sequence and pads it."""

    @property
    def length(self) -> int:
        """Tokens in a sequence."""

    @property
    def allowed(self) -> Booleans:
        """(length, vocabulary): the symbols that some cell has at a position; a mask for greedy decoding."""

    @property
    def draws(self) -> int:
        """Uniform numbers that one positive needs."""

    def encode(self, thetas: Thetas) -> Tokens:
        """Return (cells, length) tokens of valid cells, (cells, positions)."""

    def decode(self, tokens: Tokens) -> Decoded:
        """Return the cells that (sequences, length) tokens describe."""

    def positives(self, thetas: Thetas, uniforms: Uniforms, fallback: Fallback = "redraw") -> Positives:
        """Return cells 1, 2 or 3 edits away from each anchor, the number of edits drawn with equal odds.

        Args:
            thetas: (anchors, positions), valid cells.
            uniforms: (anchors, count, draws), in [0, 1).
            fallback: "redraw" takes an edit only if the cell then is another network, and tries the other distances
                when one is exhausted. "paper" asks of an edit only that the cell is valid, and keeps to the distance.
        """


def uniforms(language: Language, seed: int, epoch: int, anchors: Sequence[int], count: int) -> Uniforms:
    """Return the numbers from which `count` positives of each anchor are made.

    Args:
        language: Says how many a positive needs.
        seed: The run's seed.
        epoch: From 0; another epoch gives an anchor other positives.
        anchors: Indices of the anchors in the data set.
        count: Positives of an anchor.

    Returns:
        (anchors, count, draws).
    """
    shape = (count, language.draws)
    return np.stack([numpy_generator(seed, "positives", epoch, int(anchor)).random(shape) for anchor in anchors])


def pick(uniform: Uniforms, count: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Turn uniform numbers into integers below `count`, elementwise."""
    return (uniform * count).astype(np.int64)


def ranks(keys: Uniforms, among: Booleans) -> NDArray[np.int64]:
    """Return the rank of each position's key within its row, those of `among` before all others.

    The positions of rank 0 .. k-1 are k of `among` drawn without replacement, if it has as many.
    """
    order = np.argsort(np.where(among, keys, keys + 1.0), axis=1)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(keys.shape[1])[None, :], axis=1)
    return rank
