"""Which images belong together: same lesion, same file, or near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dermonas.data.leakage import Pairs

Column = pd.Series | Sequence[str | None]


def merge_groups(paths: Column, lesions: Column, digests: Column, pairs: Pairs) -> np.ndarray:
    """Name each image's group: the union of lesion, identical bytes and near-duplicate pairs.

    Args:
        paths: (n,) unique.
        lesions: (n,) lesion ids; None where unknown, which groups with nothing.
        digests: (n,) SHA-256 of the files.
        pairs: Near-duplicates, as row numbers.

    Returns:
        (n,) object array of names: the smallest lesion id in the group, or its smallest path. They do not depend on
        row order.
    """
    links = [np.stack([pairs.i, pairs.j]), _links(lesions), _links(digests)]
    first, second = np.concatenate(links, axis=1)
    count = len(paths)
    joined = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(count, count))
    roots = connected_components(joined, directed=False)[1]
    names = np.empty(count, dtype=object)  # more than the groups are
    for column in (paths, lesions):
        codes, known = pd.factorize(_series(column), sort=True)
        smallest = np.full(count, len(known))
        np.minimum.at(smallest, roots[codes >= 0], codes[codes >= 0])
        told = np.flatnonzero(smallest < len(known))
        names[told] = np.asarray(known, dtype=object)[smallest[told]]
    return names[roots]


def _links(keys: Column) -> np.ndarray:
    """Link every row to the first row with the same key; int64 (2, links)."""
    codes, _ = pd.factorize(_series(keys))
    rows = np.flatnonzero(codes >= 0)
    _, first, place = np.unique(codes[rows], return_index=True, return_inverse=True)
    links = np.stack([rows[first[place]], rows])
    return links[:, links[0] != links[1]]


def _series(values: Column) -> pd.Series:
    return values if isinstance(values, pd.Series) else pd.Series(values, dtype=object)
