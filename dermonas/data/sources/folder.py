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
from dermonas.data.text import optional_text, repeated
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
    found: list[pd.DataFrame] = []
    for official, part in parts.items() if parts else [(None, folder)]:
        rows = _list_classes(folder, part, notes).assign(official=official)
        if official not in (None, "train") and rows["label"].isna().all():
            notes[f"{part.name}_ignored"] = f"{len(rows)} unlabelled images"  # ImageNet's test archive
            continue
        found.append(rows)
    frame = pd.concat(found, ignore_index=True).assign(lesion=None, extra=False)
    if set(frame["official"]) == {"train", "validation"}:
        frame["official"] = frame["official"].replace("validation", "test")
        notes["test"] = "the validation folder: there is no test folder"
    _refuse_unknown_classes(frame)
    return Listing(frame, folder, class_order(frame["label"].dropna().unique()), {}, notes)


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


def _list_classes(root: Path, folder: Path, notes: dict[str, Any]) -> pd.DataFrame:
    """List path (relative to root) and label (class or None) below a folder that is flat or holds class folders."""
    images, others = files_below(folder)
    name = folder.relative_to(root).as_posix()
    prefix = "" if name == "." else f"{name}/"
    if not images:
        raise DataError(f"{folder} holds no image (.jpg, .png, ...): give the folder that holds them (--root FOLDER)")
    if others:
        notes[f"{name}_other_files"] = [prefix + path for path in others]
    paths = pd.Series(images, dtype="str")
    del images  # of a million paths 120 MB
    flat = ~paths.str.contains("/", regex=False)
    frame = pd.DataFrame({"path": prefix + paths, "label": pd.Series(None, paths.index, dtype=object)})
    if flat.all():
        return frame
    if flat.any():
        raise DataError(f"{folder} holds images beside class folders ({few(paths[flat])}): move them")
    frame["label"] = optional_text(paths.str.replace(r"(?s)/.*", "", regex=True))
    empty = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    empty -= set(frame["label"])
    if empty:
        notes[f"{name}_empty_classes"] = sorted(empty)
    _refuse_two_classes(folder, paths, frame["label"])
    return frame


def _refuse_two_classes(folder: Path, images: pd.Series, labels: pd.Series) -> None:
    """Refuse an image id that lies in two class folders; running numbers count only when the files are the same."""
    # Patterns that Arrow knows: pandas makes an object of every path for others.
    stems = images.str.replace(r"(?s)^.*/", "", regex=True).str.replace(r"(?s)(.)\.[^.]*$", r"\1", regex=True)
    twice = repeated(stems)
    places: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for stem, path, label in zip(stems[twice], images[twice], labels[twice], strict=True):
        places[stem].append((path, label))
    faults = []
    for stem, found in places.items():
        if len({label for _, label in found}) < 2:
            continue
        if not _RUNNING.match(stem) or _same_file_in_two_classes(folder, found):
            faults.append(" and ".join(path for path, _ in found))
    if faults:
        raise LabelError(f"{folder} has an image id in two class folders: {few(faults)}; keep each image in one class")


def _same_file_in_two_classes(folder: Path, found: list[tuple[str, str]]) -> bool:
    classes: defaultdict[str, set[str]] = defaultdict(set)
    sizes = pd.Series([(folder / path).stat().st_size for path, _ in found])
    for path, label in (item for item, twin in zip(found, sizes.duplicated(keep=False), strict=True) if twin):
        try:
            classes[hashlib.sha256((folder / path).read_bytes()).hexdigest()].add(label)
        except OSError:
            continue  # the inspection reports it
    return any(len(labels) > 1 for labels in classes.values())


def _refuse_unknown_classes(frame: pd.DataFrame) -> None:
    train = frame.loc[frame["official"].isna() | (frame["official"] == "train"), "label"]
    unknown = sorted(set(frame["label"].dropna().unique()) - set(train.dropna().unique()))
    if unknown and train.notna().any():
        raise LabelError(f"class folder {few(unknown)} is held out but not in train: add it there or remove it")
