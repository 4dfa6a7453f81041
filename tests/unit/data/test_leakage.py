"""The leakage audit finds copies, keeps look-alikes apart, and agrees with slow references."""

import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import idctn

from dermonas.data.leakage import (
    MAX_HAMMING,
    MIN_CORRELATION,
    ORIENTATIONS,
    SIDE,
    Pair,
    _close,
    _low_frequencies,
    _orient_frequencies,
    connected_groups,
    near_duplicates,
    orient,
    phash,
    phashes,
)
from dermonas.data.phantom_render import photograph
from dermonas.seeding import numpy_generator

LABELS = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")


def thumbnail(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


@pytest.fixture(scope="module")
def originals() -> list[Image.Image]:
    return [Image.fromarray(photograph(11, k, 0, LABELS[k % 8], 112)) for k in range(16)]


@pytest.mark.parametrize(
    ("copy", "orientation"),
    [
        (lambda image: image.resize((77, 77), Image.Resampling.BILINEAR), 0),
        (lambda image: image.resize((230, 230), Image.Resampling.BICUBIC), 0),
        (lambda image: recompressed(image, 40), 0),
        (lambda image: Image.eval(image, lambda level: min(255, int(level * 0.85 + 8))), 0),
        (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 4),
        (lambda image: recompressed(image.transpose(Image.Transpose.ROTATE_90).resize((90, 90)), 60), 3),
        (lambda image: recompressed(image.transpose(Image.Transpose.TRANSPOSE), 60), 5),
    ],
    ids=["smaller", "larger", "recompressed", "darker", "mirrored", "rotated and smaller", "transposed"],
)
def test_planted_copies_are_found_and_nothing_else(originals, copy, orientation):
    planted = [3, 8, 9, 12, 15]
    images = originals + [copy(originals[k]) for k in planted]
    pairs = near_duplicates(np.stack([thumbnail(image) for image in images]))
    assert [(pair.i, pair.j) for pair in pairs] == [(k, len(originals) + at) for at, k in enumerate(planted)]
    for pair in pairs:
        assert pair.orientation == orientation
        assert 0 <= pair.hamming <= MAX_HAMMING
        assert MIN_CORRELATION <= pair.correlation <= 1.0


def test_every_orientation_is_recognised_and_named(originals):
    first = thumbnail(originals[0])
    for orientation in range(ORIENTATIONS):
        thumbs = np.stack([orient(first, orientation), first])
        assert near_duplicates(thumbs) == [Pair(0, 1, 0, pytest.approx(1.0), orientation)]


def test_orientations_are_the_eight_symmetries():
    image = np.arange(16).reshape(4, 4)
    assert len({orient(image, k).tobytes() for k in range(ORIENTATIONS)}) == 8
    for bad in (-1, 8):
        with pytest.raises(ValueError, match="must be in"):
            orient(image, bad)


def test_frequencies_turn_as_pixels_do():
    thumbs = numpy_generator(0, "noise").integers(0, 256, (5, SIDE, SIDE), dtype=np.uint8)
    low = _low_frequencies(thumbs)
    for k in range(ORIENTATIONS):
        turned = np.ascontiguousarray(orient(thumbs, k))
        np.testing.assert_allclose(_orient_frequencies(low, k), _low_frequencies(turned), atol=1e-5)


def test_hash_equals_the_definition():
    """Against a DCT-II written out as its sum, and the bit order of the docstring."""
    image = numpy_generator(1, "noise").integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    n = np.arange(SIDE)
    waves = np.array([np.cos(np.pi * (2 * n + 1) * k / (2 * SIDE)) * np.sqrt((2 if k else 1) / SIDE) for k in range(8)])
    block = (waves @ image.astype(float) @ waves.T).reshape(-1)
    assert phash(image) == sum(1 << bit for bit in range(64) if block[bit] > np.median(block))


def test_one_hash_equals_many(originals):
    thumbs = np.stack([thumbnail(image) for image in originals])
    assert phashes(thumbs).tolist() == [phash(thumb) for thumb in thumbs]


@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_constant_images_hash_alike_and_are_never_paired(level):
    flat = np.full((SIDE, SIDE), level, dtype=np.uint8)
    assert phash(flat) == int(level > 0)
    assert near_duplicates(np.stack([flat, flat, flat])) == []


def test_images_of_rounding_noise_are_never_paired():
    faint = np.full((SIDE, SIDE), 90, dtype=np.uint8)
    faint[:, SIDE // 2 :] = 91
    assert near_duplicates(np.stack([faint, faint])) == []
    clear = np.where(faint == 91, 99, 90).astype(np.uint8)
    assert len(near_duplicates(np.stack([clear, clear]))) == 1


def test_close_hashes_without_correlation_are_no_pair():
    """Two images may agree in every sign of their low frequencies and still differ in what matters."""
    rng = numpy_generator(2, "noise")
    waves = rng.normal(0.0, 1.0, (2, SIDE, SIDE))
    waves[:, :8, :8] = 40.0 * waves[0, :8, :8]
    waves[:, 8:, 8:] *= 14.0
    waves[:, 0, 0] = 128.0 * SIDE
    thumbs = np.clip(np.round(idctn(waves, axes=(1, 2), norm="ortho")), 0, 255).astype(np.uint8)
    assert (phash(thumbs[0]) ^ phash(thumbs[1])).bit_count() <= MAX_HAMMING
    assert near_duplicates(thumbs) == []


@settings(max_examples=60, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12),
    flips=st.lists(st.tuples(st.integers(0, 11), st.sets(st.integers(0, 63), max_size=9)), max_size=60),
    bound=st.integers(0, 12),
)
def test_blocked_search_equals_brute_force(seeds, flips, bound):
    hashes = seeds + [seeds[at % len(seeds)] ^ sum(1 << bit for bit in bits) for at, bits in flips]
    array = np.array(hashes, dtype=np.uint64)
    other = array[::-1].copy()
    found = {(int(i), int(j), int(d)) for block in _close(array, other, bound) for i, j, d in zip(*block, strict=True)}
    expected = {
        (i, j, (hashes[i] ^ hashes[-1 - j]).bit_count())
        for i, j in itertools.combinations(range(len(hashes)), 2)
        if (hashes[i] ^ hashes[-1 - j]).bit_count() <= bound
    }
    assert found == expected


def test_blocks_meet_without_gap_or_overlap():
    """More hashes than one block is wide, all colliding in part: every pair once."""
    count = 4500
    hashes = numpy_generator(3, "hashes").integers(0, 60, count).astype(np.uint64)
    found = np.concatenate([i * count + j for i, j, _ in _close(hashes, hashes, 0)])
    first, second = np.nonzero(np.triu(hashes[:, None] == hashes[None], 1))
    np.testing.assert_array_equal(np.sort(found), first * count + second)


def test_many_equal_images_all_pair(originals):
    thumbs = np.repeat(thumbnail(originals[1])[None], 70, axis=0)
    pairs = near_duplicates(thumbs)
    assert len(pairs) == 70 * 69 // 2
    assert set(connected_groups(70, pairs)) == {0}


def test_groups_join_chains_in_any_order():
    pairs = [Pair(4, 5, 0, 1.0, 0), Pair(1, 2, 0, 1.0, 0), Pair(2, 4, 0, 1.0, 0)]
    for order in itertools.permutations(pairs):
        assert connected_groups(7, order).tolist() == [0, 1, 1, 3, 1, 1, 6]
    assert connected_groups(0, []).tolist() == []


def test_no_images_are_no_pairs():
    assert near_duplicates(np.empty((0, SIDE, SIDE), dtype=np.uint8)) == []


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 32, 32), np.uint8), np.zeros((2, SIDE, SIDE)), np.zeros((SIDE, SIDE), np.uint8)]
)
def test_wrong_arrays_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        near_duplicates(wrong)
