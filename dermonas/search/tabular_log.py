"""The records of a search on disk, a line each."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from dermonas.errors import GenotypeError, StorageError
from dermonas.search.samplers.history import Record
from dermonas.search.tabular import record_of
from dermonas.space.domain import Domain


class RecordLog:
    """Records as they come, in a file of JSON lines, and what a killed process left of them.

    Of what is found the last line is left out: it may be cut short, and a sampler is to see the history once before
    the search is over. Lines are flushed and not synced: a power failure may cost the last ones, which are made anew.

    Attributes:
        records: Those found.

    Args:
        path: The file; made, with its folder, by the first record.
        space: Of the thetas.

    Raises:
        StorageError: If a line is damaged; names it.
    """

    def __init__(self, path: Path, space: Domain) -> None:
        self.path = path
        self.records: list[Record] = []
        self._lines: list[str] | None = _lines(path)[:-1]
        before, known = 0.0, set[str]()
        for number, line in enumerate(self._lines):
            try:
                content = json.loads(line)
                theta, value, before = tuple(content["theta"]), float(content["value"]), float(content["seconds"])
                digest = space.digest(theta)
            except (ValueError, KeyError, TypeError, GenotypeError) as error:
                reason = " ".join(str(error).split())[:200]
                raise StorageError(
                    f"{path}, line {number + 1} is damaged ({reason}): delete the file to search its seed anew"
                ) from error
            self.records.append(record_of(number, theta, value, digest, digest in known))
            known.add(digest)
        self._start = time.perf_counter() - before

    @property
    def seconds(self) -> float:
        """Wall time since the search began, without that between a kill and the resume."""
        return time.perf_counter() - self._start

    def append(self, record: Record) -> None:
        """Write a record, at once.

        Raises:
            StorageError: If the disk refuses.
        """
        if self._lines is not None:
            replace(self.path, "".join(line + "\n" for line in self._lines))  # without what was left out
            self._lines = None
        line = {"theta": [int(choice) for choice in record.theta], "value": record.value, "seconds": self.seconds}
        with _refusals(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, in a folder made where absent.

    Raises:
        StorageError: If the disk refuses.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with _refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)
        finally:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)


def _lines(path: Path) -> list[str]:
    """Return the whole lines."""
    try:
        return path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read ({error}): delete it to search its seed anew") from error


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"cannot write {path}: {reason}; free space or choose another folder") from error
