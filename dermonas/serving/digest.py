"""The digest over a packaged model's files: what the registry records and a loader checks before it loads."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from dermonas.errors import StorageError

STAMP = "registered_model_meta"
"""Written by MLflow beside MLmodel whenever a registered version is fetched: its name and version."""
_COMPILED = "__pycache__"  # written by the interpreter on import
_CHUNK = 1 << 20  # bytes


def files_digest(folder: Path) -> str:
    """Return SHA-256 (64 hex digits) over every file's path and SHA-256, sorted by path.

    Left out are MLflow's stamp (see `STAMP`) and compiled Python, which come and go as a model is fetched and loaded.

    Args:
        folder: Holds the MLmodel file.

    Raises:
        StorageError: It holds no model, a link, or a file that cannot be read.
    """
    if not (folder / "MLmodel").is_file():
        raise StorageError(f"{folder} holds no MLmodel file: it is no packaged model")
    total = hashlib.sha256()
    try:
        for relative, path in sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*")):
            if path.is_symlink():
                raise StorageError(f"{path} is a link: a packaged model holds files alone")
            if path.is_file() and relative != STAMP and _COMPILED not in relative.split("/"):
                total.update(f"{relative}\0{_sha256(path)}\n".encode())
    except OSError as error:
        raise StorageError(f"{folder} cannot be read: {error.strerror or error}") from error
    return total.hexdigest()


def verify(folder: Path, expected: str) -> None:
    """Refuse a fetched model whose files are not those that were registered.

    Call it before anything of the folder is imported. Compiled Python, which the digest does not cover, is removed:
    the interpreter would prefer it to the source that was checked.

    Args:
        folder: A copy of ours, never the artifact store itself.
        expected: The version's tag `dermonas.files_digest`.

    Raises:
        StorageError: The digests differ; says both.
    """
    for compiled in [path for path in folder.rglob(_COMPILED) if path.is_dir()]:
        shutil.rmtree(compiled)
    found = files_digest(folder)
    if found != expected:
        raise StorageError(
            f"{folder} is not what was registered: its files have digest {found[:16]}, the registry says "
            f"{expected[:16] or 'nothing'}; restore the artifacts or register the model again"
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def version_of(folder: Path) -> str:
    """Return the registry version that MLflow stamped on a fetched model, or "" where it was loaded otherwise.

    A model cannot hold its own version, which is given when it is complete. MLflow writes the version beside MLmodel
    whenever it is fetched as models:/NAME/VERSION or models:/NAME@ALIAS, and that is what this reads.
    """
    try:
        lines = (folder / STAMP).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    values = dict(line.split(": ", 1) for line in lines if ": " in line)
    version = values.get("model_version", "").strip("'\" ")
    return version if version.isdigit() else ""
