"""Which images belong together: same lesion, same file, or near-duplicates."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pandas as pd

from dermonas.data.leakage import Pair, connected_groups


def merge_groups(
    paths: Sequence[str], lesions: Sequence[str | None], digests: Sequence[str], pairs: Sequence[Pair]
) -> list[str]:
    """Name each image's group: the union of lesion, identical bytes and near-duplicate pairs.

    Args:
        paths: (n,) unique.
        lesions: (n,) lesion ids; None where unknown, which groups with nothing.
        digests: (n,) SHA-256 of the files.
        pairs: Near-duplicates, as row numbers.

    Returns:
        (n,) names: the smallest lesion id in the group, or its smallest path. They do not depend on row order.
    """
    links = [*pairs, *_links(lesions), *_links(digests)]
    roots = connected_groups(len(paths), links)
    frame = pd.DataFrame({"root": roots, "path": list(paths), "lesion": pd.Series(list(lesions), dtype=object)})
    names = frame.groupby("root")["path"].min().to_dict()
    names.update(frame.dropna(subset="lesion").groupby("root")["lesion"].min().to_dict())
    return [str(names[root]) for root in roots.tolist()]


def _links(keys: Sequence[Hashable | None]) -> list[Pair]:
    """Link every row to the first row with the same key."""
    first: dict[Hashable, int] = {}
    links = []
    for row, key in enumerate(keys):
        if key is None:
            continue
        if key in first:
            links.append(Pair(first[key], row, 0, 1.0, 0))
        else:
            first[key] = row
    return links
