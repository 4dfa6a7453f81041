"""Near-duplicate images: the part of the leakage audit that looks at pixels.

Two photographs of one lesion, or one photograph saved twice, must not lie on both sides of a split.
A pair is reported when its 64-bit perceptual hashes differ in at most `MAX_HAMMING` bits in one of
the eight orientations of the square, and the normalised correlation at 64 x 64 confirms it in that
orientation. The hash alone is not enough: most dermoscopy images are a blob in the middle, and looser
bounds chain them into one group that swallows the data set (docs: DESIGN 6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dermonas.data.hash_index import Close, Crowd, close_pairs, compared
from dermonas.data.hashing import Fingerprints, orient

MIN_CORRELATION = 0.97
"""Smallest normalised correlation that confirms a pair. Source: DESIGN 6, measured on isic2019_mixed180."""
LISTED = 1_000_000
"""Pairs up to which all are listed; beyond, only those that join two groups."""

_CONFIRM_CHUNK = 512  # candidate pairs a time: 2 x 8 MB of float32, which stays in the cache
_REPRESENTATIVES = 16  # images of a crowd that are compared with all of it, one after the other
_COMPARED = 1 << 26  # hashes of a crowd that are compared outright: 0.2 s
_CANDIDATES = 1 << 16  # pairs of a crowd that are confirmed outright: 1 s

Reader = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""From k rows, repeated or not, to their thumbnails, uint8 (k, 64, 64)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images that show the same picture.

    Attributes:
        i: Row of the first image.
        j: Row of the second image, greater than `i`.
        hamming: Differing hash bits in that orientation, in [0, MAX_HAMMING].
        correlation: Normalised correlation in that orientation, in [MIN_CORRELATION, 1].
        orientation: In [0, 8): `orient(thumbs[j], orientation)` looks like `thumbs[i]`.
    """

    i: int
    j: int
    hamming: int
    correlation: float
    orientation: int


@dataclass(frozen=True, eq=False)
class Pairs:
    """Near-duplicates in columns, at most one row for (i, j), sorted by it; iterates as `Pair`.

    Attributes:
        i: int64 (n,).
        j: int64 (n,).
        hamming: uint8 (n,).
        correlation: float32 (n,).
        orientation: uint8 (n,), the best-correlated one.
        complete: False when pairs within a group were left out (see `near_duplicates`); the groups are the same.
        unsettled: Images of crowds too diverse to compare in full: links of these may be missing.
    """

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    hamming: NDArray[np.uint8]
    correlation: NDArray[np.float32]
    orientation: NDArray[np.uint8]
    complete: bool = True
    unsettled: int = 0

    def __len__(self) -> int:
        return len(self.i)

    def __iter__(self) -> Iterator[Pair]:
        return self.first(len(self))

    def first(self, count: int) -> Iterator[Pair]:
        """Iterate over the first `count` pairs."""
        columns = (self.i, self.j, self.hamming, self.correlation, self.orientation)
        return (Pair(*values) for values in zip(*(column[:count].tolist() for column in columns), strict=True))


def no_pairs() -> Pairs:
    """Return no pairs."""
    rows = np.empty(0, np.int64)
    return Pairs(rows, rows, np.empty(0, np.uint8), np.empty(0, np.float32), np.empty(0, np.uint8))


def near_duplicates(prints: Fingerprints, thumbnails: Reader) -> Pairs:
    """Find every pair of images that show the same picture, turned or mirrored or not.

    Candidates come from an index over the hashes (`hash_index`), and their thumbnails alone are read. Images below
    `hashing.MIN_CONTRAST` are never paired, since a correlation of rounding noise says nothing; if they are copies,
    their files' digests say so.

    So that many copies of one picture do not cost the square of their number, pairs are left out where the groups do
    not need them: after `LISTED` pairs, and in a crowd (more than `hash_index.CROWD` comparisons under one key, about
    1,000 images), a pair is looked at only if its images are not yet in one group. Every image with a near-duplicate
    still stands in a pair, and the groups are those of all pairs. The one exception are crowds of over about 8,000
    images, or of more than 65,536 candidates, that stay apart after 16 of their images were compared with all of
    them: what is left is counted as `unsettled`.

    Args:
        prints: Of n images.
        thumbnails: Reads the thumbnails of rows in 0..n-1.
    """
    rows = np.flatnonzero(prints.clear)
    # Of a million images the hashes are 64 MB: not copied where all are clear.
    search = _Search(prints.hashes if prints.clear.all() else prints.hashes[:, rows], rows, thumbnails)
    for found in close_pairs(search.hashes):
        if isinstance(found, Crowd):
            search.crowd(found)
        else:
            search.confirm(found, within=search.listed < LISTED)
    return search.pairs()


