"""Class folders, split folders and flat folders."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dermonas.data.sources.folder import list_folder
from dermonas.errors import DataError, LabelError

Make = Callable[..., Path]
Draw = Callable[[int], Image.Image]


def test_class_folders(make_classes: Make) -> None:
    make_classes("n02102040", 2)
    listing = list_folder(make_classes("n01440764", 3))
    assert listing.classes == ("n01440764", "n02102040")
    assert listing.frame["label"].value_counts().to_dict() == {"n01440764": 3, "n02102040": 2}
    assert listing.frame["official"].isna().all()
    assert listing.frame["path"].is_monotonic_increasing


def test_isic_class_names_keep_the_official_order(make_classes: Make) -> None:
    for name in ("AK", "MEL", "NV"):
        root = make_classes(name, 1)
    assert list_folder(root).classes == ("MEL", "NV", "AK")


def test_flat_folder_is_unlabelled(make_classes: Make) -> None:
    listing = list_folder(make_classes(".", 4))
    assert listing.frame["label"].tolist() == [None] * 4
    assert listing.classes == ()


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "test"), {"train", "test"}),
        (("train", "val"), {"train", "test"}),
        (("Train", "valid"), {"train", "test"}),
        (("training", "validation"), {"train", "test"}),
        (("train", "val", "test"), {"train", "validation", "test"}),
        (("train",), {"train"}),
    ],
)
def test_split_folders(make_classes: Make, folders: tuple[str, ...], expected: set[str]) -> None:
    for folder in folders:
        make_classes(f"{folder}/cat", 2)
        root = make_classes(f"{folder}/dog", 2)
    listing = list_folder(root)
    assert set(listing.frame["official"]) == expected
    assert listing.classes == ("cat", "dog")
    held = listing.frame["official"] == "test"
    assert all(not path.lower().startswith("train") for path in listing.frame.loc[held, "path"])


def test_unlabelled_test_folder_is_ignored_as_in_imagenet(make_classes: Make) -> None:
    make_classes("train/cat", 2)
    make_classes("val/cat", 2)
    listing = list_folder(make_classes("test", 5))
    assert listing.frame["official"].value_counts().to_dict() == {"train": 2, "test": 2}
    assert listing.notes["test_ignored"] == "5 unlabelled images"


def test_nested_images_belong_to_the_top_class(make_classes: Make) -> None:
    make_classes("cat", 1)
    assert list_folder(make_classes("cat/indoors/2020", 2)).frame["label"].tolist() == ["cat"] * 3


@pytest.mark.parametrize("same", [True, False])
def test_one_id_in_two_class_folders(make_classes: Make, draw: Draw, same: bool) -> None:
    make_classes("MEL", 2)
    root = make_classes("NV", 2)
    draw(500).save(root / "MEL" / "ISIC_0024320.png")
    draw(500 if same else 501).save(root / "NV" / "ISIC_0024320.png")
    expected = r"id in two class folders: MEL/ISIC_0024320\.png and NV/ISIC_0024320\.png"
    with pytest.raises(LabelError, match=expected):
        list_folder(root)


def test_one_id_with_two_endings_in_two_class_folders(make_classes: Make, draw: Draw) -> None:
    make_classes("MEL", 2)
    root = make_classes("NV", 2)
    draw(500).save(root / "MEL" / "ISIC_0024320.png")
    draw(500).save(root / "NV" / "ISIC_0024320.jpg")
    with pytest.raises(LabelError, match="two class folders"):
        list_folder(root)


def test_running_numbers_of_each_class_are_no_ids(make_classes: Make, draw: Draw) -> None:
    make_classes("cat", 1)
    root = make_classes("dog", 1)
    for name in ("0001.png", "image_0002.png"):
        draw(500).save(root / "cat" / name)
        draw(501).save(root / "dog" / name)
    assert len(list_folder(root).frame) == 6


def test_running_number_with_the_same_bytes_in_two_classes(make_classes: Make, draw: Draw) -> None:
    make_classes("cat", 1)
    root = make_classes("dog", 1)
    for name in ("cat", "dog"):
        draw(500).save(root / name / "0001.png")
    with pytest.raises(LabelError, match=r"cat/0001\.png and dog/0001\.png"):
        list_folder(root)


def test_held_out_class_that_train_lacks(make_classes: Make) -> None:
    make_classes("train/cat", 1)
    with pytest.raises(LabelError, match="class folder dog is held out but not in train"):
        list_folder(make_classes("test/dog", 1))


def test_images_beside_class_folders(make_classes: Make) -> None:
    make_classes("cat", 1)
    with pytest.raises(DataError, match="images beside class folders"):
        list_folder(make_classes(".", 1))


def test_two_folders_of_one_role(make_classes: Make) -> None:
    for folder in ("train/cat", "val/cat", "valid/cat"):
        root = make_classes(folder, 1)
    with pytest.raises(DataError, match="holds both val/ and valid/"):
        list_folder(root)


def test_empty_folder_and_empty_class(make_classes: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        list_folder(tmp_path)
    root = make_classes("cat", 1)
    (root / "dog").mkdir()
    assert list_folder(root).notes["._empty_classes"] == ["dog"]
