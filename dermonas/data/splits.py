"""Cut a labelled data set into train, validation and test, whole groups at a time.

Two photographs of one lesion on both sides of a split make a model look better than it is. The papers
split images, not lesions; that split is here by the name "paper" and its manifest is marked ungrouped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dermonas.data.groups import mates
from dermonas.data.manifest import SPLITS
from dermonas.data.text import ascending
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
    paths: Sequence[str] | pd.Series,
    labels: Sequence[str] | pd.Series,
    groups: Sequence[str] | pd.Series,
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
    group, names = pd.factorize(_column(groups))
    label, known = pd.factorize(_column(labels), sort=True)
    sizes = np.bincount(group, minlength=len(names))
    # Groups in the order of their first path.
    path = _column(paths)
    order = pd.unique(group if ascending(path) else group[path.argsort(kind="stable").to_numpy()])
    owner = _commonest_labels(group, label, len(known))[order]
    strata = {str(known[code]): order[owner == code] for code in range(len(known)) if (owner == code).any()}
    images = {name: int(sizes[part].sum()) for name, part in strata.items()}
    eligible = {name: len(part) >= len(SPLITS) for name, part in strata.items()}
    validation = _shares(images, counts[1], eligible)
    test = _shares({name: images[name] - validation[name] for name in images}, counts[2], eligible)
    chosen = np.zeros(len(names), dtype=np.int64)
    for name, part in strata.items():
        targets = (images[name] - validation[name] - test[name], validation[name], test[name])
        shuffled = part[numpy_generator(seed, "split", name).permutation(len(part))]
        chosen[shuffled] = _deal(sizes[shuffled], targets)
    return np.array(SPLITS, dtype=object)[chosen[group]]


def _column(values: Sequence[str] | pd.Series) -> pd.Series:
    return values if isinstance(values, pd.Series) else pd.Series(values, dtype=object)


def _commonest_labels(group: np.ndarray, label: np.ndarray, labels: int) -> np.ndarray:
    """Return each group's commonest label, by group; the first in the alphabet among equals."""
    both, counts = np.unique(group * labels + label, return_counts=True)
    ranked = np.lexsort((both % labels, -counts, both // labels))
    first = np.unique(both[ranked] // labels, return_index=True)[1]
    return both[ranked][first] % labels


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


def _deal(sizes: np.ndarray, targets: tuple[int, int, int]) -> np.ndarray:
    """Deal shuffled groups of one class to the three splits, (n,) numbers of splits.

    Each goes to the split that lacks most relative to its share. Groups of several images come first.
    """
    left = list(targets)
    share = [max(target, 1) for target in targets]
    chosen = np.zeros(len(sizes), dtype=np.int64)
    for index in np.flatnonzero(sizes > 1).tolist():
        size = int(sizes[index])
        fits = [split for split in range(len(left)) if left[split] >= size]
        # A group that fits nowhere goes to train, where an excess distorts least.
        split = max(fits, key=lambda split: left[split] / share[split]) if fits else 0
        left[split] -= size
        chosen[index] = split
    # Of single images each takes one place: the places of all splits, those that lack most first.
    places = np.concatenate([np.full(max(count, 0), split) for split, count in enumerate(left)])
    lack = np.concatenate([np.arange(max(count, 0), 0, -1) / whole for count, whole in zip(left, share, strict=True)])
    single = np.flatnonzero(sizes == 1)
    chosen[single] = places[np.lexsort((places, -lack))][: len(single)]
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
    set_aside = pool & mates(frame["group"], held) if grouped and held.any() else pool & False
    pool &= ~set_aside
    if not pool.any():
        return split, {"set_aside": int(set_aside.sum())}
    wanted = _remaining_sizes(sizes, set(frame.loc[held, "official"]))
    rows = frame.loc[pool, ["path", "label", "group"]]
    names = rows["group"] if grouped else rows["path"]
    split[pool] = split_rows(rows["path"], rows["label"], names, split_counts(len(rows), wanted), seed)
    return split, {"set_aside": int(set_aside.sum())}


def _remaining_sizes(sizes: Sequence[float], official: set[str]) -> Sequence[float]:
    """Drop the sizes of splits that the source fixes; fractions are scaled to sum to 1 again."""
    kept = [0.0 if name in official else size for name, size in zip(SPLITS, sizes, strict=True)]
    if abs(sum(sizes) - 1.0) <= 1e-3:
        return [size / sum(kept) for size in kept]
    return kept
