"""A folder in which the whole road was gone once, on synthetic phantoms; each test gets its own copy."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock
from workplace import ROAD, Place, Zygote

# The first process dies in the baseline's training, with its first epoch told and not yet kept.
DIES = """
import os, signal
import dermonas.training.checkpoints as checkpoints
from dermonas.search import report
report.draw = lambda *_: []  # pictures take longer than the search
def kept(self, trainer, module):
    if module.network.__class__.__name__ == "Baseline":
        os.kill(os.getpid(), signal.SIGKILL)
    return save(self, trainer, module)
save = checkpoints.Keeper.on_train_epoch_end
checkpoints.Keeper.on_train_epoch_end = kept
"""

# Figures take longer than all the rest of an evaluation.
NO_DRAWING = """
import pipelines.evaluate as evaluate
evaluate.write_figures = lambda *_: None
"""
ONE_DRAWING = """
import pipelines.evaluate as evaluate
draw = evaluate.write_figures
def once(*arguments):
    evaluate.write_figures = lambda *_: None
    draw(*arguments)
evaluate.write_figures = once
"""


@pytest.fixture
def plain() -> str:
    """A patch by which evaluations draw nothing."""
    return NO_DRAWING


@pytest.fixture(scope="session")
def went(shared: Path, zygote: Zygote, phantoms: Path, run_tables: Path) -> Path:
    """The folder itself; read-only to tests. Beside it lie what the two processes said."""
    folder = shared / "road"
    with FileLock(shared / "road.lock"):
        if not (shared / "road.done").exists():
            folder.mkdir()
            shutil.copy(run_tables, folder)
            place = Place(folder, phantoms, zygote, shared)
            killed = place.run("pipeline", *ROAD, patch=DIES)
            assert killed.code == -9, killed.err
            done = place.run("pipeline", *ROAD, patch=ONE_DRAWING)
            assert done.code == 0, done.err
            (shared / "road.done").write_text(done.out)
    return folder


@pytest.fixture
def road(make_place: Callable[..., Place], went: Path) -> Place:
    """A copy of that folder, of its own; checkpoints are left out."""
    place = make_place()
    for name in ("mlruns", "data"):
        shutil.copytree(went / name, place.folder / name)
    with (
        closing(sqlite3.connect(went / "mlflow.db")) as source,
        closing(sqlite3.connect(place.folder / "mlflow.db")) as copy,
    ):
        source.backup(copy)
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            copy.execute(f"update {table} set {column} = replace({column}, ?, ?)", (str(went), str(place.folder)))
        copy.commit()
    return place
