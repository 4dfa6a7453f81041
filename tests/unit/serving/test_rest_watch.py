"""Which version is loaded, which is refused, and what becomes of the one that answers."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from dermonas.errors import StorageError
from dermonas.serving.digest import files_digest
from dermonas.serving.rest.limits import Limits
from dermonas.serving.rest.metrics import Metrics
from dermonas.serving.rest.release import Release, Wanted
from dermonas.serving.rest.service import Service
from dermonas.serving.rest.watch import Watch


class Shelf:
    """A source: packages by version, and which one is wanted."""

    def __init__(self, **folders):
        self.folders, self.now, self.fetched = folders, Wanted("1", ""), []

    def put(self, version, digest=None):
        self.now = Wanted(version, files_digest(self.folders[version]) if digest is None else digest)

    def wanted(self):
        if self.now is None:
            raise StorageError("the store is away")
        return self.now

    def fetch(self, wanted, folder):
        self.fetched.append(wanted.version)
        if wanted.version not in self.folders:
            raise StorageError(f"version {wanted.version} cannot be fetched")
        return shutil.copytree(self.folders[wanted.version], folder / "package")


@pytest.fixture
def shelf(tiny, cells, tmp_path):
    folders = {}
    for version, packed in (("1", tiny), ("2", cells)):
        folders[version] = shutil.copytree(
            packed.folder, tmp_path / version, ignore=shutil.ignore_patterns("__pycache__")
        )
    made = Shelf(**folders)
    made.put("1")
    return made


def test_a_version_is_loaded_once_its_files_are_known(shelf, tiny, tmp_path):
    release = Release.of(shelf, shelf.wanted())
    assert (release.version, release.digest) == ("1", files_digest(tiny.folder))
    views = torch.zeros(1, 3, 32, 32)
    # Not to the bit: the order of summation may depend on where the weights lie in memory.
    assert release.served.logits(views).logits == pytest.approx(tiny.served.logits(views).logits, abs=1e-6)


@pytest.mark.parametrize(
    "name", ["artifacts/program.pt2", "artifacts/model.json", "code/dermonas/errors.py", "MLmodel"]
)
def test_a_changed_file_is_refused_before_it_is_loaded(shelf, name, monkeypatch):
    monkeypatch.setattr("dermonas.serving.served.load_program", lambda path: pytest.fail("loaded"))
    file = shelf.folders["1"] / name
    file.write_bytes(file.read_bytes().replace(b"e", b"f", 1))
    with pytest.raises(StorageError, match="is not what was registered: its files have digest"):
        Release.of(shelf, shelf.wanted())


def test_an_added_file_and_an_unknown_digest_are_refused(shelf):
    with pytest.raises(StorageError, match="version 1 has no digest in the registry"):
        Release.of(shelf, Wanted("1", ""))
    (shelf.folders["1"] / "more.py").write_text("x = 1\n")
    with pytest.raises(StorageError, match="is not what was registered"):
        Release.of(shelf, shelf.wanted())


def test_a_program_that_does_not_run_is_refused(shelf, tiny, monkeypatch):
    monkeypatch.setattr("dermonas.serving.served.load_program", lambda path: lambda views: 1 / 0)
    with pytest.raises(StorageError, match="does not run"):
        Release.of(shelf, shelf.wanted())
    three = torch.zeros(2, 2)
    monkeypatch.setattr("dermonas.serving.served.load_program", lambda path: lambda views: (three, views))
    with pytest.raises(StorageError, match="outputs for its classes"):
        Release.of(shelf, shelf.wanted())


@pytest.fixture
def service(shelf):
    made = Service(Release.of(shelf, shelf.wanted()), Limits(), 1, Metrics())
    yield made
    made.close()


def look(watch, times=1):
    async def several():
        for _ in range(times):
            await watch.look()

    # In a thread of its own: the browser tests leave a running loop in this one.
    with ThreadPoolExecutor(1) as apart:
        apart.submit(lambda: asyncio.run(several())).result()


def test_another_version_takes_over(shelf, service):
    watch = Watch(shelf, service, 1)
    before = service.release
    look(watch)
    assert service.release is before
    shelf.put("2")
    look(watch, 3)
    assert service.release.version == "2"
    assert shelf.fetched == ["1", "2"]
    text = service.metrics.text().decode()
    assert "dermonas_swaps_total 1.0" in text
    assert 'version="2"' in text
    assert 'version="1"' not in text


def test_what_fails_leaves_the_one_that_answers(shelf, service):
    watch = Watch(shelf, service, 1)
    before = service.release
    shelf.now = None
    look(watch)
    shelf.put("2", digest="0" * 64)
    look(watch, 8)  # tried at looks 1, 2, 4 and 8
    assert service.release is before
    assert shelf.fetched == ["1", "2", "2", "2", "2"]
    assert "dermonas_watch_failures_total 5.0" in service.metrics.text().decode()
    shelf.put("2")  # registered again under another digest: tried at once
    look(watch)
    assert service.release.version == "2"


def test_the_same_version_with_another_digest_is_another_one(shelf, service):
    shelf.folders["1"].joinpath("artifacts", "card.md").write_text("# Another card\n")
    shelf.put("1")
    look(Watch(shelf, service, 1))
    assert service.release.digest == shelf.now.digest
    assert dataclasses.astuple(shelf.now)[0] == "1"
