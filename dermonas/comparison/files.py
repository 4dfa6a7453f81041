"""Files of a report, each written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dermonas.errors import StorageError


def write_files(files: Mapping[str, bytes], folder: Path, what: str) -> list[Path]:
    """Write files into a folder, made where absent, and return their paths in order.

    Args:
        files: Content by name.
        folder: Where to.
        what: What they are, for the message.

    Raises:
        StorageError: The disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(folder / name, content) for name, content in files.items()]
    except OSError as error:
        raise StorageError(f"{what} in {folder}: {error.strerror or error}; free space or name another") from error


def _write(path: Path, content: bytes) -> Path:
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
