"""A prepare or a cache whose process is killed, or that two processes make at once, ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.workplace import ROOT, clean_environment

pytestmark = pytest.mark.fault

COUNT = 60
PATIENCE = 90.0  # seconds that any one process may take on a busy machine

# Prepares and decodes; prints one line of JSON. Every file that is read is noted; `hold` stops at a point until
# killed, `limit` lets no file grow larger (a disk that refuses, where no small one can be mounted).
SCRIPT = """
import json, os, resource, signal, sys, time
from pathlib import Path
import numpy as np
from dermonas.data import cache, inspection
from dermonas.data.config import PrepareConfig
from dermonas.data.prepare import prepare
from dermonas.data.manifest import read_manifest
from dermonas.events import Silent
stage, root, out, hold, limit = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:])
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
seen = 0
def noted(function):
    def call(*values, **more):
        global seen
        if seen == hold:
            Path(out, "reached").touch()
            while True: time.sleep(1)
        seen += 1
        return function(*values, **more)
    return call
cache.SHARD, cache._THREADS = 7 * 8 * 8 * 3, 1
if stage == "prepare":
    inspection.inspect_file = noted(inspection.inspect_file)
    manifest = prepare(PrepareConfig("x", "folder", root, out, workers=0), Silent())
    print(json.dumps([manifest.digest, seen]))
else:
    cache.decode = noted(cache.decode)
    pixels = cache.decoded_cache(read_manifest(out), out, 8)
    print(json.dumps([int(np.asarray(pixels).sum(dtype=np.int64)), seen]))
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for name in ("cat", "dog"):
        (root / name).mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((24, 24)).save(root / ("cat", "dog")[number % 2] / f"photo_{number:06d}.png")
    return root


@pytest.fixture
def start(images: Path, tmp_path: Path):
    processes = []

    def begin(stage: str, out: str = "out", hold: int = -1, limit: int = 0) -> subprocess.Popen[str]:
        (tmp_path / out).mkdir(exist_ok=True)
        command = [sys.executable, "-c", SCRIPT, stage, str(images), str(tmp_path / out), str(hold), str(limit)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(), cwd=ROOT
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


Start = Callable[..., "subprocess.Popen[str]"]


def answer(process: subprocess.Popen[str]) -> list:
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    return json.loads(out)


def kill_at_hold(process: subprocess.Popen[str], folder: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not (folder / "reached").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (folder / "reached").unlink()


def test_a_killed_prepare_goes_on(start: Start, tmp_path: Path) -> None:
    digest, read = answer(start("prepare", "whole"))
    assert read == COUNT
    kill_at_hold(start("prepare", hold=45), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert answer(start("prepare")) == [digest, COUNT - 32]  # what one task of 32 had ended
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_a_killed_cache_goes_on_beside_another(start: Start, tmp_path: Path) -> None:
    answer(start("prepare"))
    whole, read = answer(start("cache"))
    assert read == COUNT
    cache = tmp_path / "out" / "cache"
    shards = sorted(cache.glob("*/*.npy"))
    for shard in shards:
        shard.unlink()
    kill_at_hold(start("cache", hold=17), tmp_path / "out")
    assert sorted(cache.glob("*/*.npy")) == shards[:2]
    assert list(cache.glob("*/*.partial"))
    answers = [answer(process) for process in (start("cache"), start("cache"))]
    assert [total for total, _ in answers] == [whole, whole]
    assert sum(count for _, count in answers) == COUNT - 14  # each image once, by one of the two
    assert sorted(cache.glob("*/*")) == shards


def refused(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    return err.strip().splitlines()[-1]


def test_a_prepare_that_the_disk_refused_goes_on(start: Start, tmp_path: Path) -> None:
    digest, _ = answer(start("prepare", "whole"))
    last = refused(start("prepare", limit=40 * 4400))
    assert last.startswith("dermonas.errors.StorageError: ")
    assert "File too large; check the disk and permissions" in last
    again, read = answer(start("prepare"))
    assert again == digest
    assert read <= COUNT - 32


def test_a_cache_that_the_disk_refused_leaves_nothing_half_written(start: Start, tmp_path: Path) -> None:
    answer(start("prepare"))
    last = refused(start("cache", limit=1000))
    assert last.startswith("dermonas.errors.StorageError: cannot write ")
    assert last.endswith("File too large; free space or move the folder")
    assert not [path for path in (tmp_path / "out" / "cache").rglob("*") if path.is_file() and path.name != ".lock"]
    assert answer(start("cache"))[1] == COUNT
