"""`prepare` end to end on small folders with real faults in them."""

import csv
import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermonas.data import prepare as prepare_module
from dermonas.data.config import PrepareConfig, output_folder
from dermonas.data.manifest import read_manifest
from dermonas.data.prepare import prepare
from dermonas.errors import DataError, LabelError, StorageError
from dermonas.events import Silent

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
TRAINING = "ISIC_2019_Training_Input"


class Recorder(Silent):
    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def started(self, stage: str, total: int | None, info: Mapping[str, Any]) -> None:
        self.events.append(("started", (stage, total)))

    def artifact(self, path: Path, folder: str = "") -> None:
        self.events.append(("artifact", path.name))

    def finished(self, stage: str, metrics: Mapping[str, float]) -> None:
        self.events.append(("finished", dict(metrics)))


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., PrepareConfig]:
    def make(root: Path, source: str = "isic", **settings: Any) -> PrepareConfig:
        return PrepareConfig(
            **{"dataset": "x", "source": source, "root": root, "out": tmp_path / "out", "workers": 0, **settings}
        )

    return make


Config = Callable[..., PrepareConfig]


def _json(config: PrepareConfig, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output_folder(config) / name).read_text())
    return content


def _quarantine(config: PrepareConfig) -> dict[str, str]:
    with (output_folder(config) / "quarantine.csv").open() as file:
        return {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file)}


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _bomb(side: int = 20_000) -> bytes:
    rows = zlib.compress(b"\x00" * ((1 + side // 8) * side), 9)
    parts = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def test_thin_road(make_isic: Make, config: Config) -> None:
    settings = config(make_isic(lesions=[f"L{index // 2}" for index in range(30)]))
    recorder = Recorder()
    manifest = prepare(settings, recorder)
    assert read_manifest(output_folder(settings)).digest == manifest.digest
    assert manifest.classes == ("MEL", "NV", "BCC")
    assert manifest.frame["group"].nunique() == 15
    assert manifest.frame.groupby("group")["split"].nunique().max() == 1
    assert (manifest.search_frame()["split"] == "train").all()
    assert recorder.events[0] == ("started", ("prepare", 30))
    names = {name for event, name in recorder.events if event == "artifact"}
    assert names == {"manifest.parquet", "manifest.json", "report.json", "audit.json", "quarantine.csv"}
    metrics = recorder.events[-1][1]
    assert metrics["images"] == 30
    assert metrics["train"] + metrics["validation"] + metrics["test"] == 30
    assert metrics["largest_group"] == 2
    assert _quarantine(settings) == {}
    left = sorted(path.name for path in output_folder(settings).iterdir())
    assert left == ["audit.json", "manifest.json", "manifest.parquet", "quarantine.csv", "report.json"]


def test_every_fault_is_named_and_the_rest_is_used(make_isic: Make, config: Config, draw: Draw) -> None:
    labels = ("NV", "MEL") * 20
    root = make_isic(labels, ending=".png")
    images = root / TRAINING

    def replace(index: int, data: bytes) -> None:
        (images / f"ISIC_{index:07d}.png").write_bytes(data)

    exif = Image.Exif()
    exif[0x0112] = 6
    replace(0, b"")
    replace(1, _saved(draw(1), "PNG")[:200])
    replace(2, b"<html>404</html>")
    replace(3, _bomb())
    (images / "ISIC_0000004.png").unlink()
    (images / "ISIC_0000004.png").symlink_to(images / "ISIC_0000004.png.d" / "x")  # dangling: not a file
    replace(10, _saved(Image.fromarray(np.arange(0, 60000, 100, dtype=np.uint16).reshape(20, 30)), "PNG"))
    replace(11, _saved(draw(11).convert("CMYK"), "JPEG"))
    replace(12, _saved(draw(12).convert("L"), "PNG"))
    replace(13, _saved(draw(13).resize((30, 20)), "JPEG", exif=exif))
    settings = config(root)
    manifest = prepare(settings, Silent())
    reasons = _quarantine(settings)
    assert len(manifest.frame) == 35
    assert reasons["ISIC_0000000.png"] == "zero-byte file"
    assert reasons["ISIC_0000001.png"].startswith("truncated (")
    assert reasons["ISIC_0000002.png"] == "not an image (no known image format)"
    assert reasons["ISIC_0000003.png"].startswith("decompression bomb (")
    assert reasons["ISIC_0000004"].startswith("no image file (")
    report = _json(settings, "report.json")
    assert report["counts"]["quarantined"] == 5
    assert report["counts"]["quarantined_by_reason"] == {
        "decompression bomb": 1, "no image file": 1, "not an image": 1, "truncated": 1, "zero-byte file": 1,
    }  # fmt: skip
    notes = {Path(path).name: values for path, values in report["notes"].items()}
    assert notes == {
        "ISIC_0000010.png": ["16-bit", "greyscale"],
        "ISIC_0000011.png": ["CMYK"],
        "ISIC_0000012.png": ["greyscale"],
        "ISIC_0000013.png": ["EXIF-rotated"],
    }
    turned = manifest.frame[manifest.frame["path"].str.endswith("13.png")].iloc[0]
    assert (turned["width"], turned["height"]) == (20, 30)


def test_unreadable_file(make_isic: Make, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests may run as root, whom no permission stops: the refusal is the operating system's, replayed.
    root = make_isic()
    plain = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "ISIC_0000007.jpg":
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    settings = config(root)
    prepare(settings, Silent())
    assert _quarantine(settings) == {"ISIC_0000007.jpg": "unreadable (Permission denied)"}


def test_strict_fails_and_leaves_the_earlier_manifest(make_isic: Make, config: Config) -> None:
    root = make_isic()
    before = prepare(config(root), Silent()).digest
    (root / TRAINING / "ISIC_0000007.jpg").write_bytes(b"")
    settings = config(root, strict=True)
    with pytest.raises(DataError, match=r"1 images are quarantined, first .*ISIC_0000007\.jpg: zero-byte file; see"):
        prepare(settings, Silent())
    assert read_manifest(output_folder(settings)).digest == before
    assert list(_quarantine(settings)) == ["ISIC_0000007.jpg"]
    assert len(prepare(config(root), Silent()).frame) == 29


def test_nothing_usable(tmp_path: Path, config: Config) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for index in range(3):
        (root / f"{index}.jpg").write_text("no picture")
    settings = config(root, "folder")
    with pytest.raises(DataError, match=r"none of the 3 images in .* can be used, first 0\.jpg: not an image"):
        prepare(settings, Silent())
    assert sorted(path.name for path in output_folder(settings).iterdir()) == ["quarantine.csv"]


def test_a_listing_error_leaves_no_folder_behind(tmp_path: Path, config: Config) -> None:
    settings = config(tmp_path / "gone")
    with pytest.raises(DataError, match="is not a folder"):
        prepare(settings, Silent())
    assert not output_folder(settings).exists()


def test_label_fault_reaches_the_caller(make_isic: Make, config: Config) -> None:
    root = make_isic()
    (root / TRAINING / "ISIC_0000001.jpg").rename(root / TRAINING / "ISIC_5555555.jpg")
    with pytest.raises(LabelError, match=r"no row for the image ISIC_5555555\.jpg"):
        prepare(config(root), Silent())


def test_same_input_same_manifest_whatever_the_workers(make_isic: Make, config: Config, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from dermonas.data import inspection

    monkeypatch.setattr(inspection, "_FEW", 0)
    root = make_isic(("NV", "MEL") * 50)
    alone = prepare(config(root), Silent())
    several = prepare(config(root, workers=2, out=tmp_path / "second"), Silent())
    assert alone.frame.equals(several.frame)
    assert prepare(config(root, seed=1), Silent()).digest != alone.digest


def test_copies_share_a_group_and_a_split(make_isic: Make, config: Config, draw: Draw) -> None:
    root = make_isic(("NV", "MEL") * 20)
    images = root / TRAINING
    (images / "ISIC_0000001.jpg").write_bytes((images / "ISIC_0000000.jpg").read_bytes())  # the same file, other label
    draw(2, 96).resize((40, 50)).save(images / "ISIC_0000003.jpg", quality=60)  # resized and recompressed
    draw(2, 96).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(images / "ISIC_0000005.jpg")
    settings = config(root)
    frame = prepare(settings, Silent()).frame.set_index("path")
    group = {int(Path(path).stem[5:]): value for path, value in frame["group"].items()}
    assert group[0] == group[1]
    assert group[2] == group[3] == group[5]
    assert len(set(group.values())) == 37
    audit = _json(settings, "audit.json")
    assert audit["near_duplicate_pairs"] == 4
    assert audit["largest_group"]["images"] == 3
    assert audit["overlapping_groups"] == 0
    assert audit["label_conflicts"] == [f"{TRAINING}/ISIC_0000000.jpg and {TRAINING}/ISIC_0000001.jpg"]
    assert any("near-duplicates" in warning for warning in audit["warnings"])
    assert {"hamming", "correlation", "orientation", "first", "second"} <= set(audit["pairs"][0])


def test_identical_files_are_found_even_without_the_pixel_audit(make_isic: Make, config: Config) -> None:
    root = make_isic(("NV", "MEL") * 20)
    images = root / TRAINING
    (images / "ISIC_0000001.jpg").write_bytes((images / "ISIC_0000000.jpg").read_bytes())
    settings = config(root, near_duplicates=False)
    frame = prepare(settings, Silent()).frame
    assert frame["group"].nunique() == 39
    assert "near-duplicates were not looked for (near_duplicates is false)" in _json(settings, "audit.json")["warnings"]


def test_paper_split_is_by_image_and_marked(make_isic: Make, config: Config) -> None:
    settings = config(make_isic(lesions=[f"L{index // 5}" for index in range(30)]), split="paper")
    manifest = prepare(settings, Silent())
    assert manifest.tags["ungrouped"] is True
    audit = _json(settings, "audit.json")
    assert audit["overlapping_groups"] > 0
    assert any("ungrouped split" in warning for warning in audit["warnings"])
    counts = manifest.frame["split"].value_counts()
    assert (counts["train"], counts["validation"], counts["test"]) == (24, 2, 4)  # 20265 / 1290 / 3776 of 25331
    held = manifest.frame[manifest.frame["split"].isin(["validation", "test"])]["group"]
    assert not manifest.search_frame()["group"].isin(held).any()


def test_an_overlap_between_splits_is_an_error(
    make_isic: Make, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = prepare_module.assign_splits

    def careless(frame: Any, **settings: Any) -> Any:
        return plain(frame, **{**settings, "grouped": False})

    monkeypatch.setattr(prepare_module, "assign_splits", careless)
    settings = config(make_isic(lesions=[f"L{index // 5}" for index in range(30)]))
    with pytest.raises(DataError, match=r"group L\d and \d+ more lie in more than one split"):
        prepare(settings, Silent())
    assert not (output_folder(settings) / "manifest.json").exists()


def test_official_search_images_are_transductive_and_in_no_split(make_isic: Make, config: Config) -> None:
    manifest = prepare(config(make_isic(test_images=8)), Silent())
    assert manifest.tags == {"transductive": True}
    searched = manifest.search_frame()
    assert len(searched) == 8
    assert searched["split"].isna().all()
    assert searched["path"].str.startswith("ISIC_2019_Test_Input/").all()


def test_unlabelled_folder_is_all_for_the_search(make_classes: Make, config: Config) -> None:
    manifest = prepare(config(make_classes(".", 6), "folder"), Silent())
    assert manifest.classes == ()
    assert manifest.frame["search"].all()
    assert manifest.frame["split"].isna().all()


def test_official_test_folder(make_classes: Make, config: Config) -> None:
    for name in ("cat", "dog"):
        make_classes(f"train/{name}", 34)
        root = make_classes(f"test/{name}", 5)
    manifest = prepare(config(root, "folder"), Silent())
    assert manifest.frame["split"].value_counts().to_dict() == {"train": 64, "test": 10, "validation": 4}
    assert manifest.split_frame("test")["path"].str.startswith("test/").all()


def test_phantoms_are_drawn_once_and_say_so(tmp_path: Path) -> None:
    settings = PrepareConfig(
        out=tmp_path / "out", phantom_lesions=16, phantom_test_images=4, phantom_size=32, workers=0
    )
    manifest = prepare(settings, Silent())
    assert manifest.synthetic
    assert manifest.source == "phantom"
    assert len(manifest.search_frame()) == 4
    first = manifest.paths()[0]
    before = first.stat().st_mtime_ns
    assert prepare(settings, Silent()).digest == manifest.digest
    assert first.stat().st_mtime_ns == before
    other = PrepareConfig(**{**vars(settings), "phantom_seed": 1})
    assert prepare(other, Silent()).digest != manifest.digest


def test_second_prepare_in_the_same_folder_is_refused(make_isic: Make, config: Config) -> None:
    root = make_isic()
    settings = config(root)

    class Second(Silent):
        def started(self, stage: str, total: int | None, info: Mapping[str, Any]) -> None:
            with pytest.raises(DataError, match="another prepare is writing to"):
                prepare(settings, Silent())

    assert len(prepare(settings, Second()).frame) == 30


def test_out_that_cannot_be_a_folder(make_isic: Make, config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file/out: Not a directory; check the disk and permissions"):
        prepare(config(make_isic(), out=tmp_path / "file" / "out"), Silent())


def test_left_over_of_a_killed_prepare_is_removed(make_isic: Make, config: Config) -> None:
    settings = config(make_isic())
    (output_folder(settings) / ".prepare").mkdir(parents=True)
    (output_folder(settings) / ".prepare" / "thumbnails.npy").write_bytes(b"half")
    (output_folder(settings) / ".prepare.lock").touch()  # a lock file without an owner
    prepare(settings, Silent())
    assert not [path for path in output_folder(settings).iterdir() if path.name.startswith(".")]


def test_counts_as_sizes(make_isic: Make, config: Config) -> None:
    manifest = prepare(config(make_isic(), split_sizes=(20, 4, 6)), Silent())
    assert manifest.frame["split"].value_counts().to_dict() == {"train": 20, "test": 6, "validation": 4}
    with pytest.raises(DataError, match="sum to 29, but 30 labelled images are usable"):
        prepare(config(make_isic(name="again"), split_sizes=(19, 4, 6)), Silent())
