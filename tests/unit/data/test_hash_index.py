"""The index finds exactly what comparing all with all finds."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermonas.data import hash_index
from dermonas.data.hash_index import MAX_HAMMING, QUADS, WIDTHS, Close, Crowd, close_pairs, compared
from dermonas.seeding import numpy_generator

Found = set[tuple[int, int, int, int]]


def brute_force(hashes: np.ndarray) -> Found:
    """(i, j, orientation, distance), by one line of arithmetic."""
    found = set()
    for orientation, turned in enumerate(hashes):
        distance = np.bitwise_count(hashes[0][:, None] ^ turned[None])
        for i, j in zip(*np.nonzero(np.triu(distance <= MAX_HAMMING, 1)), strict=True):
            found.add((int(i), int(j), orientation, int(distance[i, j])))
    return found


def rows_of(close: Close) -> Found:
    return {(int(i), int(j), close.orientation, int(d)) for i, j, d in zip(*close[:3], strict=True)}


def planted(seed: int, count: int, orientations: int = 3) -> np.ndarray:
    """Random hashes, a third of them copies of another in some orientation with up to 8 bits turned."""
    rng = numpy_generator(seed, "hashes")
    hashes = rng.integers(0, 2**64, (orientations, count), dtype=np.uint64)
    for _ in range(count // 3):
        i, j = rng.integers(count, size=2)
        flips = sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, 9), replace=False))
        hashes[rng.integers(orientations), j] = hashes[0, i] ^ np.uint64(flips)
    return hashes


def test_blocks_are_the_64_bits():
    assert sum(WIDTHS) == 64
    assert {sum(WIDTHS[block] for block in quad) for quad in QUADS} <= {20, 21, 22}


def test_any_six_blocks_contain_a_quad():
    assert len(QUADS) == len({frozenset(quad) for quad in QUADS}) == 66
    assert all(len(set(quad)) == 4 for quad in QUADS)
    for six in itertools.combinations(range(12), 6):
        assert any(set(quad) <= set(six) for quad in QUADS), six


@pytest.mark.parametrize("small", [0, 10_000])
def test_index_equals_brute_force(small, monkeypatch):
    monkeypatch.setattr(hash_index, "_SMALL", small)
    monkeypatch.setattr(hash_index, "_CHUNK", 64)
    hashes = planted(0, 600)
    chunks = list(close_pairs(hashes))
    found = [rows_of(chunk) for chunk in chunks]
    assert len(set.union(*found)) == sum(len(part) for part in found)  # each once
    expected = brute_force(hashes)
    assert {distance for *_, distance in expected} == set(range(MAX_HAMMING + 1))
    assert set.union(*found) == expected


@pytest.mark.parametrize("seed", range(2))
def test_index_equals_brute_force_where_many_hashes_are_alike(seed, monkeypatch):
    """A few centres, everything a few bits away: keys of many rows, copies, distances around the bound."""
    monkeypatch.setattr(hash_index, "_SMALL", 0)
    monkeypatch.setattr(hash_index, "_CHUNK", 1000)
    rng = numpy_generator(seed, "alike")
    centres = rng.integers(0, 2**64, 5, dtype=np.uint64)
    flips = np.array([[sum(1 << int(bit) for bit in rng.choice(64, k % 6, replace=False)) for k in range(200)]] * 2)
    hashes = centres[rng.integers(5, size=(2, 200))] ^ flips.astype(np.uint64)
    found = [rows_of(chunk) for chunk in close_pairs(hashes)]
    assert sum(len(part) for part in found) == len(set.union(*found))
    assert set.union(*found) == brute_force(hashes)


def test_crowds_hold_what_is_left_out(monkeypatch):
    monkeypatch.setattr(hash_index, "_SMALL", 0)
    monkeypatch.setattr(hash_index, "CROWD", 400)
    hashes = planted(1, 300)
    hashes[0, :60] = hashes[0, 0]
    hashes[1, 40:90] = hashes[0, 0] ^ np.uint64(3)
    found, crowds = set(), 0
    for part in close_pairs(hashes):
        if isinstance(part, Crowd):
            crowds += 1
            assert len(part.left) * len(part.right) > 400
            for close in compared(hashes, part):
                found |= rows_of(close)
        else:
            found |= rows_of(part)
    assert crowds
    assert found == brute_force(hashes)


@settings(max_examples=60, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12),
    flips=st.lists(st.tuples(st.integers(0, 11), st.sets(st.integers(0, 63), max_size=9)), max_size=60),
)
def test_comparing_outright_equals_brute_force(seeds, flips):
    hashes = seeds + [seeds[at % len(seeds)] ^ sum(1 << bit for bit in bits) for at, bits in flips]
    array = np.array([hashes, hashes[::-1]], dtype=np.uint64)
    assert set().union(*(rows_of(close) for close in close_pairs(array))) == brute_force(array)


def test_no_hashes_are_no_pairs():
    assert list(close_pairs(np.empty((8, 0), dtype=np.uint64))) == []
