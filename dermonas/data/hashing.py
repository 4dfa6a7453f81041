"""Perceptual hashes of 64 x 64 grey thumbnails, in the eight orientations of the square."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

SIDE = 64
"""Height and width of a thumbnail, in pixels."""
ORIENTATIONS = 8
"""The symmetries of the square: four quarter turns, each plain or mirrored."""
MIN_CONTRAST = 1.0
"""Smallest standard deviation, in grey levels of 255, at which a correlation means anything: below it an
8-bit thumbnail holds rounding and JPEG noise only."""

_LOW = 8  # the hash reads the 8 x 8 lowest frequencies
_BASIS: NDArray[np.float64] = dct(np.eye(SIDE), axis=0, norm="ortho")[:_LOW]  # (8, 64): rows are DCT-II waves
_DECIMALS = 6  # coefficients closer than this are equal: hides rounding, so that flat images hash alike
_CHUNK = 1024  # images a time: 32 MB of float64


class Fingerprints(NamedTuple):
    """What the search for near-duplicates reads of every image; thumbnails are read for candidates only.

    Attributes:
        hashes: (8, n) uint64: of the image in each orientation (see `orient`); the first row is its `phash`.
        clear: (n,) bool: whether the contrast reaches `MIN_CONTRAST`.
    """

    hashes: NDArray[np.uint64]
    clear: NDArray[np.bool_]


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
    return int(fingerprints(grey64[None]).hashes[0, 0])


def fingerprints(thumbs: NDArray[np.uint8]) -> Fingerprints:
    """Hash many images, each in all orientations.

    Args:
        thumbs: (n, 64, 64) uint8, grey levels 0..255.

    Raises:
        ValueError: the array is not (n, 64, 64) uint8.
    """
    if thumbs.ndim != 3 or thumbs.shape[1:] != (SIDE, SIDE) or thumbs.dtype != np.uint8:
        raise ValueError(f"thumbnails are {thumbs.shape} {thumbs.dtype}, must be (n, {SIDE}, {SIDE}) uint8")
    hashes = np.empty((ORIENTATIONS, len(thumbs)), dtype=np.uint64)
    clear = np.empty(len(thumbs), dtype=bool)
    for start in range(0, len(thumbs), _CHUNK):
        part = slice(start, start + _CHUNK)
        low = low_frequencies(thumbs[part])
        for orientation in range(ORIENTATIONS):
            hashes[orientation, part] = _pack(orient_frequencies(low, orientation))
        clear[part] = thumbs[part].std(axis=(1, 2)) >= MIN_CONTRAST
    return Fingerprints(hashes, clear)


def low_frequencies(thumbs: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the (n, 8, 8) lowest orthonormal DCT-II coefficients of (n, 64, 64) uint8."""
    return np.round(_BASIS @ thumbs.astype(np.float64) @ _BASIS.T, _DECIMALS)


def orient_frequencies(low: NDArray[np.float64], orientation: int) -> NDArray[np.float64]:
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