class _Search:
    """Candidates confirmed so far, and the groups that they join."""

    def __init__(self, hashes: NDArray[np.uint64], rows: NDArray[np.int64], thumbnails: Reader) -> None:
        self.hashes, self.rows, self.thumbnails = hashes, rows, thumbnails
        self.listed, self.complete = 0, True
        self._parent = np.arange(len(rows))
        self._unsettled = np.zeros(len(rows), dtype=bool)
        self._found: list[tuple[NDArray[np.generic], ...]] = []

    def pairs(self) -> Pairs:
        """Return what was confirmed, each pair in its best orientation."""
        if not self._found:
            columns = [np.empty(0, np.int64)] * 5
        else:
            columns = [np.concatenate(part) for part in zip(*self._found, strict=True)]
        i, j, hamming, correlation, orientation = columns
        order = np.lexsort((orientation, -correlation, j, i))
        first = np.ones(len(order), dtype=bool)
        first[1:] = (np.diff(i[order]) != 0) | (np.diff(j[order]) != 0)
        best = order[first]
        return Pairs(
            self.rows[i[best]], self.rows[j[best]], hamming[best].astype(np.uint8),
            correlation[best].astype(np.float32), orientation[best].astype(np.uint8),
            self.complete, int(self._unsettled.sum()),
        )  # fmt: skip

    def confirm(self, close: Close, *, within: bool) -> None:
        """Keep the candidates whose pixels agree; those within one group only where `within`."""
        for start in range(0, len(close.i), _CONFIRM_CHUNK):
            part = slice(start, start + _CONFIRM_CHUNK)
            i, j, hamming = close.i[part], close.j[part], close.distance[part]
            if not within:
                apart = self._roots(i) != self._roots(j)
                self.complete &= bool(apart.all())
                i, j, hamming = i[apart], j[apart], hamming[apart]
                if not len(i):
                    continue
            left, right = self.thumbnails(self.rows[i]), self.thumbnails(self.rows[j])
            correlation = _correlations(left, orient(right, close.orientation))
            good = correlation >= MIN_CORRELATION
            if good.any():
                turned = np.full(int(good.sum()), close.orientation, dtype=np.uint8)
                self._found.append((i[good], j[good], hamming[good], correlation[good], turned))
                self.listed += len(turned)
                self._unite(i[good], j[good])

    def crowd(self, crowd: Crowd) -> None:
        """Join the groups within a crowd: representatives first, then the rest if it is small enough."""
        left, right = (side[~self._unsettled[side]] for side in crowd[:2])
        turned = crowd.orientation
        done = np.zeros(0, dtype=np.int64)
        for _ in range(_REPRESENTATIVES):
            roots, sizes = np.unique(self._roots(np.union1d(left, right)), return_counts=True)
            largest = roots[sizes.argmax()] if len(roots) else -1
            first, second = (side[(self._roots(side) != largest) & ~np.isin(side, done)] for side in (left, right))
            rest = Crowd(first, right, turned), Crowd(np.setdiff1d(left, first), second, turned)
            close = self._few(rest)
            if close is not None:
                self.complete &= bool((sizes == 1).all())
                for found in close:
                    self.confirm(found, within=False)
                return
            one = first[:1] if len(first) else second[:1]
            for part in (Crowd(one, right, turned), Crowd(left, one, turned)):
                for found in compared(self.hashes, part):
                    self.confirm(found, within=False)
            done = np.append(done, one)
        self.complete = False
        self._unsettled[first] = self._unsettled[second] = True

    def _few(self, crowds: tuple[Crowd, ...]) -> list[Close] | None:
        """Return the candidates of crowds between groups; None if they or the comparisons are too many."""
        if sum(len(left) * len(right) for left, right, _ in crowds) > _COMPARED:
            return None
        kept, count = [], 0
        for crowd in crowds:
            for found in compared(self.hashes, crowd):
                apart = self._roots(found.i) != self._roots(found.j)
                count += int(apart.sum())
                if count > _CANDIDATES:
                    return None
                kept.append(Close(found.i[apart], found.j[apart], found.distance[apart], found.orientation))
        return kept

    def _roots(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a name of each row's group."""
        found = self._parent[rows]
        while not np.array_equal(above := self._parent[found], found):
            found = above
        self._parent[rows] = found  # shortens the next way
        return found

    def _unite(self, i: NDArray[np.int64], j: NDArray[np.int64]) -> None:
        parent = self._parent
        for one, other in zip(i.tolist(), j.tolist(), strict=True):
            while parent[one] != one:
                one = parent[one]
            while parent[other] != other:
                other = parent[other]
            parent[max(one, other)] = min(one, other)


def _correlations(left: NDArray[np.generic], right: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return Pearson's correlation of (k, 64, 64) images row by row; images are not constant."""
    a = left.reshape(len(left), -1).astype(np.float32)
    b = right.reshape(len(right), -1).astype(np.float32)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    product = np.einsum("np,np->n", a, b)
    norms = np.einsum("np,np->n", a, a) * np.einsum("np,np->n", b, b)
    return np.minimum(product / np.sqrt(norms), np.float32(1.0))
