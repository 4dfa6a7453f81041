"""Patches that make a search die at a chosen point, and what a search must look like once it is complete."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from caller import Caller, caller_of
from packed import pack
from workplace import Place, Process, once

from dermonas.serving.digest import files_digest
from dermonas.tracking import registry
from dermonas.tracking.runs import Run

# A report without pictures: they take longer than the search, and no fault here concerns them.
PLAIN = """
import dermonas.search.report as report
report.draw = lambda *_: []
report.write_history = lambda events, path, chance: path.touch()
report.write_importance = lambda *_: False
"""

# An objective that scores in no time; `at(number, epoch)` is called before each epoch is reported.
FAKE = (
    PLAIN
    + """
import math, os, pathlib, time
import pipelines.search as search
from dermonas.objective.score import NotFinite, Score

def at(number, epoch): ...

class Fake:
    def __init__(self, images, settings, device):
        self.settings, self.epochs = settings, settings.epochs

    def score(self, genotype, observer, number=0):
        value = int(genotype.digest, 16) / 16**16
        values = tuple(value + 1 / (epoch + 1) for epoch in range(self.epochs))
        for epoch, score in enumerate(values):
            at(number, epoch)
            observer.epoch(number, epoch, {"score": score})
        return Score(values[-1], values, values[-1], 0.0, 1000, 0, 1000)

search.objective_of = Fake
"""
)


@pytest.fixture(scope="session")
def plain() -> str:
    return PLAIN


@pytest.fixture(scope="session")
def fake() -> str:
    return FAKE


@pytest.fixture
def check_complete() -> Callable[..., None]:
    """Return a check that MLflow shows one finished search with all its trials, each once."""

    def check(place: Any, run_id: str, starts: int) -> None:
        trials = place.trials()
        parents = place.runs("search")
        assert len(parents) == starts
        (newest,) = (parent for parent in parents if parent.info.run_id == run_id)
        assert newest.info.status == "FINISHED"
        assert "dermonas.error" not in newest.data.tags
        ids = {parent.info.run_id for parent in parents}
        for earlier in parents:
            if earlier is not newest:
                assert earlier.info.status == "KILLED"
                assert earlier.data.tags["dermonas.continued_by"] in ids - {earlier.info.run_id}
        scored = {trial["number"]: trial for trial in trials if not trial["duplicate"]}
        children = {int(child.data.tags["dermonas.trial"]): child for child in place.runs("trial")}
        assert len(place.runs("trial")) == len(children)
        assert set(children) == set(scored)
        for number, child in children.items():
            assert child.info.status == "FINISHED"
            assert child.data.tags["mlflow.parentRunId"] == run_id
            history = place.client.get_metric_history(child.info.run_id, "search/score")
            assert {(metric.step, metric.value) for metric in history} == set(enumerate(scored[number]["told"]))
        best = {m.step: m.value for m in place.client.get_metric_history(run_id, "search/best_score")}
        values = [(trial["number"], trial["value"]) for trial in trials if not trial["duplicate"]]
        for number, _ in values:
            assert best[number] == min(value for other, value in values if other <= number)
        assert newest.data.metrics["search/distinct"] == len(scored)

    return check


NAME = "dermonas-noise"


@pytest.fixture(scope="session")
def packages(shared: Path) -> list[Path]:
    """Two packages of small networks whose answers differ; read-only to tests."""

    def make(folder: Path) -> None:
        for seed in (1, 2):
            (folder / str(seed)).mkdir(parents=True)
            pack("tiny", folder / str(seed), seed, NAME)

    folder = once(shared, "packages", make)
    return [folder / str(seed) / "package" for seed in (1, 2)]


@pytest.fixture
def registered(place: Place, packages: list[Path], monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place whose registry holds two versions, the first of them champion."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.tracking)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    client = place.client
    experiment = client.create_experiment("dermonas/noise", str(place.folder / "mlruns"))
    run = Run(client, client.create_run(experiment).info.run_id, experiment)
    for package in packages:
        copy = shutil.copytree(package, place.folder / "copy", ignore=shutil.ignore_patterns("__pycache__"))
        with registry.logged(run, NAME, copy, {}) as model:
            pass
        registry.register(run, NAME, model, run.id, {registry.FILES: files_digest(copy)}, "")
        shutil.rmtree(copy)
    client.set_registered_model_alias(NAME, registry.CHAMPION, "1")
    return place


@pytest.fixture
def serve(registered: Place) -> Callable[..., tuple[Process, Caller]]:
    """Return a function that serves the champion of that place."""

    def start(*arguments: str, patch: str = "") -> tuple[Process, Caller]:
        process = registered.start(
            "serve", "--model", f"models:/{NAME}@champion", "--port", "0", "--threads", "1", *arguments, patch=patch
        )
        return process, caller_of(process)

    return start
