"""Perceptual hashes equal their definition, in every orientation."""

import numpy as np
import pytest

from dermonas.data.hashing import (
    ORIENTATIONS,
    SIDE,
    fingerprints,
    low_frequencies,
    orient,
    orient_frequencies,
    phash,
)
from dermonas.seeding import numpy_generator


def noise(count: int) -> np.ndarray:
    return numpy_generator(0, "noise").integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)


def test_orientations_are_the_eight_symmetries():
    image = np.arange(16).reshape(4, 4)
    assert len({orient(image, k).tobytes() for k in range(ORIENTATIONS)}) == 8
    for bad in (-1, 8):
        with pytest.raises(ValueError, match="must be in"):
            orient(image, bad)


def test_frequencies_turn_as_pixels_do():
    thumbs = noise(5)
    low = low_frequencies(thumbs)
    for k in range(ORIENTATIONS):
        turned = np.ascontiguousarray(orient(thumbs, k))
        np.testing.assert_allclose(orient_frequencies(low, k), low_frequencies(turned), atol=1e-5)


def test_hash_equals_the_definition():
    """Against a DCT-II written out as its sum, and the bit order of the docstring."""
    (image,) = noise(1)
    n = np.arange(SIDE)
    waves = np.array([np.cos(np.pi * (2 * n + 1) * k / (2 * SIDE)) * np.sqrt((2 if k else 1) / SIDE) for k in range(8)])
    block = (waves @ image.astype(float) @ waves.T).reshape(-1)
    assert phash(image) == sum(1 << bit for bit in range(64) if block[bit] > np.median(block))


def test_fingerprints_are_the_hashes_of_the_turned_images():
    thumbs = noise(9)
    prints = fingerprints(thumbs)
    for k in range(ORIENTATIONS):
        turned = np.ascontiguousarray(orient(thumbs, k))
        assert prints.hashes[k].tolist() == [phash(thumb) for thumb in turned]
    assert prints.clear.all()


@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_constant_images_hash_alike_and_are_not_clear(level):
    flat = np.full((SIDE, SIDE), level, dtype=np.uint8)
    assert phash(flat) == int(level > 0)
    assert not fingerprints(flat[None]).clear.any()


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 32, 32), np.uint8), np.zeros((2, SIDE, SIDE)), np.zeros((SIDE, SIDE), np.uint8)]
)
def test_wrong_arrays_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        fingerprints(wrong)
