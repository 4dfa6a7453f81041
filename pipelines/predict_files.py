"""Which images `predict` answers about: names, none of which leads out of its folder."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from dermonas.data.manifest import read_manifest
from dermonas.data.sources.listing import files_below
from dermonas.errors import ConfigError

_PATH = "path"  # column of a CSV file


@dataclass(frozen=True)
class Listed:
    """Names of images below a folder.

    Attributes:
        root: The folder.
        names: Relative, with "/".
    """

    root: Path
    names: tuple[str, ...]

    def digest(self) -> str:
        """Return 16 hex digits over names, sizes and times of change: by which parts of an earlier run are known."""
        found = sha256(str(self.root.resolve()).encode())
        for name in self.names:
            try:
                seen = (self.root / name).stat()
                found.update(f"{name}\0{seen.st_size}\0{seen.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
            except OSError:
                found.update(f"{name}\0absent\n".encode("utf-8", "surrogateescape"))
        return found.hexdigest()[:16]


def listed(images: Path, split: str) -> Listed:
    """List images.

    Args:
        images: A folder of images, a folder that prepare wrote, or a CSV file.
        split: Of a folder that prepare wrote.

    Raises:
        ConfigError: There is none, or a name leads out of its folder; names the row.
    """
    if (images / "manifest.json").is_file():
        manifest = read_manifest(images)
        rows = manifest.frame if split == "all" else manifest.split_frame(split)
        found = Listed(manifest.root, tuple(rows["path"]))
    elif images.is_dir():
        found = Listed(images, tuple(files_below(images)[0]))
    elif images.is_file():
        found = Listed(images.parent, tuple(_column(images)))
    else:
        raise ConfigError(f"images {images} is neither a folder nor a CSV file")
    if split != "all" and not (images / "manifest.json").is_file():
        raise ConfigError(f"split {split} is given, and {images} was not written by prepare")
    if not found.names:
        raise ConfigError(f"images {images} holds no image")
    root = found.root.resolve()
    for row, name in enumerate(found.names):
        _check(root, name, row, images)
    return found


def _column(file: Path) -> list[str]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as content:
            rows = csv.DictReader(content)
            if _PATH not in (rows.fieldnames or ()):
                raise ConfigError(f"images {file} has no column {_PATH!r}")
            return [row[_PATH] or "" for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"images {file} cannot be read as a CSV file ({error})") from error


def _check(root: Path, name: str, row: int, images: Path) -> None:
    """Refuse a name that is no plain one below the folder, or a link that leads elsewhere."""
    parts = name.replace("\\", "/").split("/")
    plain = name and not name.startswith(("/", "\\")) and ":" not in parts[0] and ".." not in parts and "\0" not in name
    if not plain or not (root / name).resolve().is_relative_to(root):
        raise ConfigError(f"images {images}: row {row}: the name {name[:80]!r} leads out of {root}")
