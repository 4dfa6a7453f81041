"""The leakage audit finds copies, keeps look-alikes apart, and agrees with slow references."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.fft import idctn

from dermonas.data import hash_index, leakage
from dermonas.data.groups import merge_groups
from dermonas.data.hash_index import MAX_HAMMING
from dermonas.data.hashing import MIN_CONTRAST, ORIENTATIONS, SIDE, fingerprints, orient, phash
from dermonas.data.leakage import MIN_CORRELATION, Pair, Pairs, near_duplicates
from dermonas.data.phantom_render import photograph
from dermonas.seeding import numpy_generator

LABELS = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")


def search(thumbs: np.ndarray) -> Pairs:
    return near_duplicates(fingerprints(thumbs), lambda rows: thumbs[rows])


def groups(count: int, pairs: Pairs) -> list[str]:
    names = [f"{row:05d}" for row in range(count)]
    return merge_groups(names, [None] * count, names, pairs).tolist()


def all_pairs(thumbs: np.ndarray) -> dict[tuple[int, int], Pair]:
    """Every pair and orientation, by numpy's own correlation."""
    hashes = fingerprints(thumbs).hashes
    best: dict[tuple[int, int], Pair] = {}
    for i in range(len(thumbs)):
        for j in range(i + 1, len(thumbs)):
            if min(thumbs[i].std(), thumbs[j].std()) < MIN_CONTRAST:
                continue
            for k in range(ORIENTATIONS):
                distance = int(hashes[0, i] ^ hashes[k, j]).bit_count()
                if distance > MAX_HAMMING:
                    continue
                value = float(np.corrcoef(thumbs[i].ravel(), orient(thumbs[j], k).ravel())[0, 1])
                if value >= MIN_CORRELATION and ((i, j) not in best or best[i, j].correlation < value):
                    best[i, j] = Pair(i, j, distance, value, k)
    return best


