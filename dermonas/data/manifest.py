"""The manifest: one row an image, what every later step reads instead of the disk.

Written as `manifest.parquet` (the rows) and `manifest.json` (what holds for all rows, and the digest). The
digest covers what an experiment depends on and no path of this machine, so equal digests mean equal data.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dermonas.data.text import ascending, optional_text
from dermonas.errors import DataError, StorageError

SPLITS = ("train", "validation", "test")
"""Split names. A row outside all three (split None) is unlabelled, an official search image, or set aside."""

COLUMNS = ("path", "label", "group", "split", "search", "sha256", "phash", "width", "height")
"""Columns of every manifest, in order; metadata columns follow."""

FORMAT = 1
"""Version of the files; a reader refuses another."""

_TEXT = ("path", "group", "sha256", "phash")  # each row has one: kept in Arrow, at a third of the memory of objects
_ROW_GROUP = 1 << 16  # rows written, read and digested at a time
_DIGESTED = ("path", "label", "group", "split", "search", "sha256")
_MEND = "run prepare again"


@dataclass(frozen=True, eq=False)
class Manifest:
    """A prepared data set.

    Attributes:
        frame: One row an image, sorted by path, index 0..n-1. Text that every row has is of dtype str, other text of
            dtype object with None where it is missing. `path` (str, relative to root, forward slashes),
            `label` (class name or None), `group` (str: rows that must stay on one side of a split), `split`
            (train, validation, test or None), `search` (bool), `sha256` (of the file), `phash` (16 hex digits),
            `width`, `height` (pixels, upright), then metadata.
        root: Folder that the paths are relative to.
        classes: Class names in label order.
        dataset: Name of the data set, e.g. "isic2019".
        source: "isic", "cifar", "folder" or "phantom".
        synthetic: Whether the images are generated (phantoms).
        tags: Further facts, e.g. {"transductive": True, "ungrouped": True}.
    """

    frame: pd.DataFrame
    root: Path
    classes: tuple[str, ...]
    dataset: str
    source: str
    synthetic: bool = False
    tags: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", _canonical(self.frame))

    @cached_property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) over classes and each row's path, label, group, split, search and sha256."""
        digest = hashlib.sha256(json.dumps([FORMAT, list(self.classes)]).encode())
        encode = json.JSONEncoder(ensure_ascii=True).encode
        for start in range(0, len(self.frame), _ROW_GROUP):
            part = self.frame.iloc[start : start + _ROW_GROUP]
            columns = [part[name].astype(object).tolist() for name in _DIGESTED]
            digest.update("".join(f"{encode(row)}\n" for row in zip(*columns, strict=True)).encode())
        return digest.hexdigest()

    def search_frame(self) -> pd.DataFrame:
        """Return the rows that the search sees, in manifest order, with the manifest's index."""
        return self.frame[self.frame["search"]]

    def split_frame(self, split: str) -> pd.DataFrame:
        """Return the rows of "train", "validation" or "test", in manifest order, with the manifest's index."""
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}, must be one of {', '.join(SPLITS)}")
        return self.frame[self.frame["split"] == split]

    def label_indices(self, frame: pd.DataFrame | None = None) -> np.ndarray:
        """Return each row's class number, int64 (n,), -1 where there is no label; of the whole manifest by default."""
        rows = self.frame if frame is None else frame
        return pd.Categorical(rows["label"], categories=self.classes).codes.astype(np.int64)

    def paths(self, frame: pd.DataFrame | None = None) -> list[Path]:
        """Return each row's file; of the whole manifest by default."""
        rows = self.frame if frame is None else frame
        return [self.root / path for path in rows["path"]]


