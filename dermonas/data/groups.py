"""Which images belong together: same lesion, same file, or near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dermonas.data.leakage import Pairs
from dermonas.data.text import ascending, repeated

_BEGINNING = 16  # digits of a digest: 64 bits, which hardly two different files share

Column = pd.Series | Sequence[str | None]


def merge_groups(paths: Column, lesions: Column, digests: Column, pairs: Pairs) -> pd.Series:
    """Name each image's group: the union of lesion, identical bytes and near-duplicate pairs.

    Args:
        paths: (n,) unique.
        lesions: (n,) lesion ids; None where unknown, which groups with nothing.
        digests: (n,) SHA-256 of the files.
        pairs: Near-duplicates, as row numbers.

    Returns:
        (n,) names, of dtype str: the smallest lesion id in the group, or its smallest path. They do not depend on row
        order.
    """
    links = [np.stack([pairs.i, pairs.j]), _links(lesions), _file_links(_series(digests).astype("str"))]
    first, second = np.concatenate(links, axis=1)
    count = len(paths)
    joined = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(count, count))
    groups, roots = connected_components(joined, directed=False)
    names = _smallest_paths(_series(paths).astype("str"), groups, roots)
    codes, known = pd.factorize(_series(lesions), sort=True)
    smallest = np.full(groups, len(known))
    np.minimum.at(smallest, roots[codes >= 0], codes[codes >= 0])
    told = np.flatnonzero(smallest[roots] < len(known))
    names.iloc[told] = np.asarray(known, dtype=object)[smallest[roots[told]]]
    return names


def mates(groups: pd.Series, rows: pd.Series) -> pd.Series:
    """Tell which rows share a group with one of some rows.

    Args:
        groups: (n,) group names.
        rows: (n,) bool, on the same index: those rows, which share a group with themselves.
    """
    codes, names = pd.factorize(groups)
    held = np.zeros(len(names), dtype=bool)
    held[codes[rows.to_numpy()]] = True
    return pd.Series(held[codes], index=groups.index)


def _smallest_paths(paths: pd.Series, groups: int, roots: np.ndarray) -> pd.Series:
    """Return of each row the smallest path of its group; they stay in Arrow, no path becomes an object."""
    order = np.arange(len(paths)) if ascending(paths) else paths.argsort(kind="stable").to_numpy()
    smallest = np.empty(groups, dtype=np.int64)
    smallest[roots[order[::-1]]] = order[::-1]  # of several the last stays
    return paths.iloc[smallest[roots]].reset_index(drop=True)


def _file_links(digests: pd.Series) -> np.ndarray:
    """Link every row to the first with the same digest; int64 (2, links)."""
    # By their beginnings first: a table of all digests would be 300 MB of a million.
    rows = np.flatnonzero(repeated(digests.str.slice(0, _BEGINNING)))
    return rows[_links(digests.iloc[rows])]


def _links(keys: Column) -> np.ndarray:
    """Link every row to the first row with the same key; int64 (2, links)."""
    codes, _ = pd.factorize(_series(keys))
    rows = np.flatnonzero(codes >= 0)
    _, first, place = np.unique(codes[rows], return_index=True, return_inverse=True)
    links = np.stack([rows[first[place]], rows])
    return links[:, links[0] != links[1]]


def _series(values: Column) -> pd.Series:
    return values if isinstance(values, pd.Series) else pd.Series(values, dtype=object)
