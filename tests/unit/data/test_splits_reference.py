"""Splits in columns equal the plain loop over groups that they replaced, row by row."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from dermonas.data import splits
from dermonas.data.splits import SPLITS, split_counts, split_rows
from dermonas.seeding import numpy_generator


def reference(
    paths: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    counts: tuple[int, int, int],
    seed: int,
) -> np.ndarray:
    frame = pd.DataFrame({"path": list(paths), "label": list(labels), "group": list(groups)})
    grouped = frame.groupby("group", sort=True)
    table = pd.DataFrame({"size": grouped.size(), "key": grouped["path"].min(), "label": _commonest_labels(frame)})
    table = table.sort_values("key")
    strata = {str(label): part for label, part in table.groupby("label", sort=True)}
    images = {label: int(part["size"].sum()) for label, part in strata.items()}
    eligible = {label: len(part) >= len(SPLITS) for label, part in strata.items()}
    validation = splits._shares(images, counts[1], eligible)
    test = splits._shares({label: images[label] - validation[label] for label in images}, counts[2], eligible)
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


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 150),
    classes=st.integers(1, 6),
    groups=st.integers(1, 150),
    sizes=st.sampled_from([(0.8, 0.05, 0.15), (0.4, 0.3, 0.3), (0.1, 0.9, 0.0), (1.0, 0.0, 0.0)]),
)
def test_equal_to_the_reference(
    seed: int, count: int, classes: int, groups: int, sizes: tuple[float, float, float]
) -> None:
    generator = np.random.default_rng(seed)
    paths = [f"{row:04d}" for row in generator.permutation(count)]
    labels = [f"c{value}" for value in (classes * generator.random(count) ** 2).astype(int)]
    names = [f"g{value}" for value in generator.integers(groups, size=count)]
    counts = split_counts(count, sizes)
    assert (
        split_rows(paths, labels, names, counts, seed).tolist()
        == reference(paths, labels, names, counts, seed).tolist()
    )
