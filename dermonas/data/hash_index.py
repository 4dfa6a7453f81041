"""All pairs of 64-bit hashes within 6 bits, without comparing all with all.

The bits are cut into twelve blocks. Six differing bits spoil at most six of them, so at least six agree, and `QUADS`
is a family of 66 sets of four blocks of which any six blocks contain one: two hashes within 6 bits agree on all the
bits of some quad (20 to 22 bits). For each quad the hashes are filed under those bits, and only hashes under one key
are compared. Nothing is missed; time grows with the rows as long as few of them share a key.

Source: the blocks and tables are those of Manku et al., "Detecting near-duplicates for web crawling" (2007), section
3; fewer tables by a covering of Turan's kind (66 in place of 84 with nine blocks, three of them equal).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_HAMMING = 6
"""Largest distance between two hashes, in bits of 64. Source: DESIGN 6, measured on isic2019_mixed180."""

WIDTHS = (6, 5, 5, 6, 5, 5, 6, 5, 5, 6, 5, 5)
"""Bits of each block, least significant first."""
_STARTS = tuple(int(start) for start in np.cumsum((0, *WIDTHS[:-1])))
CROWD = 1 << 20
"""Comparisons under one key above which the key is left to the caller."""

_SMALL = 1 << 13  # hashes up to which all are compared with all: the tables' fixed cost (about 1 s) is larger
_COARSE = 8  # bits of a key that a first count of its rows leaves out
_CHUNK = 1 << 19  # comparisons a time: about 32 MB of temporary arrays


def _quads() -> tuple[tuple[int, ...], ...]:
    """Cover every six of twelve blocks: six lie 4 + 2, 5 + 1 or 6 + 0 in the halves, or 3 + 3.

    Four in one half are a quad. Of three in a half two lie in one of its two triangles: an edge of each half's.
    """
    halves = (range(6), range(6, 12))
    within = [quad for half in halves for quad in combinations(half, 4)]
    edges = [[edge for part in (half[:3], half[3:]) for edge in combinations(part, 2)] for half in halves]
    return (*within, *((*first, *second) for first in edges[0] for second in edges[1]))


QUADS = _quads()
"""66 sets of four blocks; any six of the twelve blocks contain one."""


class Close(NamedTuple):
    """Pairs within `MAX_HAMMING` bits: rows i < j, `hashes[0, i]` against `hashes[orientation, j]`."""

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    distance: NDArray[np.uint8]
    orientation: int


class Crowd(NamedTuple):
    """Rows under one key, too many to compare: `left` by their first hash, `right` by that of the orientation."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    orientation: int


def close_pairs(hashes: NDArray[np.uint64]) -> Iterator[Close | Crowd]:
    """Yield every pair (i, j, orientation) within `MAX_HAMMING` bits once, unless it stands in a crowd.

    Args:
        hashes: (orientations, n) uint64.

    Yields:
        Pairs in chunks, and crowds: a pair in one may come in several crowds, and as a pair too.
    """
    count = hashes.shape[1]
    if count <= _SMALL:
        rows = np.arange(count)
        for orientation in range(len(hashes)):
            yield from compared(hashes, Crowd(rows, rows, orientation))
        return
    first = _first_quads()
    for number, quad in enumerate(QUADS):
        yield from _filed(hashes, number, quad, first)


