"""The decoded cache: right pixels, decoded once, safe between processes, rebuilt when it must be."""

import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dermonas.data import cache as cache_module
from dermonas.data.cache import decoded_cache
from dermonas.data.config import PrepareConfig
from dermonas.data.manifest import Manifest, read_manifest
from dermonas.data.prepare import prepare
from dermonas.data.shards import Shards
from dermonas.errors import DataError, ImageError, StorageError
from dermonas.events import Silent
from dermonas.imaging.decode import decode
from dermonas.imaging.resize import resize


@pytest.fixture
def prepared(make_isic: Callable[..., Path], tmp_path: Path) -> tuple[Manifest, Path]:
    out = tmp_path / "out"
    config = PrepareConfig(dataset="x", source="isic", root=make_isic(), out=out, workers=0)
    return prepare(config, Silent()), out


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []

    def counted(data: bytes, *, max_pixels: int, name: str) -> object:
        seen.append(name)
        return decode(data, max_pixels=max_pixels, name=name)

    monkeypatch.setattr(cache_module, "decode", counted)
    return seen


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "SHARD", 7 * 8 * 8 * 3 + 1)  # 7 images of 8 x 8 pixels


def _files(out: Path) -> list[str]:
    found = (path for path in (out / "cache").rglob("*") if path.is_file() and path.name != ".lock")
    return sorted(path.relative_to(out / "cache").as_posix() for path in found)


def test_pixels_are_those_of_decode_and_resize_in_row_order(prepared: tuple[Manifest, Path]) -> None:
    manifest, out = prepared
    pixels = decoded_cache(manifest, out, 10)
    assert isinstance(pixels, np.memmap)
    assert pixels.shape == (30, 10, 10, 3)
    assert pixels.dtype == np.uint8
    for row, path in enumerate(manifest.paths()):
        assert np.array_equal(pixels[row], resize(decode(path), 10))


@pytest.mark.parametrize("rows", ["search", "train", "validation", "test"])
def test_rows(prepared: tuple[Manifest, Path], rows: str) -> None:
    manifest, out = prepared
    frame = manifest.search_frame() if rows == "search" else manifest.split_frame(rows)
    pixels = decoded_cache(manifest, out, 8, rows)  # type: ignore[arg-type]
    whole = decoded_cache(manifest, out, 8)
    assert np.array_equal(pixels, whole[frame.index.to_numpy()])


def test_decoded_once_and_read_only(prepared: tuple[Manifest, Path], decodings: list[str]) -> None:
    manifest, out = prepared
    decoded_cache(manifest, out, 8)
    again = decoded_cache(read_manifest(out), out, 8)
    assert len(decodings) == 30
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 0


def test_each_resolution_has_its_own_file(prepared: tuple[Manifest, Path]) -> None:
    manifest, out = prepared
    assert decoded_cache(manifest, out, 8).shape[1] == 8
    assert decoded_cache(manifest, out, 12).shape[1] == 12
    assert len(_files(out)) == 2


def test_a_new_digest_rebuilds_and_removes_the_old(prepared: tuple[Manifest, Path], decodings: list[str]) -> None:
    manifest, out = prepared
    old = decoded_cache(manifest, out, 8)
    kept = np.array(old)
    changed = Manifest(manifest.frame.iloc[:20], manifest.root, manifest.classes, "x", "isic")
    assert decoded_cache(changed, out, 8).shape[0] == 20
    assert len(decodings) == 50
    assert len(_files(out)) == 1
    assert np.array_equal(old, kept)  # a map that is in use survives the removal


@pytest.mark.parametrize("keep", [0, 10, 128, -1])
def test_truncated_file_is_rebuilt(prepared: tuple[Manifest, Path], decodings: list[str], keep: int) -> None:
    manifest, out = prepared
    pixels = np.array(decoded_cache(manifest, out, 8))
    path = out / "cache" / _files(out)[0]
    path.write_bytes(path.read_bytes()[:keep])
    assert np.array_equal(decoded_cache(manifest, out, 8), pixels)
    assert len(decodings) == 60


def test_left_overs_of_killed_writers_and_old_formats_are_removed(prepared: tuple[Manifest, Path]) -> None:
    manifest, out = prepared
    (out / "cache").mkdir()
    (out / "cache" / "8px-bicubic-all-0.npy").write_bytes(b"one file, as before there were shards")
    decoded_cache(manifest, out, 8)
    (shard,) = _files(out)
    (out / "cache" / shard).rename(out / "cache" / f"{shard}.999.partial")
    decoded_cache(manifest, out, 8)
    assert _files(out) == [shard]


def test_image_that_changed_since_prepare(prepared: tuple[Manifest, Path]) -> None:
    manifest, out = prepared
    path = manifest.paths()[3]
    path.write_bytes(manifest.paths()[4].read_bytes())
    with pytest.raises(DataError, match=f"{path.name} changed since prepare: run prepare again"):
        decoded_cache(manifest, out, 8)
    assert _files(out) == []


def test_image_that_vanished_since_prepare(prepared: tuple[Manifest, Path]) -> None:
    manifest, out = prepared
    manifest.paths()[3].unlink()
    with pytest.raises(ImageError, match=r"unreadable .*run prepare again"):
        decoded_cache(manifest, out, 8)