def _canonical(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort by path and settle the column types, so that a frame is the same before and after a file."""
    absent = [name for name in COLUMNS if name not in frame.columns]
    if absent:
        raise DataError(f"manifest has no column {', '.join(absent)}: {_MEND}")
    extra = sorted(name for name in frame.columns if name not in COLUMNS)
    rows = frame[[*COLUMNS, *extra]]
    empty = [name for name in _TEXT if rows[name].isna().any()]
    if empty:
        raise DataError(f"manifest has a row without {', '.join(empty)}: {_MEND}")
    if not ascending(rows["path"]):
        rows = rows.sort_values("path", kind="stable")
    rows = rows.reset_index(drop=True)
    for name in ("label", "split", *(name for name in extra if not pd.api.types.is_numeric_dtype(rows[name]))):
        rows[name] = optional_text(rows[name])
    return rows.astype({**dict.fromkeys(_TEXT, "str"), "search": bool, "width": np.int32, "height": np.int32})


def write_manifest(manifest: Manifest, folder: Path) -> tuple[Path, Path]:
    """Write a manifest; a reader sees the old one or the new one, never a mixture.

    Args:
        manifest: What to write.
        folder: Made when absent.

    Returns:
        The paths of manifest.parquet and manifest.json.

    Raises:
        StorageError: the disk refuses.
    """
    table, facts = folder / "manifest.parquet", folder / "manifest.json"
    root = manifest.root.resolve()
    inside = root.is_relative_to(folder.resolve())
    content = {
        "format": FORMAT,
        "dataset": manifest.dataset,
        "source": manifest.source,
        # A root inside the folder is kept relative, so that the whole folder can be moved.
        "root": root.relative_to(folder.resolve()).as_posix() if inside else str(root),
        "classes": list(manifest.classes),
        "synthetic": manifest.synthetic,
        "tags": dict(manifest.tags),
        "rows": len(manifest.frame),
        "digest": manifest.digest,
    }
    fresh = [path.with_name(f".{path.name}.{os.getpid()}") for path in (table, facts)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_table(manifest.frame, fresh[0])
        fresh[1].write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        # The JSON last: until it is in place, its old digest disowns the new rows.
        fresh[0].replace(table)
        fresh[1].replace(facts)
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"cannot write {table}: {reason}; free space or choose another --out") from error
    finally:
        for path in fresh:
            with contextlib.suppress(OSError):  # where the folder is none, it must not hide the first error
                path.unlink(missing_ok=True)
    return table, facts


def _write_table(frame: pd.DataFrame, path: Path) -> None:
    empty = pa.Schema.from_pandas(frame.iloc[:0], preserve_index=False)
    # A part without any label would not tell that the column holds text.
    text = [pa.types.is_null(kind) or pa.types.is_large_string(kind) for kind in empty.types]
    fields = [pa.field(item.name, pa.string()) if plain else item for item, plain in zip(empty, text, strict=True)]
    schema = pa.schema(fields, metadata=empty.metadata)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, max(1, len(frame)), _ROW_GROUP):
            part = frame.iloc[start : start + _ROW_GROUP]
            writer.write_table(pa.Table.from_pandas(part, schema, preserve_index=False))


def read_manifest(folder: Path) -> Manifest:
    """Read what `write_manifest` wrote.

    Raises:
        DataError: missing, damaged, of another format, or edited since prepare wrote it.
    """
    table, facts = folder / "manifest.parquet", folder / "manifest.json"
    absent = [path.name for path in (table, facts) if not path.is_file()]
    if absent:
        raise DataError(f"{folder} has no {' and no '.join(absent)}: run prepare with --out {folder} first")
    content = _read_facts(facts)
    try:
        frame = pd.read_parquet(table)
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise DataError(f"{table} is damaged ({' '.join(str(error).split())}): {_MEND}") from error
    root = Path(content["root"])
    try:
        manifest = Manifest(
            frame=frame,
            root=root if root.is_absolute() else (folder / root).resolve(),
            classes=_names(content["classes"]),
            dataset=str(content["dataset"]),
            source=str(content["source"]),
            synthetic=bool(content["synthetic"]),
            tags=dict(content["tags"]),
        )
        digest = manifest.digest
    except DataError as error:
        raise DataError(f"{table}: {error}") from error
    except (TypeError, ValueError) as error:
        raise DataError(f"{table} or {facts.name} holds values of a wrong type ({error}): {_MEND}") from error
    if digest != content["digest"] or len(manifest.frame) != content["rows"]:
        raise DataError(f"{table} does not match the digest in {facts.name}: it was edited or half-written; {_MEND}")
    return manifest


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}): {_MEND}") from error
    keys = ("format", "dataset", "source", "root", "classes", "synthetic", "tags", "rows", "digest")
    absent = [key for key in keys if not isinstance(content, dict) or key not in content]
    if absent:
        raise DataError(f"{path} has no key {', '.join(absent)}: {_MEND}")
    if content["format"] != FORMAT:
        raise DataError(f"{path} has format {content['format']}, this version reads {FORMAT}: {_MEND}")
    return content


def _names(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
