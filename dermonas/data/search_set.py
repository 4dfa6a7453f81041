"""Which images a search sees: DESIGN 3's rule by source.

A search never reads labels. Some rules draw the same number of each class, as the papers' subsets do;
that happens once, here, and the search itself is handed pixels only.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from dermonas.data.groups import mates
from dermonas.data.text import ascending
from dermonas.errors import DataError
from dermonas.seeding import numpy_generator

CIFAR_FRACTION = 0.10
"""Class-balanced share of CIFAR's train set. Source: CSNAS, 5,000 of 50,000 (spec/csnas.md 4.1)."""
IMAGENET_FRACTION = 0.01
"""Class-balanced share of ImageNet's train set. Source: spec/csnas.md 4.1 (12,811 images are 1 %)."""

_IMAGENET = re.compile(r"imagenet([-_0-9].*)?$", re.IGNORECASE)  # not imagenette, a subset of 1 % already


def default_fraction(source: str, dataset: str) -> float:
    """Return the share of the eligible images that a search sees when the recipe does not say."""
    if source == "cifar":
        return CIFAR_FRACTION
    return IMAGENET_FRACTION if _IMAGENET.match(dataset) else 1.0


def select_search_rows(
    frame: pd.DataFrame, *, source: str, dataset: str, fraction: float | None, seed: int
) -> pd.Series:
    """Choose the search set.

    The pool is the official search images where the source has any (ISIC's Test_Input: transductive), otherwise
    train rows and unlabelled rows; never a validation or test row, nor a group mate of one. A fraction counts
    from everything that is neither test nor official search image, so that CIFAR's 10 % is 5,000 of 50,000
    although validation was cut out before.

    Args:
        frame: Columns path, label, group, split, extra.
        source: "isic", "cifar", "folder" or "phantom".
        dataset: The data set's name; ImageNet is known by it.
        fraction: In (0, 1], or None for the source's default.
        seed: Seed of the draw.

    Returns:
        A boolean Series on the frame's index.

    Raises:
        DataError: no image is eligible.
    """
    held = frame["split"].isin(["validation", "test"])
    clean = ~mates(frame["group"], held)
    base = frame["extra"] if frame["extra"].any() else (frame["split"] != "test") & ~frame["extra"]
    trainable = (frame["split"] == "train") | (frame["label"].isna() & frame["split"].isna())
    pool = frame.loc[base & clean & (trainable | frame["extra"]), ["path", "label"]]
    if not ascending(pool["path"]):
        pool = pool.sort_values("path")
    if pool.empty:
        raise DataError("no image is left for the search: every one is held out or repeats a held-out image")
    share = default_fraction(source, dataset) if fraction is None else fraction
    count = min(len(pool), max(1, round(share * int(base.sum())))) if share < 1 else len(pool)
    balanced = (source == "cifar" or _IMAGENET.match(dataset) is not None) and pool["label"].notna().all()
    generator = numpy_generator(seed, "search set")
    chosen = _balanced(pool["label"].to_numpy(), count, generator) if balanced else generator.permutation(len(pool))
    selected = pd.Series(False, index=frame.index)
    selected[pool.index[chosen[:count]]] = True
    return selected


def _balanced(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Order rows so that the first `count` hold each class equally often, as far as its images reach."""
    shuffled = generator.permutation(len(labels))
    turn = pd.Series(labels[shuffled]).groupby(labels[shuffled]).cumcount().to_numpy()
    # Round after round, one image of each class; within a round in shuffled order.
    return shuffled[np.argsort(turn, kind="stable")][:count]
