"""The manifest's files: what they keep, what the digest covers, and how damage is told."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermonas.data.manifest import Manifest, read_manifest, write_manifest
from dermonas.errors import DataError, StorageError

DIGEST = "55309bcb80e1a1d64b986b020c84cf6e10e435de22e723a86291d85c74e1d00c"


def _frame(count: int = 6) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": [f"images/{index:03d}.jpg" for index in range(count)],
            "label": pd.Series(["NV", "MEL", None, "NV", "MEL", "NV"][:count], dtype=object),
            "group": [f"g{index // 2}" for index in range(count)],
            "split": pd.Series(["train", "train", None, "validation", "test", "train"][:count], dtype=object),
            "search": [True, True, False, False, False, True][:count],
            "sha256": [f"{index:064x}" for index in range(count)],
            "phash": [f"{index:016x}" for index in range(count)],
            "width": 600,
            "height": 450,
            "age_approx": [50.0, np.nan, 60.0, 70.0, 80.0, 5.0][:count],
            "sex": ["female", None, "male", "male", None, "female"][:count],
        }
    )


def _manifest(frame: pd.DataFrame | None = None, root: Path = Path("/images")) -> Manifest:
    return Manifest(
        _frame() if frame is None else frame, root, ("MEL", "NV"), "isic2019", "isic", tags={"transductive": True}
    )


def test_round_trip(tmp_path: Path) -> None:
    manifest = _manifest()
    write_manifest(manifest, tmp_path)
    back = read_manifest(tmp_path)
    pd.testing.assert_frame_equal(back.frame, manifest.frame)
    assert back.frame["label"].tolist()[2] is None
    assert back.frame["split"].tolist()[2] is None
    assert (back.root, back.classes, back.dataset, back.source) == (manifest.root, ("MEL", "NV"), "isic2019", "isic")
    assert back.tags == {"transductive": True}
    assert back.synthetic is False
    assert back.digest == manifest.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "manifest.parquet"]


def test_round_trip_without_labels_or_splits(tmp_path: Path) -> None:
    manifest = _manifest(_frame().assign(label=None, split=None, sex=None))
    write_manifest(manifest, tmp_path)
    back = read_manifest(tmp_path)
    assert back.digest == manifest.digest
    assert back.frame["label"].tolist() == [None] * 6


def test_digest_is_known() -> None:
    # Pinned: a change would silently disown every manifest and cache already written.
    assert _manifest().digest == DIGEST


def test_digest_ignores_row_order_place_and_metadata() -> None:
    manifest = _manifest()
    assert _manifest(_frame().iloc[::-1]).digest == manifest.digest
    assert _manifest(root=Path("/elsewhere")).digest == manifest.digest
    assert _manifest(_frame().assign(sex="male", width=1)).digest == manifest.digest


@pytest.mark.parametrize("column", ["path", "label", "group", "split", "search", "sha256"])
def test_digest_covers_what_matters(column: str) -> None:
    frame = _frame()
    frame.loc[0, column] = False if column == "search" else "other"
    assert _manifest(frame).digest != _manifest().digest


def test_digest_covers_class_order() -> None:
    assert Manifest(_frame(), Path("/images"), ("NV", "MEL"), "isic2019", "isic").digest != _manifest().digest


def test_missing_and_empty_text_differ() -> None:
    assert _manifest(_frame().assign(label="")).digest != _manifest(_frame().assign(label=None)).digest


def test_views_of_the_rows() -> None:
    manifest = _manifest()
    assert manifest.search_frame().index.tolist() == [0, 1, 5]
    assert manifest.split_frame("train").index.tolist() == [0, 1, 5]
    assert manifest.label_indices().tolist() == [1, 0, -1, 1, 0, 1]
    assert manifest.label_indices(manifest.split_frame("test")).tolist() == [0]
    assert manifest.paths(manifest.split_frame("test")) == [Path("/images/images/004.jpg")]
    with pytest.raises(ValueError, match="split is 'val'"):
        manifest.split_frame("val")


def test_a_root_inside_the_folder_moves_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "before"
    write_manifest(_manifest(root=folder / "phantom"), folder)
    folder.rename(tmp_path / "after")
    assert read_manifest(tmp_path / "after").root == tmp_path / "after" / "phantom"


def test_missing_files_say_to_prepare(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.parquet and no manifest\.json: run prepare with --out"):
        read_manifest(tmp_path)
    write_manifest(_manifest(), tmp_path)
    (tmp_path / "manifest.parquet").unlink()
    with pytest.raises(DataError, match=r"has no manifest\.parquet: run prepare"):
        read_manifest(tmp_path)


def test_damaged_parquet(tmp_path: Path) -> None:
    table, _ = write_manifest(_manifest(), tmp_path)
    data = table.read_bytes()
    for content in (b"", data[: len(data) // 2], b"PAR1" + b"\x00" * 100 + b"PAR1"):
        table.write_bytes(content)
        with pytest.raises(DataError, match=r"manifest\.parquet is damaged .*: run prepare again"):
            read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}'])
def test_damaged_json(tmp_path: Path, text: str) -> None:
    _, facts = write_manifest(_manifest(), tmp_path)
    facts.write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json (is damaged|has no key)"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("classes", ["NV", "MEL"], "does not match the digest"),
        ("digest", "0" * 64, "does not match the digest"),
        ("rows", 7, "does not match the digest"),
        ("format", 99, "has format 99, this version reads 1"),
        ("classes", 5, "wrong type"),
    ],
)
def test_edited_json(tmp_path: Path, key: str, value: object, message: str) -> None:
    _, facts = write_manifest(_manifest(), tmp_path)
    facts.write_text(json.dumps({**json.loads(facts.read_text()), key: value}))
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path)


def test_edited_rows(tmp_path: Path) -> None:
    table, _ = write_manifest(_manifest(), tmp_path)
    frame = pd.read_parquet(table)
    frame.loc[4, "split"] = "train"
    frame.to_parquet(table)
    with pytest.raises(DataError, match="does not match the digest"):
        read_manifest(tmp_path)
    frame.drop(columns="group").to_parquet(table)
    with pytest.raises(DataError, match="has no column group"):
        read_manifest(tmp_path)


def test_a_crash_between_the_two_files_is_noticed(tmp_path: Path) -> None:
    _, facts = write_manifest(_manifest(), tmp_path)
    old = facts.read_bytes()
    write_manifest(_manifest(_frame().assign(search=True)), tmp_path)
    facts.write_bytes(old)
    with pytest.raises(DataError, match="edited or half-written"):
        read_manifest(tmp_path)


def test_a_folder_that_is_a_file_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*: (Not a directory|File exists)"):
        write_manifest(_manifest(), tmp_path / "file" / "inside")
