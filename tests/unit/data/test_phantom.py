"""The phantom data set: official layout, seeded, honest about being synthetic, and a task worth learning."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermonas.data.hashing import fingerprints
from dermonas.data.leakage import near_duplicates
from dermonas.data.phantom import CLASSES, class_counts, contact_sheet, generate
from dermonas.data.phantom_render import photograph
from dermonas.errors import ConfigError, DataError

LESIONS, TESTS, SIZE, SEED = 250, 24, 48, 7  # about 410 training images


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def digests(root: Path) -> dict[str, str]:
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(root.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    generate(root, lesions=LESIONS, test_images=TESTS, size=SIZE, seed=SEED)
    return root


def test_layout_is_the_official_one(phantom):
    assert sorted(entry.name for entry in phantom.iterdir()) == [
        "ISIC_2019_Test_GroundTruth.csv",
        "ISIC_2019_Test_Input",
        "ISIC_2019_Test_Metadata.csv",
        "ISIC_2019_Training_GroundTruth.csv",
        "ISIC_2019_Training_Input",
        "ISIC_2019_Training_Metadata.csv",
        "README.txt",
    ]
    header = (phantom / "ISIC_2019_Training_GroundTruth.csv").read_text().splitlines()[0]
    assert header == "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
    header = (phantom / "ISIC_2019_Training_Metadata.csv").read_text().splitlines()[0]
    assert header == "image,age_approx,anatom_site_general,lesion_id,sex"
    assert "lesion_id" not in (phantom / "ISIC_2019_Test_Metadata.csv").read_text()


@pytest.mark.parametrize("part", ["Training", "Test"])
def test_tables_and_files_name_the_same_images(phantom, part):
    files = sorted(file.stem for file in (phantom / f"ISIC_2019_{part}_Input").glob("*.jpg"))
    truth = table(phantom / f"ISIC_2019_{part}_GroundTruth.csv")
    meta = table(phantom / f"ISIC_2019_{part}_Metadata.csv")
    assert files == sorted(row["image"] for row in truth) == sorted(row["image"] for row in meta)
    assert all(name.startswith("ISIC_9") and len(name.removesuffix("_downsampled")) == 12 for name in files)
    assert 0 < sum(name.endswith("_downsampled") for name in files) < len(files) / 2
    for row in truth:
        assert sorted(row[label] for label in (*CLASSES, "UNK")) == ["0.0"] * 8 + ["1.0"]
        assert row["UNK"] == "0.0"


def test_parts_share_no_id_and_no_lesion(phantom):
    train = {file.name[:12] for file in (phantom / "ISIC_2019_Training_Input").iterdir()}
    test = {file.name[:12] for file in (phantom / "ISIC_2019_Test_Input").iterdir()}
    assert not train & test
    assert len(test) == TESTS


def test_metadata_are_missing_as_in_real_life(phantom):
    rows = table(phantom / "ISIC_2019_Training_Metadata.csv")
    missing = {key: sum(not row[key] for row in rows) / len(rows) for key in rows[0]}
    assert missing["image"] == 0
    assert 0.04 < missing["lesion_id"] < 0.12
    assert all(0 < missing[key] < 0.2 for key in ("age_approx", "anatom_site_general", "sex"))
    assert all(float(row["age_approx"]) % 5 == 0 for row in rows if row["age_approx"])
    assert {row["sex"] for row in rows} == {"male", "female", ""}


def test_lesions_have_one_class_and_up_to_four_images(phantom):
    label = {
        row["image"]: next(name for name in CLASSES if row[name] == "1.0")
        for row in table(phantom / "ISIC_2019_Training_GroundTruth.csv")
    }
    groups: dict[str, list[str]] = {}
    for row in table(phantom / "ISIC_2019_Training_Metadata.csv"):
        if row["lesion_id"]:
            groups.setdefault(row["lesion_id"], []).append(label[row["image"]])
    assert all(len(set(labels)) == 1 for labels in groups.values())
    assert set(Counter(len(labels) for labels in groups.values())) == {1, 2, 3, 4}
    hidden = len(label) - sum(map(len, groups.values()))
    assert len(groups) + hidden == LESIONS, "a hidden lesion has one image, so that no group is lost"


@pytest.mark.parametrize("total", [0, 3, 8, 20, 64, 65, 400, 25331])
def test_class_counts_follow_isic_with_a_floor(total):
    counts = class_counts(total)
    assert tuple(counts) == CLASSES
    assert sum(counts.values()) == total
    assert min(counts.values()) >= (4 if total >= 64 else int(total >= 8))
    if total >= 20:
        assert max(counts, key=counts.__getitem__) == "NV"
        assert counts["NV"] > 3 * counts["DF"]


def test_distinct_lesions_are_never_merged(phantom):
    lesion = {}
    for row in table(phantom / "ISIC_2019_Training_Metadata.csv"):
        lesion[row["image"]] = row["lesion_id"] or row["image"]
    files = sorted((phantom / "ISIC_2019_Training_Input").glob("*.jpg"))
    thumbs = [np.asarray(Image.open(file).convert("L").resize((64, 64), Image.Resampling.LANCZOS)) for file in files]
    stacked = np.stack(thumbs)
    for pair in near_duplicates(fingerprints(stacked), lambda rows: stacked[rows]):
        assert lesion[files[pair.i].stem] == lesion[files[pair.j].stem], f"{files[pair.i]} and {files[pair.j]} merged"


def test_every_image_says_that_it_is_synthetic(phantom):
    for file in phantom.rglob("*.jpg"):
        with Image.open(file) as image:
            assert image.size == (SIZE, SIZE)
            assert image.mode == "RGB"
            assert b"SYNTHETIC" in image.info["comment"]
            assert "SYNTHETIC" in image.getexif()[0x010E]
    assert (phantom / "README.txt").read_text().startswith("SYNTHETIC phantom images, not patients")


def test_same_seed_same_bytes_other_seed_other_images(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate(tmp_path / name, lesions=8, test_images=2, size=32, seed=seed)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    here, there = ({file.read_bytes() for file in (tmp_path / name).rglob("*.jpg")} for name in ("a", "c"))
    assert not here & there


def test_a_photograph_depends_on_its_key_alone():
    first = photograph(3, 5, 1, "MEL", 40)
    photograph(3, 4, 0, "NV", 40)
    np.random.default_rng().random(3)
    np.testing.assert_array_equal(photograph(3, 5, 1, "MEL", 40), first)
    assert not np.array_equal(photograph(3, 5, 2, "MEL", 40), first), "another shot of the lesion"
    assert not np.array_equal(photograph(3, 6, 1, "MEL", 40), first), "another lesion"


@pytest.mark.parametrize("label", CLASSES)
def test_size_changes_the_sharpness_not_the_picture(label):
    """The lesion drawn at another size is the same lesion: no draw depends on the number of pixels."""
    large = Image.fromarray(photograph(3, 5, 0, label, 256)).resize((64, 64), Image.Resampling.BOX)
    small = Image.fromarray(photograph(3, 5, 0, label, 64))
    a, b = (np.asarray(image.convert("L"), dtype=float).reshape(-1) for image in (large, small))
    assert np.corrcoef(a, b)[0, 1] > 0.9


def test_a_smaller_phantom_leaves_no_strays(tmp_path):
    for lesions, tests in ((20, 3), (8, 0)):
        generate(tmp_path, lesions=lesions, test_images=tests, size=32, seed=0)
    names = {row["image"] for row in table(tmp_path / "ISIC_2019_Training_GroundTruth.csv")}
    assert {file.stem for file in tmp_path.rglob("*.jpg")} == names
    assert table(tmp_path / "ISIC_2019_Test_GroundTruth.csv") == []


def test_real_isic_files_are_left_alone(tmp_path):
    (tmp_path / "ISIC_2019_Training_Input").mkdir()
    with pytest.raises(DataError, match="not a phantom's"):
        generate(tmp_path, lesions=8, test_images=0, size=32, seed=0)
    with pytest.raises(DataError, match="holds no phantom"):
        contact_sheet(tmp_path, tmp_path / "sheet.png")


@pytest.mark.parametrize(
    ("key", "value"), [("lesions", 7), ("lesions", 500_000), ("test_images", -1), ("size", 31), ("size", 513)]
)
def test_impossible_numbers_are_refused_before_anything_is_written(tmp_path, key, value):
    numbers = {"lesions": 8, "test_images": 0, "size": 32} | {key: value}
    with pytest.raises(ConfigError, match=rf"{key} is {value}, must be in"):
        generate(tmp_path / "out", seed=0, **numbers)
    assert not (tmp_path / "out").exists()


def test_contact_sheet_has_a_row_a_class(phantom, tmp_path):
    contact_sheet(phantom, tmp_path / "deep" / "sheet.png")
    with Image.open(tmp_path / "deep" / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.height > len(CLASSES) * SIZE
        assert sheet.width > 10 * SIZE


def test_mean_colour_does_not_tell_the_classes_but_structure_does():
    """Nearest class mean, in whitened features: a linear rule with nothing to tune."""
    shots, size = 36, 48
    images = np.stack(
        [photograph(9, c * 1000 + k, 0, label, size) for c, label in enumerate(CLASSES) for k in range(shots)]
    )
    labels = np.repeat(np.arange(len(CLASSES)), shots)
    test = np.arange(len(images)) % 2 == 1
    colour = images.reshape(len(images), -1, 3).mean(axis=1) / 255.0
    blocks = images.reshape(len(images), 16, size // 16, 16, size // 16, 3).mean(axis=(2, 4)) / 255.0
    rings = np.clip(np.hypot(*(np.indices((16, 16)) - 7.5)) // 2, 0, 4).astype(int)
    radial = [blocks[:, rings == ring] for ring in range(5)]
    structure = np.concatenate([f for ring in radial for f in (ring.mean(axis=1), ring.std(axis=1))], axis=1)

    def accuracy(features: np.ndarray) -> float:
        means = np.stack([features[~test & (labels == c)].mean(axis=0) for c in range(len(CLASSES))])
        spread = np.cov((features - means[labels])[~test].T) + 1e-5 * np.eye(features.shape[1])
        away = features[test][:, None] - means[None]
        distance = np.einsum("ncf,fg,ncg->nc", away, np.linalg.inv(spread), away)
        return float((distance.argmin(axis=1) == labels[test]).mean())

    by_colour, by_structure = accuracy(colour), accuracy(structure)
    assert by_colour < 0.40, "chance is 0.125"
    assert by_structure > by_colour + 0.2
