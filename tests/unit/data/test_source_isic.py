"""The official layout, and every way in which its tables can be wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dermonas.data.sources.isic import list_isic
from dermonas.errors import DataError, LabelError

TRUTH = "ISIC_2019_Training_GroundTruth.csv"
METADATA = "ISIC_2019_Training_Metadata.csv"
Make = Callable[..., Path]


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_reads_labels_metadata_and_lesions(make_isic: Make) -> None:
    listing = list_isic(make_isic(("NV", "MEL", "SCC"), ("L1", "", "L1")))
    frame = listing.frame
    assert frame["path"].tolist() == [f"ISIC_2019_Training_Input/ISIC_000000{index}.jpg" for index in range(3)]
    assert frame["label"].tolist() == ["NV", "MEL", "SCC"]
    assert frame["lesion"].tolist() == ["L1", None, "L1"]
    assert frame["sex"].tolist() == ["female"] * 3
    assert frame["age_approx"].tolist()[1:] == [50.0, 50.0]
    assert frame["age_approx"].isna().tolist() == [True, False, False]
    assert listing.classes == ("MEL", "NV", "SCC")  # the official order, not the alphabet
    assert not listing.tags
    assert not listing.missing


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".png", ".JPG"])
def test_endings(make_isic: Make, ending: str) -> None:
    assert len(list_isic(make_isic(("NV", "MEL"), ending=ending)).frame) == 2


def test_downsampled_names_on_either_side(make_isic: Make) -> None:
    root = make_isic(("NV", "MEL", "BCC"))
    images = root / "ISIC_2019_Training_Input"
    (images / "ISIC_0000000.jpg").rename(images / "ISIC_0000000_downsampled.jpg")
    for table in (TRUTH, METADATA):
        _edit(root / table, "ISIC_0000000,", "ISIC_0000000_downsampled,")  # on both sides, as in the official set
    _edit(root / TRUTH, "ISIC_0000001,", "ISIC_0000001_downsampled,")  # in the table only
    assert list_isic(root).frame["label"].tolist() == ["NV", "MEL", "BCC"]


def test_unk_is_unlabelled(make_isic: Make) -> None:
    listing = list_isic(make_isic(("NV", "UNK", "MEL")))
    assert listing.frame["label"].tolist() == ["NV", None, "MEL"]
    assert listing.classes == ("MEL", "NV")
    assert listing.notes["training_unknown_class"] == 1


def test_without_ground_truth_everything_is_unlabelled(make_isic: Make) -> None:
    root = make_isic(("NV", "MEL"))
    (root / TRUTH).unlink()
    listing = list_isic(root)
    assert listing.frame["label"].tolist() == [None, None]
    assert listing.classes == ()


def test_without_metadata_no_lesion_is_known(make_isic: Make) -> None:
    root = make_isic(("NV", "MEL"), ("L1", "L1"))
    (root / METADATA).unlink()
    assert list_isic(root).frame["lesion"].tolist() == [None, None]


def test_test_input_is_the_official_search_set(make_isic: Make) -> None:
    listing = list_isic(make_isic(("NV", "MEL"), test_images=3))
    assert listing.frame["extra"].sum() == 3
    assert listing.frame.loc[listing.frame["extra"], "label"].tolist() == [None] * 3
    assert listing.tags == {"transductive": True}


def test_empty_test_input_counts_as_absent(make_isic: Make) -> None:
    root = make_isic(("NV", "MEL"))
    (root / "ISIC_2019_Test_Input").mkdir()
    assert not list_isic(root).frame["extra"].any()


def test_byte_order_mark_quotes_and_blank_lines(make_isic: Make) -> None:
    root = make_isic(("NV", "MEL"))
    text = (root / TRUTH).read_text()
    (root / TRUTH).write_text("\ufeff" + text.replace("ISIC_0000000", '"ISIC_0000000"') + "\n\n", encoding="utf-8")
    assert list_isic(root).frame["label"].tolist() == ["NV", "MEL"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ISIC_0000001,1.0,0.0", "ISIC_0000001,1.0,1.0", r"two labels or more in a row: ISIC_0000001 \(line 3\)"),
        ("ISIC_0000001,1.0,0.0", "ISIC_0000001,0.0,0.0", r"no label in a row: ISIC_0000001 \(line 3\)"),
        ("ISIC_0000001,1.0,0.0", "ISIC_0000001,0.5,0.5", r"value other than 0 and 1 in a row: ISIC_0000001 \(line 3\)"),
        ("ISIC_0000001,1.0,0.0", "ISIC_0000001,yes,0.0", r"value other than 0 and 1 in a row: ISIC_0000001 \(line 3\)"),
        ("ISIC_0000001,1.0,0.0", "ISIC_0000001,,0.0", r"value other than 0 and 1 in a row: ISIC_0000001 \(line 3\)"),
        (
            "ISIC_0000001,",
            "ISIC_0000002,",
            r"image id more than once: ISIC_0000002 \(line 3\), ISIC_0000002 \(line 4\)",
        ),
        (
            "ISIC_0000001,",
            "ISIC_0000002_downsampled,",
            r"id more than once: ISIC_0000002_downsampled \(line 3\), ISIC_0000002 \(line 4\)",
        ),
        ("ISIC_0000001,", ",", r"no image id in line 3"),
        ("image,MEL", "picture,MEL", r"no column 'image' \(it has picture, MEL"),
        ("image,MEL", "image,MELANOMA", "unknown class column MELANOMA: known are MEL"),
        ("ISIC_0000001,1.0,0.0", "ISIC_0000001,1.0,0.0,0.0,0.0", "cannot be read as CSV"),
    ],
)
def test_faults_of_the_label_table(make_isic: Make, old: str, new: str, message: str) -> None:
    root = make_isic(("NV", "MEL", "BCC"))
    _edit(root / TRUTH, old, new)
    with pytest.raises(LabelError, match=message) as caught:
        list_isic(root)
    assert TRUTH in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_label_table(make_isic: Make) -> None:
    root = make_isic(("NV",))
    (root / TRUTH).write_text("")
    with pytest.raises(LabelError, match=f"{TRUTH} cannot be read as CSV"):
        list_isic(root)


def test_binary_label_table(make_isic: Make) -> None:
    root = make_isic(("NV",))
    (root / TRUTH).write_bytes(b"PK\x03\x04\xff\xfe\x00\x81" * 20)
    with pytest.raises(LabelError, match=f"{TRUTH}"):
        list_isic(root)


def test_unknown_id_is_an_error(make_isic: Make) -> None:
    root = make_isic(("NV", "MEL"))
    with (root / TRUTH).open("a") as file:
        file.write("ISIC_7777777,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\n")
    with pytest.raises(LabelError, match=r"unknown image id: ISIC_7777777 \(line 4\)"):
        list_isic(root)


def test_known_id_without_its_file_is_missing(make_isic: Make) -> None:
    root = make_isic(("NV", "MEL"))
    (root / "ISIC_2019_Training_Input" / "ISIC_0000001.jpg").unlink()
    assert list_isic(root).missing == (("ISIC_0000001", f"no image file ({TRUTH} line 3)"),)


def test_image_without_a_row(make_isic: Make) -> None:
    root = make_isic(("NV", "MEL"))
    images = root / "ISIC_2019_Training_Input"
    (images / "ISIC_0000001.jpg").rename(images / "ISIC_5555555.jpg")
    with pytest.raises(LabelError, match=f"{TRUTH} has no row for the image ISIC_5555555.jpg"):
        list_isic(root)


def test_two_files_of_one_id(make_isic: Make) -> None:
    root = make_isic(("NV", "MEL"))
    images = root / "ISIC_2019_Training_Input"
    (images / "ISIC_0000001.png").write_bytes((images / "ISIC_0000001.jpg").read_bytes())
    with pytest.raises(LabelError, match=r"ISIC_0000001 has two files, ISIC_0000001\.jpg and ISIC_0000001\.png"):
        list_isic(root)


def test_duplicate_metadata(make_isic: Make) -> None:
    root = make_isic(("NV", "MEL"))
    _edit(root / METADATA, "ISIC_0000001", "ISIC_0000000")
    with pytest.raises(LabelError, match=f"{METADATA} lists an image id more than once"):
        list_isic(root)


def test_licence_and_hidden_files_are_not_images(make_isic: Make) -> None:
    root = make_isic(("NV", "MEL"))
    images = root / "ISIC_2019_Training_Input"
    (images / "LICENSE.txt").write_text("CC BY-NC")
    (images / "._ISIC_0000000.jpg").write_bytes(b"\x00\x05\x16\x07")  # macOS resource fork
    listing = list_isic(root)
    assert len(listing.frame) == 2
    assert listing.notes["training_other_files"] == ["ISIC_2019_Training_Input/LICENSE.txt"]


def test_no_isic_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no ISIC image folder"):
        list_isic(tmp_path)
    with pytest.raises(DataError, match=r"root .*gone is not a folder"):
        list_isic(tmp_path / "gone")


def test_empty_training_folder(tmp_path: Path) -> None:
    (tmp_path / "ISIC_2019_Training_Input").mkdir()
    with pytest.raises(DataError, match=r"holds no \.jpg"):
        list_isic(tmp_path)