def test_full_disk_is_one_line_and_leaves_nothing(
    prepared: tuple[Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, out = prepared

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.RowWriter, "append", full)
    with pytest.raises(StorageError, match=r"cannot write .*: No space left on device; free space"):
        decoded_cache(manifest, out, 8)
    assert _files(out) == []


def test_no_such_rows(prepared: tuple[Manifest, Path]) -> None:
    manifest, out = prepared
    empty = Manifest(manifest.frame.assign(search=False), manifest.root, manifest.classes, "x", "isic")
    with pytest.raises(DataError, match="has no search image to decode"):
        decoded_cache(empty, out, 8, "search")
    with pytest.raises(ValueError, match="rows is 'val'"):
        decoded_cache(manifest, out, 8, "val")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="resolution is 0"):
        decoded_cache(manifest, out, 0)


@pytest.mark.usefixtures("small_shards")
def test_shards_read_as_one_array(prepared: tuple[Manifest, Path], decodings: list[str]) -> None:
    manifest, out = prepared
    pixels = decoded_cache(manifest, out, 8)
    assert [name.rpartition("/")[2] for name in _files(out)] == [f"0000{part}.npy" for part in range(5)]
    assert len(decodings) == 30
    whole = np.stack([resize(decode(path), 8) for path in manifest.paths()])
    assert isinstance(pixels, Shards)
    assert (pixels.shape, pixels.ndim, pixels.dtype, len(pixels)) == (whole.shape, 4, whole.dtype, 30)
    for row in (0, 6, 7, 29, -1, -30, np.int64(13)):
        assert np.array_equal(pixels[row], whole[row])
    mask = np.arange(30) % 4 == 1
    for index in (slice(5, 16), slice(None, None, -3), [3, 28, 3, 0], np.array([-1, 7]), mask, np.empty(0, np.int64)):
        assert np.array_equal(pixels[index], whole[index])
    assert np.array_equal(np.asarray(pixels), whole)
    assert np.array_equal(pickle.loads(pickle.dumps(pixels))[:], whole)
    for wrong in (30, -31):
        with pytest.raises(IndexError):
            pixels[wrong]
    with pytest.raises(ValueError, match="read-only"):
        pixels[3][0] = 0


@pytest.mark.usefixtures("small_shards")
def test_only_missing_and_damaged_shards_are_decoded_again(
    prepared: tuple[Manifest, Path], decodings: list[str]
) -> None:
    manifest, out = prepared
    whole = decoded_cache(manifest, out, 8)[:]
    files = [out / "cache" / name for name in _files(out)]
    files[1].unlink()
    files[3].write_bytes(files[3].read_bytes()[:-1])
    decodings.clear()
    assert np.array_equal(decoded_cache(manifest, out, 8)[:], whole)
    assert sorted(decodings) == [str(path) for path in [*manifest.paths()[7:14], *manifest.paths()[21:28]]]


@pytest.mark.usefixtures("small_shards")
def test_full_disk_keeps_the_shards_before_it(
    prepared: tuple[Manifest, Path], decodings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, out = prepared
    written, plain = 0, cache_module.RowWriter.append

    def filling(self: cache_module.RowWriter, row: np.ndarray) -> None:
        nonlocal written
        written += 1
        if written > 17:
            raise OSError(28, "No space left on device")
        plain(self, row)

    monkeypatch.setattr(cache_module.RowWriter, "append", filling)
    with pytest.raises(StorageError, match="No space left on device; free space"):
        decoded_cache(manifest, out, 8)
    assert [name.rpartition("/")[2] for name in _files(out)] == ["00000.npy", "00001.npy"]
    written = -1000
    decodings.clear()
    decoded_cache(manifest, out, 8)
    assert sorted(decodings) == [str(path) for path in manifest.paths()[14:]]


def test_a_folder_that_another_manifest_removed_is_told(
    prepared: tuple[Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, out = prepared
    other = Manifest(manifest.frame.iloc[:20], manifest.root, manifest.classes, "x", "isic")
    plain, path = decode, str(manifest.paths()[25])

    def late(data: bytes, *, max_pixels: int, name: str) -> object:
        if name == path:
            decoded_cache(other, out, 8)
        return plain(data, max_pixels=max_pixels, name=name)

    monkeypatch.setattr(cache_module, "decode", late)
    with pytest.raises(DataError, match="was removed by a process with another manifest: start again"):
        decoded_cache(manifest, out, 8)


def test_several_processes_decode_each_shard_once(
    prepared: tuple[Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The helpers of one call: as many as cores, each image by one of them."""
    manifest, out = prepared
    monkeypatch.setattr(cache_module, "SHARD", 7 * 8 * 8 * 3)
    monkeypatch.setattr(cache_module, "_FEW", 0)
    monkeypatch.setattr(cache_module, "_CORES", 2)
    monkeypatch.setattr(cache_module, "decode", None)  # this process decodes nothing
    pixels = decoded_cache(manifest, out, 8)
    for row, path in enumerate(manifest.paths()):
        assert np.array_equal(pixels[row], resize(decode(path), 8))
    manifest.paths()[3].unlink()
    with pytest.raises(ImageError, match=r"unreadable .*run prepare again"):
        decoded_cache(manifest, out, 9)


def _sum(folder: str, answers: "multiprocessing.Queue[int]") -> None:
    answers.put(int(decoded_cache(read_manifest(Path(folder)), Path(folder), 16).sum(dtype=np.int64)))


def test_several_processes_at_once(prepared: tuple[Manifest, Path]) -> None:
    manifest, out = prepared
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[int] = context.Queue()
    workers = [context.Process(target=_sum, args=(str(out), answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    sums = {answers.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert sums == {int(decoded_cache(manifest, out, 16).sum(dtype=np.int64))}
    assert len(_files(out)) == 1
