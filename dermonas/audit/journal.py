"""What an interrupted audit keeps: one JSON line a scoring, appended as it is made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dermonas.errors import StorageError


class Journal:
    """Records on disk, those of an earlier, interrupted audit first.

    The first line says what the records depend on. A half-written last line, which a killed process leaves, is
    dropped; any other damage is an error, as records are hours of work.

    Args:
        path: Of the file; its folder is made when absent.
        identity: What a record depends on, JSON-able.

    Raises:
        StorageError: The file belongs to another audit, is damaged, or the disk refuses.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        head = json.dumps(dict(identity), sort_keys=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            self._file.seek(0)
            content = self._file.read()
            whole = content[: content.rfind(b"\n") + 1]
            self._file.truncate(len(whole))
            lines = whole.decode("utf-8").splitlines()
            if not lines:
                self._append(head)
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
        if lines and lines[0] != head:
            raise StorageError(
                f"{path} holds another audit's scorings: move it away, or give other settings another out"
            )
        try:
            self.records: list[dict[str, Any]] = [json.loads(line) for line in lines[1:]]
        except ValueError as error:
            raise StorageError(f"{path} is damaged ({error}): move it away, or mend the line") from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; it is on the disk when this returns.

        Raises:
            StorageError: The disk refuses; what was written before is whole.
        """
        try:
            self._append(json.dumps(dict(record)))
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror or error}; free space and start again") from error
        self.records.append(dict(record))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, line: str) -> None:
        self._file.write(line.encode("utf-8") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
