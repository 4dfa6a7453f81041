"""Near-duplicate images: the part of the leakage audit that looks at pixels.

Two photographs of one lesion, or one photograph saved twice, must not lie on both sides of a split.
A pair is reported when its 64-bit perceptual hashes differ in at most `MAX_HAMMING` bits in one of
the eight orientations of the square, and the normalised correlation at 64 x 64 confirms it in that
orientation. The hash alone is not enough: most dermoscopy images are a blob in the middle, and looser
bounds chain them into one group that swallows the data set (docs: DESIGN 6).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

SIDE = 64
"""Height and width of a thumbnail, in pixels."""
MAX_HAMMING = 6
"""Largest distance between two hashes, in bits of 64. Source: DESIGN 6, measured on isic2019_mixed180."""
MIN_CORRELATION = 0.97
"""Smallest normalised correlation that confirms a pair. Source: DESIGN 6, measured on isic2019_mixed180."""
MIN_CONTRAST = 1.0
"""Smallest standard deviation, in grey levels of 255, at which a correlation means anything: below it an
8-bit thumbnail holds rounding and JPEG noise only."""
ORIENTATIONS = 8
"""The symmetries of the square: four quarter turns, each plain or mirrored."""

_LOW = 8  # the hash reads the 8 x 8 lowest frequencies
_BASIS: NDArray[np.float64] = dct(np.eye(SIDE), axis=0, norm="ortho")[:_LOW]  # (8, 64): rows are DCT-II waves
_DECIMALS = 6  # coefficients closer than this are equal: hides rounding, so that flat images hash alike
_HASH_CHUNK = 1024  # images a time: 32 MB of float64
_DISTANCE_CHUNK = 1 << 18  # distances a time: 2 MB of uint64, which stays in the cache
_CONFIRM_CHUNK = 2048  # candidate pairs a time: 2 x 32 MB of float32


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


def orient(image: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """Turn and mirror the last two axes of an array.

    Args:
        image: (..., side, side).
        orientation: In [0, 8). `orientation % 4` quarter turns counter-clockwise, after a mirroring of
            columns when it is 4 or more.

    Returns:
        A view of the same shape.

    Raises:
        ValueError: `orientation` is outside [0, 8).
    """
    if not 0 <= orientation < ORIENTATIONS:
        raise ValueError(f"orientation is {orientation}, must be in 0..{ORIENTATIONS - 1}")
    mirrored = image[..., ::-1] if orientation >= 4 else image
    return np.rot90(mirrored, orientation % 4, axes=(-2, -1))


def phash(grey64: NDArray[np.uint8]) -> int:
    """Hash one image so that resized, recompressed and slightly edited copies stay close.

    Bit b (least significant first, row-major over the 8 x 8 lowest DCT-II coefficients, the mean
    included) is set where the coefficient is above the block's median. A constant image hashes to 1,
    a black one to 0.

    Args:
        grey64: (64, 64) uint8, grey levels 0..255.

    Returns:
        An integer in [0, 2**64).

    Raises:
        ValueError: the array is not (64, 64) uint8.

    Source: Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010), section 3.2.1;
        deviations: 64 x 64 input instead of 32 x 32, no blur before, the mean's coefficient kept.
    """
    return int(phashes(grey64[None])[0])


def phashes(thumbs: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hash many images as `phash` does.

    Args:
        thumbs: (n, 64, 64) uint8, grey levels 0..255.

    Returns:
        (n,) uint64.

    Raises:
        ValueError: the array is not (n, 64, 64) uint8.
    """
    return _pack(_low_frequencies(thumbs))


def near_duplicates(thumbs: NDArray[np.uint8]) -> list[Pair]:
    """Find every pair of images that show the same picture, turned or mirrored or not.

    Every pair of hashes is compared, a block at a time: 8 * n * n / 2 popcounts (25,000 images: 3 s on one core,
    quadratic beyond), no n x n memory, and no worst case when many hashes collide (an index over hash bands
    degenerates there: centred lesions share most bands). Confirming costs 17 us a candidate, so a few thousand
    copies of one picture take minutes. Images below `MIN_CONTRAST` are never paired, since a correlation of
    rounding noise says nothing; if they are copies, their files' digests say so.

    Args:
        thumbs: (n, 64, 64) uint8, grey levels 0..255.

    Returns:
        At most one `Pair` for (i, j), in its best-correlated orientation, sorted by (i, j).

    Raises:
        ValueError: the array is not (n, 64, 64) uint8.
    """
    low = _low_frequencies(thumbs)
    hashes = _pack(low)
    usable = np.flatnonzero(_contrast(thumbs) >= MIN_CONTRAST)
    best: dict[tuple[int, int], Pair] = {}
    for orientation in range(ORIENTATIONS):
        turned = _pack(_orient_frequencies(low, orientation))
        for first, second, distance in _close(hashes[usable], turned[usable], MAX_HAMMING):
            for start in range(0, len(first), _CONFIRM_CHUNK):
                part = slice(start, start + _CONFIRM_CHUNK)
                rows, columns = usable[first[part]], usable[second[part]]
                correlation = _correlations(thumbs[rows], orient(thumbs[columns], orientation))
                for k in np.flatnonzero(correlation >= MIN_CORRELATION):
                    i, j, value = int(rows[k]), int(columns[k]), float(correlation[k])
                    if (i, j) not in best or best[i, j].correlation < value:
                        best[i, j] = Pair(i, j, int(distance[part][k]), value, orientation)
    return [best[key] for key in sorted(best)]


