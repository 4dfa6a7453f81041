"""Properties of every split: no group crosses, sizes and class shares are close, row order is irrelevant."""

from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermonas.data.splits import DEFAULT_SIZES, PAPER_SIZES, assign_splits, split_counts, split_rows
from dermonas.errors import DataError


def _lesions(seed: int, classes: int, lesions: int) -> pd.DataFrame:
    """Lesions of 1 to 4 images, one label each, classes of very different size."""
    generator = np.random.default_rng(seed)
    rows = []
    for lesion in range(lesions):
        label = f"class{int(classes * generator.random() ** 2)}"
        for shot in range(int(generator.choice([1, 1, 1, 2, 3, 4]))):
            rows.append((f"{lesion:05d}-{shot}.jpg", label, f"lesion{lesion}"))
    return pd.DataFrame(rows, columns=["path", "label", "group"])


def _split(frame: pd.DataFrame, seed: int = 0, sizes: tuple[float, ...] = DEFAULT_SIZES) -> np.ndarray:
    counts = split_counts(len(frame), sizes)
    return split_rows(frame["path"].tolist(), frame["label"].tolist(), frame["group"].tolist(), counts, seed)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(1, 8), lesions=st.integers(1, 300))
def test_no_group_crosses_and_sizes_are_close(seed: int, classes: int, lesions: int) -> None:
    frame = _lesions(seed, classes, lesions)
    split = _split(frame, seed)
    sides = defaultdict(set)
    for group, name in zip(frame["group"], split, strict=True):
        sides[group].add(name)
    assert all(len(names) == 1 for names in sides.values())
    for name, want in zip(("train", "validation", "test"), split_counts(len(frame), DEFAULT_SIZES), strict=True):
        # A class can be off by less than one group of 4 in each split.
        assert abs((split == name).sum() - want) <= 4 * classes


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_row_order_is_irrelevant_and_seed_is_not(seed: int) -> None:
    frame = _lesions(seed, 4, 120)
    split = _split(frame, seed)
    order = np.random.default_rng(seed).permutation(len(frame))
    assert np.array_equal(_split(frame.iloc[order], seed), split[order])
    assert not np.array_equal(_split(frame, seed + 1), split)


def test_large_set_is_split_exactly_with_every_class_in_proportion() -> None:
    frame = _lesions(1, 8, 2000)
    split = _split(frame)
    wanted = split_counts(len(frame), DEFAULT_SIZES)
    assert tuple((split == name).sum() for name in ("train", "validation", "test")) == wanted
    for _, part in frame.groupby("label"):
        rows = part.index.to_numpy()
        assert abs((split[rows] == "validation").mean() - 0.05) < 0.01
        assert abs((split[rows] == "test").mean() - 0.15) < 0.01


def test_lesions_of_several_images_spread_over_all_splits() -> None:
    frame = _lesions(2, 4, 2000)
    split = pd.Series(_split(frame))
    several = frame["group"].map(frame["group"].value_counts()) > 1
    overall = several.mean()
    for name in ("train", "validation", "test"):
        assert abs(several[split == name].mean() - overall) < 0.06


def test_a_rare_class_reaches_every_split() -> None:
    frame = _lesions(3, 1, 300)
    rare = pd.DataFrame([(f"rare{i}.jpg", "rare", f"rare{i}") for i in range(4)], columns=frame.columns)
    split = _split(pd.concat([frame, rare], ignore_index=True))
    assert set(split[-4:]) == {"train", "validation", "test"}


def test_a_group_with_two_labels_stays_together() -> None:
    frame = _lesions(4, 3, 100)
    frame.loc[:5, "group"] = "merged"
    assert len(set(_split(frame)[:6])) == 1


def test_counts() -> None:
    assert split_counts(100, DEFAULT_SIZES) == (80, 5, 15)
    assert split_counts(25331, PAPER_SIZES) == PAPER_SIZES
    assert split_counts(7, (5, 1, 1)) == (5, 1, 1)
    assert split_counts(1, DEFAULT_SIZES) == (1, 0, 0)
    with pytest.raises(DataError, match=r"sum to 7, but 8 labelled images are usable"):
        split_counts(8, (5, 1, 1))


def _listing(official: list[str | None], groups: list[str]) -> pd.DataFrame:
    count = len(official)
    return pd.DataFrame(
        {
            "path": [f"{i:04d}.jpg" for i in range(count)],
            "label": [("cat", "dog")[i % 2] for i in range(count)],
            "group": groups,
            "official": pd.Series(official, dtype=object),
            "extra": False,
        }
    )


def test_official_test_stays_test_and_validation_is_cut_from_train() -> None:
    official: list[str | None] = ["train"] * 170 + ["test"] * 40
    frame = _listing(official, [str(i) for i in range(210)])
    split, counts = assign_splits(frame, grouped=True, sizes=DEFAULT_SIZES, seed=0)
    assert (split[170:] == "test").all()
    assert split[:170].value_counts().to_dict() == {"train": 160, "validation": 10}
    assert counts == {"set_aside": 0}


def test_official_validation_beside_test_is_kept() -> None:
    official: list[str | None] = ["train"] * 20 + ["validation"] * 6 + ["test"] * 4
    split, _ = assign_splits(_listing(official, [str(i) for i in range(30)]), grouped=True, sizes=DEFAULT_SIZES, seed=0)
    assert split.tolist() == official


def test_train_row_that_repeats_an_official_test_row_is_set_aside() -> None:
    groups = [str(i) for i in range(50)]
    groups[45] = groups[3]
    official: list[str | None] = ["train"] * 40 + ["test"] * 10
    split, counts = assign_splits(_listing(official, groups), grouped=True, sizes=DEFAULT_SIZES, seed=0)
    assert split[3] is None
    assert split[45] == "test"
    assert counts == {"set_aside": 1}
    ungrouped, _ = assign_splits(_listing(official, groups), grouped=False, sizes=DEFAULT_SIZES, seed=0)
    assert ungrouped[3] is not None


def test_unlabelled_and_extra_rows_have_no_split() -> None:
    frame = _listing([None] * 60, [str(i) for i in range(60)])
    frame.loc[:9, "label"] = None
    frame.loc[10:19, "extra"] = True
    split, _ = assign_splits(frame, grouped=True, sizes=DEFAULT_SIZES, seed=0)
    assert split[:20].isna().all()
    assert split[20:].notna().all()
