"""Cut a labelled data set into train, validation and test, whole groups at a time.

Two photographs of one lesion on both sides of a split make a model look better than it is. The papers
split images, not lesions; that split is here by the name "paper" and its manifest is marked ungrouped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dermonas.data.manifest import SPLITS
from dermonas.errors import DataError
from dermonas.seeding import numpy_generator

DEFAULT_SIZES = (0.80, 0.05, 0.15)
"""Fractions of train, validation and test. Source: DESIGN 6, the papers' sizes rounded."""

PAPER_SIZES = (20265, 1290, 3776)
"""Images of train, validation and test out of 25,331. Source: DermoCSNAS, spec/csnas.md 6."""


def split_counts(total: int, sizes: Sequence[float]) -> tuple[int, int, int]:
    """Turn fractions or counts into counts that sum to `total`.

    Args:
        total: Rows to split.
        sizes: Train, validation, test: fractions that sum to 1 (within 0.001), or whole numbers that sum to `total`.

    Raises:
        DataError: neither holds.
    """
    if abs(sum(sizes) - 1.0) <= 1e-3:
        validation, test = (round(total * size) for size in sizes[1:])
        return total - validation - test, validation, test
    counts = tuple(int(size) for size in sizes)
    if sum(counts) != total:
        raise DataError(
            f"split_sizes {counts} sum to {sum(counts)}, but {total} labelled images are usable: "
            "give fractions that sum to 1"
        )
    return counts[0], counts[1], counts[2]


def split_rows(
    paths: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    counts: tuple[int, int, int],
    seed: int,
) -> np.ndarray:
    """Assign labelled rows to splits, stratified by label, no group on two sides.

    Each class gets its share of validation and test (largest remainder; at least one where it has three groups).
    Within a class, groups of several images are dealt first, in random order, each to the split that lacks most
    relative to its share; single images then fill up exactly. So multi-image lesions spread over all three splits.

    Args:
        paths: (n,) unique, give rows an order that does not depend on how they arrive.
        labels: (n,) class names. A group with several takes the commonest.
        groups: (n,) group names; pass `paths` for an ungrouped split.
        counts: Rows of train, validation, test, sum n.
        seed: Same seed and rows, same split.

    Returns:
        (n,) object array of "train", "validation", "test", in the order of the arguments.
    """
    frame = pd.DataFrame({"path": list(paths), "label": list(labels), "group": list(groups)})
    grouped = frame.groupby("group", sort=True)
    table = pd.DataFrame({"size": grouped.size(), "key": grouped["path"].min(), "label": _commonest_labels(frame)})
    table = table.sort_values("key")
    strata = {str(label): part for label, part in table.groupby("label", sort=True)}
    images = {label: int(part["size"].sum()) for label, part in strata.items()}
    eligible = {label: len(part) >= len(SPLITS) for label, part in strata.items()}
    validation = _shares(images, counts[1], eligible)
    test = _shares({label: images[label] - validation[label] for label in images}, counts[2], eligible)
    chosen: dict[str, str] = {}
    for label, part in strata.items():
        targets = np.array([images[label] - validation[label] - test[label], validation[label], test[label]])
        order = numpy_generator(seed, "split", str(label)).permutation(len(part))
        chosen.update(_deal(part.index.to_numpy()[order], part["size"].to_numpy()[order], targets))
    return np.array([chosen[group] for group in groups], dtype=object)


def _commonest_labels(frame: pd.DataFrame) -> pd.Series:
    """Return each group's commonest label, by group; the first in the alphabet among equals."""
    counts = frame.groupby(["group", "label"], sort=True).size().reset_index(name="count")
    ranked = counts.sort_values(["group", "count", "label"], ascending=[True, False, True])
    return ranked.drop_duplicates("group").set_index("group")["label"]


def _shares(images: dict[str, int], total: int, eligible: dict[str, bool]) -> dict[str, int]:
    """Divide `total` over classes in proportion to their images, by largest remainder."""
    everything = sum(images.values())
    if not everything or not total:
        return dict.fromkeys(images, 0)
    quota = {label: total * count / everything for label, count in images.items()}
    shares = {label: int(value) for label, value in quota.items()}
    if total >= sum(eligible.values()):
        shares = {label: max(value, int(eligible[label])) for label, value in shares.items()}
    while sum(shares.values()) < total:
        label = max(shares, key=lambda name: (quota[name] - shares[name], name))
        shares[label] += 1
    while sum(shares.values()) > total:  # the ones granted above, taken back where they weigh least
        label = max((name for name in shares if shares[name] > 1), key=lambda name: (shares[name] - quota[name], name))
        shares[label] -= 1
    return shares


def _deal(names: np.ndarray, sizes: np.ndarray, targets: np.ndarray) -> dict[str, str]:
    """Deal shuffled groups of one class to the three splits."""
    left = targets.astype(np.int64).copy()
    share = np.maximum(targets, 1)
    chosen: dict[str, str] = {}
    several = sizes > 1
    for index in [*np.flatnonzero(several), *np.flatnonzero(~several)]:
        fits = left >= sizes[index]
        # A group that fits nowhere goes to train, where an excess distorts least.
        split = int(np.where(fits, left / share, -1.0).argmax()) if fits.any() else 0
        left[split] -= sizes[index]
        chosen[str(names[index])] = SPLITS[split]
    return chosen


def assign_splits(
    frame: pd.DataFrame, *, grouped: bool, sizes: Sequence[float], seed: int
) -> tuple[pd.Series, dict[str, int]]:
    """Assign every row of a listing to a split.

    An official test set stays the test set and an official validation set beside it stays validation; otherwise
    validation is cut from train, in the proportion of the first two sizes. Train rows that share a group
    with an official held-out row are set aside (split None): the official set is the fixed one.

    Args:
        frame: Columns path, label, group, official, extra (see `sources.listing.Listing`).
        grouped: False for the papers' split by image.
        sizes: Train, validation, test; see `split_counts`.
        seed: Seed of the deal.

    Returns:
        An object Series of split names or None on the frame's index, and counts {"set_aside": rows}.

    Raises:
        DataError: sizes and rows do not fit.
    """
    split = pd.Series([None] * len(frame), index=frame.index, dtype=object)
    usable = frame["label"].notna() & ~frame["extra"]
    held = usable & frame["official"].isin(["validation", "test"])
    split[held] = frame.loc[held, "official"]
    pool = usable & ~held
    set_aside = pool & frame["group"].isin(frame.loc[held, "group"]) if grouped else pool & False
    pool &= ~set_aside
    if not pool.any():
        return split, {"set_aside": int(set_aside.sum())}
    wanted = _remaining_sizes(sizes, set(frame.loc[held, "official"]))
    rows = frame[pool]
    names = rows["group"] if grouped else rows["path"]
    split[pool] = split_rows(
        rows["path"].tolist(), rows["label"].tolist(), names.tolist(), split_counts(len(rows), wanted), seed
    )
    return split, {"set_aside": int(set_aside.sum())}


def _remaining_sizes(sizes: Sequence[float], official: set[str]) -> Sequence[float]:
    """Drop the sizes of splits that the source fixes; fractions are scaled to sum to 1 again."""
    kept = [0.0 if name in official else size for name, size in zip(SPLITS, sizes, strict=True)]
    if abs(sum(sizes) - 1.0) <= 1e-3:
        return [size / sum(kept) for size in kept]
    return kept