def connected_groups(count: int, pairs: Iterable[Pair]) -> NDArray[np.int64]:
    """Merge pairs that share an image into groups.

    Args:
        count: Number of images, >= 0.
        pairs: Pairs over rows 0..count-1, in any order.

    Returns:
        (count,) int64: the smallest row of each image's group; an image alone is its own group.
    """
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]  # halve the path, so that long chains stay cheap
            node = parent[node]
        return node

    for pair in pairs:
        a, b = sorted((root(pair.i), root(pair.j)))
        parent[b] = a
    return np.array([root(node) for node in range(count)], dtype=np.int64)


def _low_frequencies(thumbs: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the (n, 8, 8) lowest orthonormal DCT-II coefficients of (n, 64, 64) uint8."""
    if thumbs.ndim != 3 or thumbs.shape[1:] != (SIDE, SIDE) or thumbs.dtype != np.uint8:
        raise ValueError(f"thumbnails are {thumbs.shape} {thumbs.dtype}, must be (n, {SIDE}, {SIDE}) uint8")
    low = np.empty((len(thumbs), _LOW, _LOW))
    for start in range(0, len(thumbs), _HASH_CHUNK):
        part = slice(start, start + _HASH_CHUNK)
        low[part] = _BASIS @ thumbs[part].astype(np.float64) @ _BASIS.T
    return np.round(low, _DECIMALS)


def _orient_frequencies(low: NDArray[np.float64], orientation: int) -> NDArray[np.float64]:
    """Return the coefficients of `orient(image, orientation)`, given those of the image.

    Mirroring an axis changes the sign of its odd DCT-II waves and a transposition swaps the axes, both
    exactly; a quarter turn counter-clockwise is a transposition, then a mirroring of rows.
    """
    sign = np.where(np.arange(_LOW) % 2, -1.0, 1.0)
    turned = low * sign if orientation >= 4 else low
    for _ in range(orientation % 4):
        turned = turned.swapaxes(-2, -1) * sign[:, None]
    return turned


def _pack(low: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Compare (n, 8, 8) coefficients with their medians and pack the bits into (n,) uint64."""
    flat = low.reshape(len(low), _LOW * _LOW)
    bits = flat > np.median(flat, axis=1, keepdims=True)
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").reshape(-1).astype(np.uint64)


def _close(
    left: NDArray[np.uint64], right: NDArray[np.uint64], bound: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]]:
    """Yield blocks of (i, j, distance) with i < j and `left[i]`, `right[j]` within `bound` bits."""
    count = len(left)
    columns = min(max(count, 1), 1 << 12)
    rows = max(1, _DISTANCE_CHUNK // columns)
    for top in range(0, count, rows):
        for start in range(top - top % columns, count, columns):
            distance = np.bitwise_count(left[top : top + rows, None] ^ right[None, start : start + columns])
            flat = np.flatnonzero(distance <= bound)
            width = distance.shape[1]
            i, j = top + flat // width, start + flat % width
            keep = i < j
            if keep.any():
                yield i[keep], j[keep], distance.reshape(-1)[flat[keep]]


def _contrast(thumbs: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return each image's standard deviation, in grey levels."""
    parts = [thumbs[k : k + _HASH_CHUNK].std(axis=(1, 2)) for k in range(0, len(thumbs), _HASH_CHUNK)]
    return np.concatenate(parts) if parts else np.empty(0)


def _correlations(left: NDArray[np.generic], right: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return Pearson's correlation of (k, 64, 64) images row by row; images are not constant."""
    a = left.reshape(len(left), -1).astype(np.float32)
    b = right.reshape(len(right), -1).astype(np.float32)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    product = np.einsum("np,np->n", a, b)
    norms = np.einsum("np,np->n", a, a) * np.einsum("np,np->n", b, b)
    return np.minimum(product / np.sqrt(norms), np.float32(1.0))