def compared(hashes: NDArray[np.uint64], crowd: Crowd) -> Iterator[Close]:
    """Compare all of `left` with all of `right`, in chunks."""
    left, right, orientation = crowd
    wide = hashes[orientation, right]
    step = max(1, _CHUNK // max(1, len(right)))
    for start in range(0, len(left), step):
        rows = left[start : start + step]
        distance = np.bitwise_count(hashes[0, rows][:, None] ^ wide)
        row, column = np.nonzero(distance <= MAX_HAMMING)
        i, j = rows[row], right[column]
        keep = i < j
        if keep.any():
            yield Close(i[keep], j[keep], distance[row[keep], column[keep]], orientation)


def _filed(
    hashes: NDArray[np.uint64], number: int, quad: tuple[int, ...], first: NDArray[np.int8]
) -> Iterator[Close | Crowd]:
    """Yield what agrees on one quad and on none before it."""
    keys = _keys(hashes[0], quad)
    order = np.argsort(keys, kind="stable").astype(np.int32)
    counts = np.bincount(keys, minlength=1 << sum(WIDTHS[block] for block in quad)).astype(np.int32)
    ends = np.cumsum(counts, dtype=np.int32)
    filed = hashes[0][order]
    for orientation in range(len(hashes)):
        other = keys if orientation == 0 else _keys(hashes[orientation], quad)
        partners = counts[other]
        crowded = _crowded(other, partners, counts)
        if len(crowded):
            rows = np.flatnonzero(np.isin(other, crowded))
            partners[rows] = 0
            rows = rows[np.argsort(other[rows], kind="stable")]
            for right in np.split(rows, np.flatnonzero(np.diff(other[rows])) + 1):
                end = ends[other[right[0]]]
                left = order[end - counts[other[right[0]]] : end].astype(np.int64)
                yield Crowd(left, right, orientation)
        rows = np.flatnonzero(partners)
        for part in _parts(rows, partners[rows]):
            many = partners[part].astype(np.int64)
            begin = ends[other[part]] - many
            position = np.arange(many.sum()) + np.repeat(begin - (np.cumsum(many) - many), many)
            differing = filed[position] ^ np.repeat(hashes[orientation, part], many)
            distance = np.bitwise_count(differing)
            found = np.flatnonzero(distance <= MAX_HAMMING)
            i, j = order[position[found]].astype(np.int64), np.repeat(part, many)[found]
            keep = (i < j) & (first[_agreeing(differing[found])] == number)
            if keep.any():
                yield Close(i[keep], j[keep], distance[found[keep]], orientation)


def _parts(rows: NDArray[np.int64], partners: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
    """Cut rows into parts of about `_CHUNK` partners each."""
    if len(rows):
        totals = np.cumsum(partners, dtype=np.int64)
        edges = np.searchsorted(totals, np.arange(_CHUNK, totals[-1], _CHUNK), side="right")
        yield from (part for part in np.split(rows, edges) if len(part))


def _keys(hashes: NDArray[np.uint64], quad: tuple[int, ...]) -> NDArray[np.int32]:
    """Return the bits of four blocks, side by side."""
    key = np.zeros(len(hashes), dtype=np.uint64)
    for block in quad:
        key <<= np.uint64(WIDTHS[block])
        key |= (hashes >> np.uint64(_STARTS[block])) & np.uint64((1 << WIDTHS[block]) - 1)
    return key.astype(np.int32)


def _crowded(keys: NDArray[np.int32], partners: NDArray[np.int32], counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the keys under which there are more than `CROWD` comparisons."""
    coarse = np.bincount(keys >> _COARSE)  # at least as many rows as have the key itself, and quick to count
    suspects = keys[partners > CROWD // np.maximum(coarse, 1)[keys >> _COARSE]]
    found, rows = np.unique(suspects, return_counts=True)
    return found[counts[found] * rows > CROWD]


def _agreeing(differing: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return, as a mask of twelve bits, in which blocks two hashes agree."""
    mask = np.zeros(len(differing), dtype=np.int64)
    for block, (start, width) in enumerate(zip(_STARTS, WIDTHS, strict=True)):
        mask |= (differing & np.uint64(((1 << width) - 1) << start) == 0).astype(np.int64) << block
    return mask


def _first_quads() -> NDArray[np.int8]:
    """Return, by mask of agreeing blocks, the first quad within it; -1 where there is none."""
    masks = np.arange(1 << len(WIDTHS))
    first = np.full(len(masks), -1, dtype=np.int8)
    for number in reversed(range(len(QUADS))):
        bits = sum(1 << block for block in QUADS[number])
        first[(masks & bits) == bits] = number
    return first
