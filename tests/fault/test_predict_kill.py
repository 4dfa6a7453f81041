"""`predict`: many files to one table, bad ones told, killed at any moment, and names that lead elsewhere."""

from __future__ import annotations

import signal
import time

import numpy as np
import pandas as pd
import pytest
from packed import CLASSES, noise
from workplace import PATIENCE

from dermonas.serving.served import Served

pytestmark = pytest.mark.fault
MODEL = ("--model", "models:/dermonas-noise@champion", "--threads", "1")
NAMES = [f"{kind}/{number}.png" for kind in ("a", "b") for number in range(7)]


@pytest.fixture
def images(registered):
    folder = registered.folder / "images"
    for name, content in zip(NAMES, noise() * 2, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "a" / "notes.txt").write_text("no image")
    (folder / "b" / "7.png").write_bytes(b"no image")
    (folder / "b" / "8.jpg").write_bytes(noise()[1][:300])
    return folder


def predict(place, images, out, *arguments, **more):
    return place.run("predict", *MODEL, "--images", str(images), "--out", str(out), *arguments, **more)


def wanted(packages):
    return Served.load(packages[0] / "artifacts").predict(noise() * 2)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_folder_becomes_a_table_and_bad_files_are_told(registered, images, packages, kind):
    out = registered.folder / f"out.{kind}"
    done = predict(registered, images, out, "--part", "5")
    assert done.code == 0, done.err
    assert f"16 images in {out}: 2 bad, " in done.out
    assert "b/7.png: not an image" in done.err
    assert "b/8.jpg: truncated" in done.err
    assert "[16/16] 2 bad" in done.err
    table = pd.read_csv(out) if kind == "csv" else pd.read_parquet(out)
    assert list(table["path"]) == [*NAMES, "b/7.png", "b/8.jpg"]
    good = table[table["path"].isin(NAMES)]
    np.testing.assert_allclose(good[[f"probability/{name}" for name in CLASSES]], wanted(packages), atol=1e-6)
    assert list(good["label"]) == [CLASSES[k] for k in wanted(packages).argmax(axis=1)]
    bad = table[~table["path"].isin(NAMES)]
    assert bad["label"].isna().all()
    assert bad["error"].str.len().min() > 5
    assert set(table["version"].astype(str)) == {"1"}
    (run,) = registered.runs("predict")
    assert (run.info.status, run.data.metrics["predict/images"], run.data.metrics["predict/bad"]) == ("FINISHED", 16, 2)
    assert not list(registered.folder.glob(".out*.parts"))


DIES = """
import os, signal
import pipelines.predict as module
whole, told = module._whole, []
def dying(path, write):
    told.append(path)
    if len(told) == 4: os.kill(os.getpid(), signal.SIGKILL)  # the state, two parts, and within the third
    whole(path, write)
module._whole = dying
"""
COUNTS = """
import pipelines.predict as module
table = module._table
def counted(*arguments):
    print("answering", len(arguments[2]))
    return table(*arguments)
module._table = counted
"""


def test_it_goes_on_behind_a_kill(registered, images, packages):
    out = registered.folder / "out.parquet"
    assert predict(registered, images, out, "--part", "4", patch=DIES).code == -signal.SIGKILL
    assert not out.exists()
    other = predict(registered, images, out, "--part", "5")
    assert other.code == 2
    assert "holds parts of a prediction of other images or by another model" in other.last
    done = predict(registered, images, out, "--part", "4", patch=COUNTS)
    assert done.code == 0, done.err
    assert done.out.count("answering 4") == 2
    assert "going on behind 8 images" in done.err
    again = registered.folder / "again.parquet"
    assert predict(registered, images, again, "--part", "4").code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(out), pd.read_parquet(again))
    statuses = sorted(run.info.status for run in registered.runs("predict"))
    assert statuses == ["FINISHED", "FINISHED", "KILLED"]


@pytest.mark.parametrize(
    "name", ["../secret.png", "a/../../secret.png", "/etc/hostname", "..\\secret.png", "", "link.png"]
)
def test_a_name_that_leads_out_is_refused(registered, images, name):
    (registered.folder / "secret.png").write_bytes(noise()[0])
    (images / "link.png").symlink_to(registered.folder / "secret.png")
    (images / "list.csv").write_text(f"path,age\na/0.png,3\n{name},4\n")
    out = registered.folder / "out.csv"
    done = predict(registered, images / "list.csv", out)
    assert done.code == 2, done.err
    assert "row 1: the name" in done.last
    assert "leads out of" in done.last
    assert not out.exists()
    assert not registered.runs("predict")


def test_a_prepared_split_and_what_cannot_be_listed(registered, images):
    out = registered.folder / "out.csv"
    done = predict(registered, registered.data, out, "--split", "validation")
    assert done.code == 0, done.err
    assert done.err.count(": ") < 8
    for arguments, message in (
        (("--images", "absent"), "is neither a folder nor a CSV file"),
        (("--split", "test"), "was not written by prepare"),
        (("--out", "out.txt"), "must end in .csv or .parquet"),
    ):
        refused = predict(registered, images, out, *arguments)
        assert refused.code == 2, refused.err
        assert message in refused.last


WAITS = """
import pathlib, time
import pipelines.predict as module
table = module._table
def waiting(*arguments):
    pathlib.Path("reached").touch()
    while not pathlib.Path("go").exists(): time.sleep(.005)
    return table(*arguments)
module._table = waiting
"""


def test_two_processes_do_not_write_one_table(registered, images):
    out = registered.folder / "out.csv"
    first = registered.start("predict", *MODEL, "--images", str(images), "--out", str(out), patch=WAITS)
    end = time.monotonic() + PATIENCE
    while not (registered.folder / "reached").exists():
        assert time.monotonic() < end, first.err.read_text()
        time.sleep(0.01)
    second = predict(registered, images, out)
    assert second.code == 2
    assert f"another process predicts into {out}" in second.last
    (registered.folder / "go").touch()
    assert first.wait().code == 0
