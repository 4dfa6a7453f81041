"""The leakage audit: does anything of a held-out image reach training?"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from dermonas.data.leakage import Pair, Pairs
from dermonas.data.text import repeated
from dermonas.errors import DataError

WARN_FRACTION = 0.01
"""Share of rows in near-duplicate groups above which the audit warns. Source: DESIGN 6."""
PRINTED_PAIRS = 20
"""Pairs, groups and conflicts written out in full; of each conflict as many paths."""

_log = logging.getLogger(__name__)


def audit_leakage(frame: pd.DataFrame, pairs: Pairs, *, grouped: bool, compared: bool) -> dict[str, Any]:
    """Check a split and describe the duplicates in it.

    Args:
        frame: Columns path, label, group, split, search, sha256; row numbers as in `pairs`.
        pairs: Near-duplicates found in it.
        grouped: Whether groups were kept together; if not, an overlap is reported and not an error.
        compared: Whether near-duplicates were looked for at all.

    Returns:
        The report, ready for JSON.

    Raises:
        DataError: a group lies in two splits, or a search row shares a group with a held-out row.
    """
    count = len(frame)
    twins = len(np.union1d(pairs.i, pairs.j))
    share = twins / count if count else 0.0
    codes, names = pd.factorize(frame["group"])
    sizes = np.bincount(codes, minlength=len(names))
    largest = {"name": str(names[int(sizes.argmax())]), "images": int(sizes.max())} if count else None
    overlap = _overlap(codes, names, frame["split"])
    held = np.zeros(len(names), dtype=bool)
    held[codes[frame["split"].isin(["validation", "test"])]] = True
    leaked = frame["search"] & held[codes]
    warnings = []
    if share > WARN_FRACTION:
        warnings.append(f"{share:.1%} of the images are near-duplicates of another (above {WARN_FRACTION:.0%})")
    if not grouped and overlap:
        warnings.append(f"ungrouped split: {len(overlap)} groups lie in more than one split, results are optimistic")
    if not compared:
        warnings.append("near-duplicates were not looked for (near_duplicates is false)")
    if pairs.unsettled:
        warnings.append(
            f"{pairs.unsettled} images share their hashes with thousands that look different: they were compared with "
            "some of these only"
        )
    for pair in pairs.first(PRINTED_PAIRS):
        first, second = frame["path"].iloc[pair.i], frame["path"].iloc[pair.j]
        _log.info("near-duplicates: %s and %s (%d bits, r = %.3f)", first, second, pair.hamming, pair.correlation)
    if largest:
        _log.info("largest group: %s with %d images", largest["name"], largest["images"])
    conflicting, conflicts = _label_conflicts(frame[sizes[codes] > 1])
    if conflicts:
        warnings.append(f"{conflicting} files appear under different labels, first: {conflicts[0]}")
    for warning in warnings:
        _log.warning("leakage audit: %s", warning)
    if grouped and overlap:
        raise DataError(
            f"group {overlap[0]} and {len(overlap) - 1} more lie in more than one split: report this defect"
        )
    if leaked.any():
        raise DataError(
            f"search image {frame.loc[leaked, 'path'].iloc[0]} repeats a held-out image: report this defect"
        )
    return {
        "images": count,
        "grouped": grouped,
        "near_duplicates_compared": compared,
        "near_duplicate_pairs": len(pairs),
        "near_duplicate_pairs_complete": pairs.complete,
        "near_duplicate_images": twins,
        "near_duplicate_fraction": share,
        "pairs": [_describe(frame, pair) for pair in pairs.first(PRINTED_PAIRS)],
        "groups": len(names),
        "largest_group": largest,
        "overlapping_groups": len(overlap),
        "overlapping_examples": overlap[:PRINTED_PAIRS],
        "label_conflicts": conflicts,
        "warnings": warnings,
    }


def _overlap(codes: np.ndarray, names: pd.Index, splits: pd.Series) -> list[str]:
    """Name the groups that lie in more than one split, sorted."""
    sides = np.zeros(len(names), dtype=np.int64)
    for split in splits.dropna().unique():
        there = np.zeros(len(names), dtype=bool)
        there[codes[(splits == split).to_numpy()]] = True
        sides += there
    return sorted(str(name) for name in names[sides > 1])


def _label_conflicts(frame: pd.DataFrame) -> tuple[int, list[str]]:
    """Count identical files with different labels; name the first as "path and path".

    Args:
        frame: Rows of groups of several: identical files are in one group.
    """
    labelled = frame.loc[frame["label"].notna(), ["path", "label", "sha256"]]
    labelled = labelled[repeated(labelled["sha256"])]
    kinds = labelled.groupby("sha256")["label"].nunique()
    conflicts = kinds.index[kinds > 1]
    rows = labelled[labelled["sha256"].isin(conflicts[:PRINTED_PAIRS])]
    return len(conflicts), [_joined(part["path"].tolist()) for _, part in rows.groupby("sha256")]


def _joined(paths: list[str]) -> str:
    more = f" and {len(paths) - PRINTED_PAIRS} more" if len(paths) > PRINTED_PAIRS else ""
    return " and ".join(paths[:PRINTED_PAIRS]) + more


def _describe(frame: pd.DataFrame, pair: Pair) -> dict[str, Any]:
    first, second = frame.iloc[pair.i], frame.iloc[pair.j]
    return {
        "first": first["path"],
        "second": second["path"],
        "hamming": pair.hamming,
        "correlation": round(pair.correlation, 4),
        "orientation": pair.orientation,
        "labels": [first["label"], second["label"]],
        "splits": [first["split"], second["split"]],
    }
