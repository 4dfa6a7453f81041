"""The official ISIC 2019 layout: image folders beside GroundTruth and Metadata tables.

Training_Input is split here; Test_Input is the challenge's own test set, whose images the papers
search on without labels. It is never the held-out test split of this project.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dermonas.data.sources.listing import LISTING_COLUMNS, Listing, class_order, existing_root, few, files_below
from dermonas.data.sources.tables import plain_id, read_labels, read_table
from dermonas.data.text import optional_text
from dermonas.errors import DataError, LabelError

_SPLITS = ("Training", "Test")


def list_isic(root: Path | None) -> Listing:
    """List an ISIC folder.

    Args:
        root: Holds `*_Training_Input` and, each optional, `*_Training_GroundTruth.csv`, `*_Training_Metadata.csv`,
            `*_Test_Input`, `*_Test_GroundTruth.csv`, `*_Test_Metadata.csv`.

    Returns:
        Rows of Training_Input (label None throughout when there is no GroundTruth), and rows of Test_Input with
        `extra` set. A table row whose image is not on disk goes to `missing`.

    Raises:
        DataError: no image folder.
        LabelError: a table contradicts itself, an image has no row, two files share an id, or GroundTruth names an
            id that neither the images nor Metadata know.
    """
    folder = existing_root(root, "isic")
    notes: dict[str, Any] = {}
    missing: list[tuple[str, str]] = []
    parts = [_list_part(folder, split, notes, missing) for split in _SPLITS]
    found = [part for part in parts if part is not None]
    if not found:
        raise DataError(f"{folder} holds no ISIC image folder: expected ISIC_2019_Training_Input (see README, prepare)")
    frame = pd.concat(found, ignore_index=True)
    names = frame.loc[~frame["extra"], "label"].dropna()
    tags = {"transductive": True} if frame["extra"].any() else {}
    return Listing(frame, folder, class_order(names), tags, notes, tuple(missing))


def _list_part(root: Path, split: str, notes: dict[str, Any], missing: list[tuple[str, str]]) -> pd.DataFrame | None:
    """List one of Training and Test; None when its image folder is not there, or empty for Test."""
    images_folder = _one(root, f"*_{split}_Input", folder=True)
    if images_folder is None:
        return None
    images, others = files_below(images_folder)
    if not images and split == "Test":
        return None
    if not images:
        raise DataError(f"{images_folder} holds no .jpg, .jpeg or .png image: unpack the official archive there")
    if others:
        notes[f"{split.lower()}_other_files"] = [f"{images_folder.name}/{path}" for path in others]
    ids = [plain_id(path.rpartition("/")[2]) for path in images]
    _refuse_twins(images, ids)
    metadata_path = _one(root, f"*_{split}_Metadata.csv")
    truth_path = _one(root, f"*_{split}_GroundTruth.csv")
    metadata = read_table(metadata_path) if metadata_path is not None else None
    frame = pd.DataFrame({"path": [f"{images_folder.name}/{path}" for path in images], "id": ids})
    frame["label"] = _labels(truth_path, ids, images, metadata, split, notes, missing)
    frame["lesion"] = None
    frame["official"] = None
    frame["extra"] = split == "Test"
    if metadata is not None:
        frame = _join_metadata(frame, metadata)
        unmatched = len(set(ids) - set(metadata["id"]))
        if unmatched:
            notes[f"{split.lower()}_without_metadata"] = unmatched
    return frame.drop(columns="id")


def _labels(
    truth: Path | None,
    ids: list[str],
    images: list[str],
    metadata: pd.DataFrame | None,
    split: str,
    notes: dict[str, Any],
    missing: list[tuple[str, str]],
) -> list[str | None]:
    if truth is None:
        notes[f"{split.lower()}_labels"] = "none"
        return [None] * len(ids)
    table, _ = read_labels(truth)
    by_id = dict(zip(table["id"], table["label"], strict=True))
    orphans = [path.rpartition("/")[2] for path, image_id in zip(images, ids, strict=True) if image_id not in by_id]
    if orphans:
        raise LabelError(f"{truth.name} has no row for the image {few(orphans)}: add the row or remove the file")
    absent = table[~table["id"].isin(ids)]
    if metadata is not None:
        # An id that Metadata knows is an image that was not copied; one that nothing knows is a wrong table.
        unknown = absent[~absent["id"].isin(metadata["id"])]
        if len(unknown):
            rows = few(f"{name} (line {line})" for name, line in zip(unknown["image"], unknown["line"], strict=True))
            raise LabelError(f"{truth.name} names an unknown image id: {rows}; no image and no Metadata row has it")
    for name, line in zip(absent["image"], absent["line"], strict=True):
        missing.append((str(name), f"no image file ({truth.name} line {line})"))
    unlabelled = sum(by_id[image_id] is None for image_id in ids)
    if unlabelled:
        notes[f"{split.lower()}_unknown_class"] = unlabelled
    return [by_id[image_id] for image_id in ids]


def _join_metadata(frame: pd.DataFrame, metadata: pd.DataFrame) -> pd.DataFrame:
    columns = [column for column in metadata.columns if column not in ("image", "line", "id")]
    renamed = {column: f"meta_{column}" for column in columns if column in LISTING_COLUMNS}
    part = metadata[["id", *columns]].rename(columns=renamed)
    joined = frame.merge(part, on="id", how="left", validate="one_to_one")
    for column in (renamed.get(column, column) for column in columns):
        joined[column] = optional_text(joined[column].replace("", None))
    if "age_approx" in joined.columns:
        joined["age_approx"] = pd.to_numeric(joined["age_approx"], errors="coerce").astype(np.float64)
    if "lesion_id" in joined.columns:
        joined["lesion"] = joined["lesion_id"]
    return joined


def _refuse_twins(images: Iterable[str], ids: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for path, image_id in zip(images, ids, strict=True):
        if image_id in seen:
            names = " and ".join(found.rpartition("/")[2] for found in (seen[image_id], path))
            raise LabelError(f"image id {image_id} has two files, {names}: remove one")
        seen[image_id] = path


def _one(root: Path, pattern: str, *, folder: bool = False) -> Path | None:
    """Return the one file or folder that matches; None when there is none."""
    found = sorted(path for path in root.glob(pattern) if path.is_dir() == folder)
    if len(found) > 1:
        raise DataError(f"{root} holds {few(path.name for path in found)}: keep one of them")
    return found[0] if found else None
