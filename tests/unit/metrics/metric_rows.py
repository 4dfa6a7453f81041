"""Rows to score: random ones with and without ties, and hypothesis strategies for them."""

import numpy as np
from hypothesis import strategies as st

from dermonas.seeding import numpy_generator

ISIC = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")


def random_rows(n: int, classes: int, seed: int, skill: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels that hold every class and probabilities that know something of them."""
    rng = numpy_generator(seed, "rows", n, classes)
    labels = np.r_[np.arange(classes), rng.integers(0, classes, n - classes)]
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += skill
    return labels, softmax(logits)


def tied_rows(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same with scores of few levels, so that most comparisons are ties."""
    labels, probabilities = random_rows(n, classes, seed)
    coarse = np.floor(probabilities * 6) + 1
    return labels, coarse / coarse.sum(axis=1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def repeat(weights: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    """Rows as often as their weights say."""
    return [np.repeat(array, weights.astype(int), axis=0) for array in arrays]


@st.composite
def rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Few rows, few classes, many ties; classes may be absent."""
    classes = draw(st.integers(2, 4))
    n = draw(st.integers(1, 12))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    levels = draw(st.lists(st.lists(st.integers(1, 5), min_size=classes, max_size=classes), min_size=n, max_size=n))
    scores = np.array(levels, dtype=np.float64)
    return np.array(labels), scores / scores.sum(axis=1, keepdims=True)
