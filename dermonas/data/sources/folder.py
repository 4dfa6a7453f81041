"""Class folders (ImageNet's wnid folders included), with or without split folders; or a flat folder.

root/train/CLASS/*.jpg  root/test/CLASS/*.jpg   test is the test set, validation is cut from train
root/train/CLASS/*.jpg  root/val/CLASS/*.jpg    val is the test set, validation is cut from train
root/CLASS/*.jpg                                split by us
root/*.jpg                                      unlabelled: all of it is for the search
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from dermonas.data.sources.listing import Listing, class_order, existing_root, few, files_below
from dermonas.errors import DataError, LabelError

_ROLES = {"train": "train", "training": "train", "val": "validation", "valid": "validation",
          "validation": "validation", "test": "test", "testing": "test"}  # fmt: skip
# 0001, img_12, image-3: numbers that each class folder starts again, as CIFAR and Caltech exports do. Longer numbers
# and other names (ISIC_0000001, n01440764_10150) name one image the world over.
_RUNNING = re.compile(r"(?:(?:img|image|im|pic|photo|frame)[-_ ]?)?\d{1,5}$", re.IGNORECASE)


def list_folder(root: Path | None) -> Listing:
    """List a folder of images.

    Returns:
        `official` is "train" or "test" where split folders say so, "validation" only where both a validation and a
        test folder are there. Flat folders are unlabelled.

    Raises:
        DataError: no image, or images beside class folders.
        LabelError: one image id in two class folders, or a held-out class that train does not have.
    """
    folder = existing_root(root, "folder")
    notes: dict[str, Any] = {}
    parts = _split_folders(folder)
    rows: list[tuple[str, str | None, str | None]] = []
    if not parts:
        rows = [(path, label, None) for path, label in _list_classes(folder, folder, notes)]
    for official, part in parts.items():
        found = _list_classes(folder, part, notes)
        if official != "train" and all(label is None for _, label in found):
            notes[f"{part.name}_ignored"] = f"{len(found)} unlabelled images"  # ImageNet's test archive
            continue
        rows.extend((path, label, official) for path, label in found)
    if {official for _, _, official in rows} == {"train", "validation"}:
        rows = [(path, label, "test" if official == "validation" else official) for path, label, official in rows]
        notes["test"] = "the validation folder: there is no test folder"
    _refuse_unknown_classes(rows)
    frame = pd.DataFrame(rows, columns=["path", "label", "official"]).assign(lesion=None, extra=False)
    labels = [label for _, label, _ in rows if label is not None]
    return Listing(frame, folder, class_order(labels), {}, notes)


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the split folders by role, train first; none when there is no train folder."""
    found: dict[str, Path] = {}
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        role = _ROLES.get(path.name.lower())
        if role is None:
            continue
        if role in found:
            raise DataError(f"{root} holds both {found[role].name}/ and {path.name}/: keep one {role} folder")
        found[role] = path
    if "train" not in found:
        return {}
    return {role: found[role] for role in ("train", "validation", "test") if role in found}


def _list_classes(root: Path, folder: Path, notes: dict[str, Any]) -> list[tuple[str, str | None]]:
    """List (path relative to root, class or None) below a folder that is flat or holds class folders."""
    images, others = files_below(folder)
    name = folder.relative_to(root).as_posix()
    if not images:
        raise DataError(f"{folder} holds no image (.jpg, .png, ...): give the folder that holds them (--root FOLDER)")
    if others:
        notes[f"{name}_other_files"] = [path.relative_to(root).as_posix() for path in others[:20]]
    flat = [path for path in images if path.parent == folder]
    if len(flat) == len(images):
        return [(path.relative_to(root).as_posix(), None) for path in images]
    if flat:
        raise DataError(f"{folder} holds images beside class folders ({few(path.name for path in flat)}): move them")
    labels = [path.relative_to(folder).parts[0] for path in images]
    empty = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")} - set(labels)
    if empty:
        notes[f"{name}_empty_classes"] = sorted(empty)
    _refuse_two_classes(folder, images, labels)
    return [(path.relative_to(root).as_posix(), label) for path, label in zip(images, labels, strict=True)]


def _refuse_two_classes(folder: Path, images: list[Path], labels: list[str]) -> None:
    """Refuse an image id that lies in two class folders; running numbers count only when the files are the same."""
    places: defaultdict[str, list[tuple[Path, str]]] = defaultdict(list)
    for path, label in zip(images, labels, strict=True):
        places[path.stem].append((path, label))
    faults = []
    for stem, found in places.items():
        if len({label for _, label in found}) < 2:
            continue
        if not _RUNNING.match(stem) or _same_file_in_two_classes(found):
            faults.append(" and ".join(path.relative_to(folder).as_posix() for path, _ in found))
    if faults:
        raise LabelError(f"{folder} has an image id in two class folders: {few(faults)}; keep each image in one class")


def _same_file_in_two_classes(found: list[tuple[Path, str]]) -> bool:
    classes: defaultdict[str, set[str]] = defaultdict(set)
    sizes = pd.Series([path.stat().st_size for path, _ in found])
    for path, label in (item for item, twin in zip(found, sizes.duplicated(keep=False), strict=True) if twin):
        try:
            classes[hashlib.sha256(path.read_bytes()).hexdigest()].add(label)
        except OSError:
            continue  # the inspection reports it
    return any(len(labels) > 1 for labels in classes.values())


def _refuse_unknown_classes(rows: list[tuple[str, str | None, str | None]]) -> None:
    train = {label for _, label, official in rows if official in ("train", None)}
    unknown = sorted({label for _, label, _ in rows if label is not None} - train)
    if unknown and train != {None}:
        raise LabelError(f"class folder {few(unknown)} is held out but not in train: add it there or remove it")
