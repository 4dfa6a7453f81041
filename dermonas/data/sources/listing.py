"""What every source returns, and the file and name rules that the sources share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from dermonas.data.text import ascending, optional_text
from dermonas.errors import DataError
from dermonas.imaging.decode import EXTENSIONS

ISIC_CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
"""ISIC 2019 order, that of the official table. Source: spec/csnas.md 6."""

LISTING_COLUMNS = ("path", "label", "lesion", "official", "extra")

_OTHERS = 20  # files of other kinds that are named


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of a source before any was opened.

    Attributes:
        frame: One row an image, sorted by path. Columns: `path` (str, relative to root, forward slashes),
            `label` (str or None), `lesion` (str or None: images of one lesion are one group), `official`
            ("train", "validation", "test" or None: the source's own split), `extra` (bool: belongs to an official
            search set outside train and test), then metadata columns.
        root: Folder that the paths are relative to.
        classes: Class names in label order; empty when nothing is labelled.
        tags: Facts for the manifest, e.g. {"transductive": True}.
        notes: Counts and facts for the report.
        missing: (path or id, reason) of images that a table lists and the disk does not hold.
    """

    frame: pd.DataFrame
    root: Path
    classes: tuple[str, ...]
    tags: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        frame = self.frame.astype({"path": "str"})
        if not ascending(frame["path"]):
            frame = frame.sort_values("path", kind="stable")
        frame = frame.reset_index(drop=True)
        for name in ("label", "lesion", "official"):
            frame[name] = optional_text(frame[name])
        object.__setattr__(self, "frame", frame.astype({"extra": bool}))


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Fix the label order: ISIC's for ISIC class names, alphabetical otherwise.

    Alphabetical order would put AK before MEL and disagree with every published ISIC table.
    """
    present = set(names)
    if present and present <= set(ISIC_CLASSES):
        return tuple(name for name in ISIC_CLASSES if name in present)
    return tuple(sorted(present))


def files_below(folder: Path) -> tuple[list[str], list[str]]:
    """List a folder's files at any depth; hidden files are skipped, links to folders not followed.

    An image is a file whose name ends as one (`imaging.decode.EXTENSIONS`); whether it opens is found later.

    Returns:
        The images, and the first 20 others; relative to the folder, forward slashes, sorted by their parts.

    Raises:
        DataError: a name is not UTF-8, so that no table could hold it.
    """
    images: list[str] = []
    others: list[str] = []
    for path in _walk(folder, ""):
        if PurePosixPath(path).suffix.lower() in EXTENSIONS:
            images.append(path)
        elif len(others) < _OTHERS:
            others.append(path)
    return images, others


def _walk(folder: Path, below: str) -> Iterator[str]:
    try:
        with os.scandir(folder / below) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except PermissionError:
        return
    for entry in entries:
        path = below + entry.name
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder, f"{path}/")
                continue
            if not entry.is_file():
                continue
            path.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{folder} holds a file whose name is not UTF-8: {path!a}; rename it") from error
        except OSError:  # a link to itself, for one
            continue
        yield path


def existing_root(root: Path | None, source: str) -> Path:
    """Return `root` as an absolute path, or raise DataError naming the key when it is not a folder."""
    if root is None:
        raise DataError(f"root is not set: source {source} needs the folder that holds the images (--root FOLDER)")
    if not root.is_dir():
        raise DataError(f"root {root} is not a folder: give the folder that holds the images (--root FOLDER)")
    return root.resolve()


def few(items: Iterable[object], limit: int = 5) -> str:
    """Join the first items for an error message, with a count of the rest."""
    texts = [str(item) for item in items]
    tail = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + tail
