"""A search with an objective that takes no time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted import Scripted

from dermonas.events import Silent
from dermonas.objective.score import Score
from dermonas.search import samplers
from dermonas.search.loop import Search
from dermonas.search.pruning import make_pruner
from dermonas.search.study import opened
from dermonas.space.darts import DartsSpace


class Objective:
    """Scores a genotype by its digest; `at(number, epoch)` is called before each epoch is reported."""

    def __init__(self, epochs: int = 2, at: Callable[[int, int], None] = lambda number, epoch: None) -> None:
        self.epochs, self.at = epochs, at
        self.scored: list[str] = []

    def score(self, genotype, observer, number=0):
        self.scored.append(genotype.digest)
        value = int(genotype.digest, 16) / 16**16
        values = tuple(value + 1 / (epoch + 1) for epoch in range(self.epochs))
        for epoch, score in enumerate(values):
            self.at(number, epoch)
            observer.epoch(number, epoch, {"score": score})
        return Score(values[-1], values, 2 * values[-1], 0.5, 10, 1, 100)


class Recorder(Silent):
    """Keeps the events of trials."""

    def __init__(self) -> None:
        self.trials = []

    def trial(self, event):
        self.trials.append(event)


class Bench:
    """Searches one study again and again."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/studies.db"
        self.space = DartsSpace(4, "first2")

    def thetas(self, count: int, seed: int = 0):
        """Distinct networks' thetas."""
        import numpy as np

        rng = np.random.default_rng(seed)
        found = {}
        while len(found) < count:
            theta = self.space.sample(rng)
            found.setdefault(self.space.digest(theta), theta)
        return list(found.values())

    def opened(self, sampler=None, *, name="study", identity=None, pruner=None, inside=False):
        return opened(
            self.url, name, {"epochs": 2} if identity is None else identity,
            sampler or samplers.make("random", self.space, 0), pruner or make_pruner("none", 2), inside=inside,
        )  # fmt: skip

    def search(self, sampler, objective, trials, *, max_failures=0, observer=None, pruner=None):
        """Search; return the search, its result and the study's trials."""
        with self.opened(sampler, pruner=pruner) as study:
            search = Search(
                study, self.space, sampler, objective, trials=trials, max_failures=max_failures,
                observer=observer or Silent(),
            )  # fmt: skip
            return search, search.run(), study.get_trials()


@pytest.fixture
def bench(tmp_path, study_tables):
    shutil.copy(study_tables, tmp_path)
    return Bench(tmp_path)


@pytest.fixture
def objective():
    return Objective


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def scripted(bench):
    def make(thetas, mode="modern"):
        return Scripted(bench.space, thetas, mode)

    return make