def thumbnail(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


@pytest.fixture(scope="module")
def originals() -> list[Image.Image]:
    return [Image.fromarray(photograph(11, k, 0, LABELS[k % 8], 112)) for k in range(16)]


def varied(originals: list[Image.Image], seed: int, count: int) -> np.ndarray:
    """Thumbnails of photographs, turned and noisy: copies on both sides of either bound."""
    rng = numpy_generator(seed, "varied")
    thumbs = np.stack([thumbnail(image) for image in originals])[rng.integers(len(originals), size=count)]
    turned = np.stack([orient(thumb, int(rng.integers(ORIENTATIONS))) for thumb in thumbs]).astype(float)
    spread = turned.std(axis=(1, 2), keepdims=True) * rng.choice([0.0, 0.02, 0.1, 0.3], size=(count, 1, 1))
    return np.clip(turned + spread * rng.normal(size=turned.shape), 0, 255).astype(np.uint8)


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
    pairs = list(search(np.stack([thumbnail(image) for image in images])))
    assert [(pair.i, pair.j) for pair in pairs] == [(k, len(originals) + at) for at, k in enumerate(planted)]
    for pair in pairs:
        assert pair.orientation == orientation
        assert 0 <= pair.hamming <= MAX_HAMMING
        assert MIN_CORRELATION <= pair.correlation <= 1.0


def test_every_orientation_is_recognised_and_named(originals):
    first = thumbnail(originals[0])
    for orientation in range(ORIENTATIONS):
        thumbs = np.stack([orient(first, orientation), first])
        assert list(search(thumbs)) == [Pair(0, 1, 0, pytest.approx(1.0), orientation)]


@pytest.mark.parametrize("small", [0, 1000])
def test_pairs_are_those_of_all_with_all(originals, small, monkeypatch):
    monkeypatch.setattr(hash_index, "_SMALL", small)
    thumbs = varied(originals, 0, 120)
    pairs, expected = search(thumbs), all_pairs(thumbs)
    assert pairs.complete
    assert pairs.unsettled == 0
    assert [(pair.i, pair.j) for pair in pairs] == sorted(expected)
    for pair in pairs:
        known = expected[pair.i, pair.j]
        assert pair == Pair(pair.i, pair.j, known.hamming, pytest.approx(known.correlation, abs=1e-5), pair.orientation)
        assert pair.orientation == known.orientation


@pytest.mark.parametrize("setting", ["crowds", "one by one", "listed"])
def test_groups_stay_the_same_where_pairs_are_left_out(originals, setting, monkeypatch):
    thumbs = varied(originals[:4], 1, 150)
    plain = search(thumbs)
    expected = groups(150, plain)
    if setting == "listed":
        monkeypatch.setattr(leakage, "LISTED", 20)
        monkeypatch.setattr(leakage, "_CONFIRM_CHUNK", 8)
    else:
        monkeypatch.setattr(hash_index, "_SMALL", 0)
        monkeypatch.setattr(hash_index, "CROWD", 50)
    if setting == "one by one":
        monkeypatch.setattr(leakage, "_COMPARED", 0)
        monkeypatch.setattr(leakage, "_REPRESENTATIVES", 1000)
    pairs = search(thumbs)
    assert not pairs.complete
    assert len(pairs) < len(plain)
    assert pairs.unsettled == 0
    assert groups(150, pairs) == expected
    assert {*pairs.i, *pairs.j} == {*plain.i, *plain.j}
    assert {(pair.i, pair.j) for pair in pairs} <= {(pair.i, pair.j) for pair in plain}


def test_many_copies_cost_little_more_than_one_each(originals):
    """12,000 equal images are 72 million pairs; each is read a bounded number of times."""
    (thumb,), count, read = [thumbnail(originals[1])], 12_000, 0
    prints = fingerprints(thumb[None])
    many = prints._replace(hashes=np.repeat(prints.hashes, count, axis=1), clear=np.repeat(prints.clear, count))

    def reader(rows: np.ndarray) -> np.ndarray:
        nonlocal read
        read += len(rows)
        return np.broadcast_to(thumb, (len(rows), SIDE, SIDE))

    pairs = near_duplicates(many, reader)
    assert set(groups(count, pairs)) == {"00000"}
    assert count - 1 <= len(pairs) < 2 * count
    assert read < 8 * count
    assert not pairs.complete
    assert pairs.unsettled == 0


def test_a_crowd_of_strangers_is_given_up_and_counted(monkeypatch):
    """One hash, no two images alike: representatives only, once for all keys."""
    monkeypatch.setattr(hash_index, "_SMALL", 0)
    monkeypatch.setattr(hash_index, "CROWD", 1000)
    monkeypatch.setattr(leakage, "_CANDIDATES", 100)
    noise = numpy_generator(5, "strangers").integers(0, 256, (60, SIDE, SIDE), dtype=np.uint8)
    prints = fingerprints(noise)
    alike = prints._replace(hashes=np.repeat(prints.hashes[:, :1], 60, axis=1))
    pairs = near_duplicates(alike, lambda rows: noise[rows])
    assert len(pairs) == 0
    assert not pairs.complete
    assert pairs.unsettled == 60 - leakage._REPRESENTATIVES


def test_images_of_rounding_noise_are_never_paired():
    flat = np.full((SIDE, SIDE), 90, dtype=np.uint8)
    assert len(search(np.stack([flat, flat, flat]))) == 0
    faint = flat.copy()
    faint[:, SIDE // 2 :] = 91
    assert len(search(np.stack([faint, faint]))) == 0
    clear = np.where(faint == 91, 99, 90).astype(np.uint8)
    assert len(search(np.stack([clear, clear]))) == 1


def test_rows_are_those_of_the_caller_beside_blank_images(originals):
    thumbs = np.stack([np.zeros((SIDE, SIDE), np.uint8), thumbnail(originals[0])] * 2)
    assert [(pair.i, pair.j) for pair in search(thumbs)] == [(1, 3)]


def test_close_hashes_without_correlation_are_no_pair():
    """Two images may agree in every sign of their low frequencies and still differ in what matters."""
    rng = numpy_generator(2, "noise")
    waves = rng.normal(0.0, 1.0, (2, SIDE, SIDE))
    waves[:, :8, :8] = 40.0 * waves[0, :8, :8]
    waves[:, 8:, 8:] *= 14.0
    waves[:, 0, 0] = 128.0 * SIDE
    thumbs = np.clip(np.round(idctn(waves, axes=(1, 2), norm="ortho")), 0, 255).astype(np.uint8)
    assert (phash(thumbs[0]) ^ phash(thumbs[1])).bit_count() <= MAX_HAMMING
    assert len(search(thumbs)) == 0


def test_no_images_are_no_pairs():
    assert list(search(np.empty((0, SIDE, SIDE), dtype=np.uint8))) == []
