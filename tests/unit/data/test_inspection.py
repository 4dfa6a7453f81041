"""An inspection keeps what it read: the next goes on from there, and trusts nothing that changed or broke."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from dermonas.data import inspection as inspection_module
from dermonas.data.hashing import fingerprints
from dermonas.data.inspection import Inspection, inspect_files
from dermonas.data.journal import RECORD, Journal
from dermonas.events import Silent
from dermonas.imaging.decode import MAX_PIXELS, decode
from dermonas.imaging.resize import grey_thumbnail

COUNT = 100


class Watch(Silent):
    """Hears the progress; stops like Ctrl-C at an event."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop, self.heard = stop, []

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        self.heard.append((epoch, dict(metrics)))
        if len(self.heard) == self.stop:
            raise KeyboardInterrupt


@pytest.fixture
def images(make_classes: Callable[..., Path]) -> tuple[Path, list[str]]:
    root = make_classes("cat", COUNT)
    return root, sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    plain = inspection_module.inspect_file

    def counted(path: Path, name: str, max_pixels: int) -> np.ndarray:
        seen.append(name)
        return plain(path, name, max_pixels)

    monkeypatch.setattr(inspection_module, "inspect_file", counted)
    return seen


def inspect(images: tuple[Path, list[str]], folder: Path, watch: Watch | None = None, **settings: int) -> Inspection:
    with Journal(folder, settings) as journal:
        found = inspect_files(
            *images, journal, workers=0, max_pixels=MAX_PIXELS, observer=Silent() if watch is None else watch
        )
        # Repeated and in any order, as candidates come.
        rows = np.flatnonzero(found.usable)
        twice = found.thumbnails(np.concatenate([rows, rows[::-1]]))
        assert np.array_equal(twice[: len(rows)], twice[len(rows) :][::-1])
        found.pictures = twice[: len(rows)]
        return found


def columns(found: Inspection) -> list[object]:
    arrays = (found.usable, found.sha256, *found.prints, found.width, found.height, found.pictures)
    return [*(array.tolist() for array in arrays), found.faults, found.notes]


def test_columns_are_what_the_files_hold(images: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, paths = images
    (root / paths[7]).write_bytes(b"")
    found = inspect(images, tmp_path / "kept")
    assert found.faults == {7: "zero-byte file"}
    assert found.usable.sum() == COUNT - 1
    rows = [row for row in range(COUNT) if row != 7]
    thumbs = np.stack([grey_thumbnail(decode(root / paths[row])) for row in rows])
    assert np.array_equal(found.pictures, thumbs)
    assert np.array_equal(found.prints.hashes[:, rows], fingerprints(thumbs).hashes)


def test_the_next_goes_on_where_one_was_stopped(
    images: tuple[Path, list[str]], tmp_path: Path, opened: list[str]
) -> None:
    whole = columns(inspect(images, tmp_path / "whole"))
    opened.clear()
    with pytest.raises(KeyboardInterrupt):
        inspect(images, tmp_path / "kept", Watch(stop=2))
    assert len(opened) == 64
    watch = Watch()
    again = inspect(images, tmp_path / "kept", watch)
    assert opened == images[1]
    assert again.kept == 64
    assert columns(again) == whole
    assert [figures["images"] for _, figures in watch.heard] == [96, 100]
    assert watch.heard[-1][1]["seconds_left"] == 0


@pytest.mark.parametrize("damage", ["cut", "torn", "flipped"])
def test_what_is_half_written_is_read_again(
    images: tuple[Path, list[str]], tmp_path: Path, opened: list[str], damage: str
) -> None:
    whole = columns(inspect(images, tmp_path / "kept"))
    file = tmp_path / "kept" / "inspected.bin"
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[40 * RECORD.itemsize :]
    elif damage == "torn":
        del data[40 * RECORD.itemsize + 100 :]
    else:
        data[40 * RECORD.itemsize + 100] ^= 1
    file.write_bytes(data)
    opened.clear()
    assert columns(inspect(images, tmp_path / "kept")) == whole
    assert opened == images[1][40:]
    opened.clear()
    inspect(images, tmp_path / "kept")
    assert opened == []


def test_what_changed_is_read_again(images: tuple[Path, list[str]], tmp_path: Path, opened: list[str]) -> None:
    root, paths = images
    inspect(images, tmp_path / "kept")
    (root / paths[3]).write_bytes((root / paths[4]).read_bytes())  # another size
    stat = (root / paths[8]).stat()
    os.utime(root / paths[8], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    (root / paths[20]).unlink()
    opened.clear()
    found = inspect(images, tmp_path / "kept")
    assert opened == [paths[3], paths[8], paths[20]]
    assert found.faults == {20: "unreadable (No such file or directory)"}
    assert found.sha256[3].tolist() == found.sha256[4].tolist()


def test_other_settings_start_again(images: tuple[Path, list[str]], tmp_path: Path, opened: list[str]) -> None:
    inspect(images, tmp_path / "kept", version=1)
    opened.clear()
    inspect(images, tmp_path / "kept", version=2)
    assert len(opened) == COUNT
