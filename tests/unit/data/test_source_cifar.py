"""CIFAR from python batches that are written here, from class folders, and without any network."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermonas.data.sources import cifar
from dermonas.data.sources.cifar import list_cifar
from dermonas.errors import DataError

TEN = ("airplane", "automobile", "bird")


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def _pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    folder = tmp_path / "raw" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    _write(folder / "batches.meta", {"label_names": list(TEN)})
    for number in range(1, 6):
        _write(folder / f"data_batch_{number}", {"data": _pixels(3, number), "labels": [0, 1, 2]})
    _write(folder / "test_batch", {"data": _pixels(3, 9), "labels": [2, 1, 0]})
    return tmp_path / "raw"


def test_batches_become_png_files_once(ten: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    listing = list_cifar(ten, hundred=False, images=images)
    assert listing.classes == TEN
    assert listing.frame["official"].value_counts().to_dict() == {"train": 15, "test": 3}
    first = listing.root / "train" / "automobile" / "train_000001.png"
    expected = _pixels(3, 1)[1].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(np.asarray(Image.open(first)), expected)
    before = first.stat().st_mtime_ns
    assert list_cifar(ten, hundred=False, images=images).frame.equals(listing.frame)
    assert first.stat().st_mtime_ns == before


def test_the_batches_folder_itself_is_a_root(ten: Path, tmp_path: Path) -> None:
    listing = list_cifar(ten / "cifar-10-batches-py", hundred=False, images=tmp_path / "images")
    assert len(listing.frame) == 18


def test_hundred_uses_fine_labels(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    _write(folder / "meta", {"fine_label_names": ["apple", "bee"], "coarse_label_names": ["thing"]})
    for name in ("train", "test"):
        _write(folder / name, {"data": _pixels(4, 1), "fine_labels": [0, 1, 1, 0], "coarse_labels": [0] * 4})
    listing = list_cifar(tmp_path, hundred=True, images=tmp_path / "images")
    assert listing.classes == ("apple", "bee")
    assert len(listing.frame) == 8


def test_class_folders_on_disk(make_classes: Callable[..., Path], tmp_path: Path) -> None:
    make_classes("train/cat", 3)
    listing = list_cifar(make_classes("test/cat", 2), hundred=False, images=tmp_path / "images")
    assert listing.frame["official"].value_counts().to_dict() == {"train": 3, "test": 2}
    assert not (tmp_path / "images").exists()


class _Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch /tmp/should-never-exist",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b"\x80\x02}q", "is damaged"),
        (pickle.dumps(_Evil()), r"is damaged \(it asks for (posix|nt)\.system\)"),
        (pickle.dumps([1, 2]), "has no data, labels"),
        (pickle.dumps({"data": _pixels(2, 0)[:, :9], "labels": [0, 1]}), "not images"),
        (pickle.dumps({"data": _pixels(2, 0), "labels": [0, 7]}), r"label outside 0\.\.2"),
    ],
)
def test_damaged_batches(ten: Path, tmp_path: Path, content: bytes, message: str) -> None:
    (ten / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list_cifar(ten, hundred=False, images=tmp_path / "images")
    assert "data_batch_3" in str(caught.value)
    assert not (tmp_path / "images").exists()  # nothing half-written is taken for the data set


def test_missing_batch(ten: Path, tmp_path: Path) -> None:
    (ten / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3 is missing"):
        list_cifar(ten, hundred=False, images=tmp_path / "images")


def test_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", unreachable)
    with pytest.raises(DataError, match=r"cannot be downloaded \(Network is unreachable\): put cifar-10-batches-py/"):
        list_cifar(tmp_path / "none", hundred=False, images=tmp_path / "images")


def test_module_does_not_import_torchvision_at_the_top() -> None:
    assert not hasattr(cifar, "torchvision")
