"""The digest of a package: over every file, unmoved by what fetching and loading leave behind."""

from __future__ import annotations

import shutil

import pytest

from dermonas.errors import StorageError
from dermonas.serving.digest import STAMP, files_digest, verify, version_of


@pytest.fixture
def folder(cells, tmp_path):
    return shutil.copytree(cells.folder, tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__"))


def test_every_file_counts(folder):
    before = files_digest(folder)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        assert files_digest(folder) != before, path
        path.write_bytes(content)
    assert files_digest(folder) == before
    (folder / "artifacts" / "card.md").rename(folder / "artifacts" / "cards.md")
    assert files_digest(folder) != before


def test_an_added_file_counts_but_mlflows_stamp_and_compiled_code_do_not(folder):
    before = files_digest(folder)
    (folder / STAMP).write_text("model_name: a\nmodel_version: '12'\n")
    compiled = folder / "code" / "dermonas" / "__pycache__" / "errors.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"harm")
    assert files_digest(folder) == before
    verify(folder, before)
    assert not compiled.exists()  # or it would run in place of what was checked
    assert version_of(folder) == "12"
    (folder / "code" / "added.py").touch()
    with pytest.raises(StorageError, match=f"the registry says {before[:16]}"):
        verify(folder, before)


def test_links_and_folders_without_a_model_are_refused(folder, tmp_path):
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(StorageError, match="is a link"):
        files_digest(folder)
    with pytest.raises(StorageError, match="no MLmodel"):
        files_digest(tmp_path)


@pytest.mark.parametrize("text", [None, "", "model_name: null\nmodel_version: null\n", "model_version: ../x", "\0"])
def test_a_model_without_a_version_says_none(folder, text):
    if text is not None:
        (folder / STAMP).write_text(text)
    assert version_of(folder) == ""
