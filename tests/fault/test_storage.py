"""A disk or database that refuses: one line, exit code 1, no finished trial lost, and the same command completes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.fault


@pytest.fixture
def mount() -> Iterator[Callable[..., bool]]:
    """Return a function that mounts a small disk on a folder; False where that is not permitted."""
    mounted: list[Path] = []

    def small_disk(folder: Path, options: str) -> bool:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except FileNotFoundError:
            return False
        if done.returncode == 0:
            mounted.append(folder)
        return done.returncode == 0

    yield small_disk
    for folder in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def check_refused(done, *words: str) -> None:
    assert done.code == 1, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    assert done.last.startswith("error: ")
    for word in words:
        assert word in done.last
    assert done.err.count("error: ") == 1


# Fills the disk in the middle of trial 1; where no disk of its own could be mounted, no file may grow large.
FULL = """
def at(number, epoch):
    if (number, epoch) == (1, 1):
        if not MOUNTED:
            import resource
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))  # the databases are larger
            return
        with open(FILLER, "wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while file.write(bytes(size)): pass
                except OSError: pass
"""


@pytest.mark.parametrize("full", ["everything", "artifacts"])
def test_a_full_disk_loses_no_finished_trial(full, make_place, mount, fake, check_complete):
    expected = make_place("uninterrupted")
    assert expected.search(patch=fake).code == 0
    folder = Path("work") if full == "everything" else Path("work", "mlruns")
    root = expected.folder.parent
    mounted = mount(root / folder, "size=4m")
    place = make_place()
    filler = root / folder / "filler"
    setup = f"import signal\nMOUNTED = {mounted}\nFILLER = {str(filler)!r}\n"
    check_refused(place.search(patch=fake + setup + FULL), "full" if full == "everything" and mounted else "refused")
    done = [trial for trial in place.trials() if trial["state"] == "COMPLETE"]
    assert done
    assert done == expected.trials()[: len(done)]
    filler.unlink(missing_ok=True)
    again = place.search(patch=fake)
    assert again.code == 0, again.err
    assert place.trials() == expected.trials()
    check_complete(place, again.run_id, starts=2)


def test_read_only_artifacts_lose_no_finished_trial(make_place, mount, fake):
    place = make_place()
    assert place.search("--trials", "1", patch=fake).code == 0
    trials = place.trials()
    runs = place.folder / "mlruns"
    kept = runs.rename(place.folder / "kept")
    if not mount(runs, "size=1m,ro"):
        shutil.rmtree(runs, ignore_errors=True)
        runs.write_text("a file stands where the folder should")
    check_refused(place.search("--trials", "2", patch=fake), "MLflow tracking store", "what was finished is kept")
    assert place.trials() == trials
    if runs.is_dir():
        subprocess.run(["mount", "-o", "remount,rw", str(runs)], check=True)
        shutil.copytree(kept, runs, dirs_exist_ok=True)
    else:
        runs.unlink()
        kept.rename(runs)
    again = place.search("--trials", "2", patch=fake)
    assert again.code == 0, again.err
    assert place.trials()[:1] == trials
    assert len(place.trials()) == 2


@pytest.mark.parametrize("name", ["studies.db", "mlflow.db"])
@pytest.mark.parametrize("content", ["garbage", "truncated"])
def test_a_damaged_database_is_named_in_one_line(name, content, make_place, fake):
    place = make_place()
    file = place.folder / name
    file.write_bytes(b"no database " * 1000 if content == "garbage" else file.read_bytes()[:6000])
    damaged = file.read_bytes()
    done = place.search(patch=fake)
    check_refused(done, name)
    assert file.read_bytes() == damaged


def test_a_locked_out_study_folder_is_named(make_place, fake):
    place = make_place()
    (place.folder / "file").touch()
    done = place.search("--storage", f"sqlite:///{place.folder}/file/studies.db", patch=fake)
    check_refused(done, "file")
