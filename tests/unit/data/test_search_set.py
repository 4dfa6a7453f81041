"""DESIGN 3's rule: what a search may see, by source."""

import pandas as pd
import pytest

from dermonas.data.search_set import select_search_rows
from dermonas.errors import DataError


def _frame(rows: list[tuple[str | None, str, str | None, bool]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["label", "group", "split", "extra"])
    frame["path"] = [f"{index:05d}.jpg" for index in range(len(frame))]
    return frame.astype({"label": object, "split": object})


def _chosen(
    frame: pd.DataFrame, source: str, dataset: str = "x", fraction: float | None = None, seed: int = 0
) -> list[int]:
    selected = select_search_rows(frame, source=source, dataset=dataset, fraction=fraction, seed=seed)
    return selected[selected].index.tolist()


def _labelled(count: int, validation: int = 0, test: int = 0) -> pd.DataFrame:
    splits = ["train"] * (count - validation - test) + ["validation"] * validation + ["test"] * test
    return _frame([(f"c{index % 10}", str(index), split, False) for index, split in enumerate(splits)])


@pytest.mark.parametrize("source", ["isic", "phantom", "folder"])
def test_all_train_rows(source: str) -> None:
    assert _chosen(_labelled(20, 3, 4), source) == list(range(13))


def test_isic_test_input_replaces_train() -> None:
    frame = _frame([("MEL", "a", "train", False), ("NV", "b", "test", False), (None, "c", None, True)])
    assert _chosen(frame, "isic") == [2]


def test_official_search_image_that_repeats_a_held_out_one_is_left_out() -> None:
    frame = _frame(
        [
            ("MEL", "a", "train", False),
            ("NV", "b", "test", False),
            ("NV", "v", "validation", False),
            (None, "b", None, True),
            (None, "v", None, True),
            (None, "a", None, True),
        ]
    )
    assert _chosen(frame, "isic") == [5]


def test_train_row_that_repeats_a_held_out_one_is_left_out() -> None:
    frame = _frame([("a", "1", "train", False), ("a", "2", "train", False), ("a", "1", "test", False)])
    assert _chosen(frame, "folder") == [1]


def test_unlabelled_folder_is_all() -> None:
    assert _chosen(_frame([(None, str(i), None, False) for i in range(5)]), "folder") == list(range(5))


def test_labelled_row_set_aside_is_not_searched() -> None:
    frame = _frame([("a", "1", None, False), ("a", "2", "train", False), ("a", "1", "test", False)])
    assert _chosen(frame, "cifar", fraction=1.0) == [1]


@pytest.mark.parametrize(("source", "dataset", "share"), [("cifar", "cifar10", 0.10), ("folder", "imagenet", 0.01)])
def test_class_balanced_share_of_the_official_train_set(source: str, dataset: str, share: float) -> None:
    frame = _labelled(5200, 250, 200)
    rows = frame.loc[_chosen(frame, source, dataset)]
    assert len(rows) == round(share * 5000)  # of train before validation was cut
    assert (rows["split"] == "train").all()
    assert set(rows["label"].value_counts()) == {len(rows) // 10}


def test_imagenette_is_not_imagenet() -> None:
    assert len(_chosen(_labelled(50), "folder", "imagenette")) == 50


def test_fraction_is_a_setting() -> None:
    assert len(_chosen(_labelled(200), "folder", fraction=0.25)) == 50
    assert len(_chosen(_labelled(200), "cifar", fraction=1.0)) == 200
    assert len(_chosen(_labelled(5), "folder", fraction=0.01)) == 1


def test_draw_depends_on_seed_and_not_on_row_order() -> None:
    frame = _labelled(300)
    first = _chosen(frame, "cifar", seed=1)
    assert first != _chosen(frame, "cifar", seed=2)
    assert sorted(_chosen(frame.sample(frac=1, random_state=0), "cifar", seed=1)) == first


def test_labels_do_not_matter_without_a_balanced_rule() -> None:
    frame = _labelled(100)
    shuffled = frame.assign(label=frame["label"].sample(frac=1, random_state=0).to_numpy())
    assert _chosen(frame, "isic", fraction=0.3) == _chosen(shuffled, "isic", fraction=0.3)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(DataError, match="no image is left for the search"):
        _chosen(_frame([("a", "1", "train", False), ("a", "1", "test", False)]), "folder")
