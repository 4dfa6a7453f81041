"""Patches that make a search die at a chosen point, and what a search must look like once it is complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

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
