"""NAS-Bench-201's space: classes against an independent construction and against the published table."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermonas.errors import GenotypeError
from dermonas.space.nasbench201 import (
    EDGES,
    OPERATIONS,
    NasBench201Space,
    architecture,
    expression,
    theta_of,
)

SPACE = NasBench201Space()
TABLE = (
    Path(os.environ.get("DERMONAS_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
    / "nb201"
    / "nasbench201_tss.csv.gz"
)
FUNCTIONS = 4930  # distinct functions where every operation maps zero to zero
EVERY = list(itertools.product(range(5), repeat=6))


def computed(theta: tuple[int, ...], seed: int) -> int:
    """The cell over a prime field, with a random odd polynomial for each operation: what it computes, up to luck."""
    prime = (1 << 61) - 1
    rng = np.random.default_rng(seed)
    a, b = rng.integers(1, prime, size=(2, len(OPERATIONS))).tolist()
    nodes = [int(rng.integers(1, prime)), 0, 0, 0]
    for (source, target), choice in zip(EDGES, theta, strict=True):
        x = nodes[source]
        nodes[target] += 0 if choice == 0 else x if choice == 1 else a[choice] * x**3 + b[choice] * x
        nodes[target] %= prime
    return nodes[3]


@pytest.mark.parametrize(
    ("arch", "text"),
    [
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", "#+#+#"),
        ("|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|none~1|skip_connect~2|", "#+#+0+(0)@nor_conv_3x3"),
        # A node of zeros is not recognised as zero: the limit of the published rule.
        ("|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_1x1~2|", "#+#+(#+#)@nor_conv_1x1"),
        (
            "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
            "(0)@avg_pool_3x3+(0)@avg_pool_3x3+(0)@nor_conv_1x1+(0)@nor_conv_1x1",
        ),
    ],
)
def test_expressions_written_by_hand(arch, text):
    assert expression(theta_of(arch)) == text


def test_there_are_6466_classes_and_the_canonical_is_the_first_of_its_class():
    first: dict[str, tuple[int, ...]] = {}
    for theta in EVERY:
        first.setdefault(SPACE.digest(theta), theta)
    assert len(first) == 6466
    assert all(SPACE.canonical(theta) == first[SPACE.digest(theta)] for theta in EVERY)
    assert SPACE.representatives() == tuple(sorted(first.values()))


def test_one_class_computes_one_function():
    pairs = {(SPACE.digest(theta), computed(theta, 0)) for theta in EVERY}
    assert len(pairs) == 6466
    # The published rule is finer than function: it keeps zero summands and the order of joined sums.
    assert len({value for _, value in pairs}) == FUNCTIONS


def test_architecture_strings_go_both_ways():
    assert {architecture(theta) for theta in EVERY}.__len__() == len(EVERY)
    assert all(theta_of(architecture(theta)) == theta for theta in EVERY[::37])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|none~0|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|blur~2|",
        "|none~0|+|none~1|none~0|+|none~0|none~1|none~2|",
    ],
)
def test_a_string_that_is_no_cell_is_quoted(text):
    with pytest.raises(GenotypeError, match="is no NAS-Bench-201 cell") as caught:
        theta_of(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("theta", [(0,) * 5, (0, 0, 0, 0, 0, 5), (0, -1, 0, 0, 0, 0), (0.0,) * 6])
def test_a_theta_that_does_not_fit_is_refused(theta):
    for call in (SPACE.canonical, SPACE.digest, SPACE.neighbours, architecture):
        with pytest.raises(GenotypeError, match="nasbench201: theta"):
            call(theta)


def test_neighbours_are_the_classes_one_operation_away():
    expected: dict[str, set[str]] = {}
    for theta in EVERY:
        here = SPACE.digest(theta)
        for position, choice in itertools.product(range(6), range(5)):
            there = SPACE.digest((*theta[:position], choice, *theta[position + 1 :]))
            if there != here:
                expected.setdefault(here, set()).add(there)
    for theta in SPACE.representatives():
        found = list(SPACE.neighbours(theta))
        assert found == sorted(found)
        assert all(SPACE.canonical(other) == other for other in found)
        assert {SPACE.digest(other) for other in found} == expected[SPACE.digest(theta)]
        assert len(found) == len(expected[SPACE.digest(theta)])


def test_the_prior_is_uniform_over_choices():
    rng = np.random.default_rng(0)
    drawn = np.array([SPACE.sample(rng) for _ in range(4000)])
    counts = np.stack([np.bincount(column, minlength=len(OPERATIONS)) for column in drawn.T])
    assert (np.abs(counts - 800) < 5 * np.sqrt(4000 * 0.2 * 0.8)).all()


def test_the_classes_are_the_published_ones():
    if not TABLE.is_file():
        pytest.skip(f"{TABLE} is not on this machine")
    frame = pd.read_csv(TABLE)
    thetas = [theta_of(text) for text in frame["arch"]]
    assert sorted(thetas) == EVERY
    assert [expression(theta) for theta in thetas] == frame["unique"].tolist()
    assert frame["unique"].nunique() == 6466
