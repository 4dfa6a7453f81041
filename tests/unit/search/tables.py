"""Made-up tables of cells, and a controller that learned nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dermonas.controller.languages import language_of
from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.pool import PoolSettings
from dermonas.data.benchmarks.nasbench201 import NasBench201Table
from dermonas.search import samplers
from dermonas.search.samplers.base import DomainSampler
from dermonas.search.samplers.nao import NaoSettings
from dermonas.search.tabular_benchmark import Benchmark
from dermonas.space.nasbench201 import NasBench201Space

SPACE = NasBench201Space()
NAO = NaoSettings(
    initial=6,
    seeds=4,
    count=4,
    pool=PoolSettings(epochs=4, batch_size=8, learning_rate=0.5),
    steps=4,
    constrained=True,
)


def made_up() -> Benchmark:
    """A table in which a cell's accuracy is a sum over its edges, with some noise."""
    rng = np.random.default_rng(0)
    thetas = SPACE.representatives()
    worth = rng.random((6, 5))
    sums = np.array([sum(worth[edge, choice] for edge, choice in enumerate(theta)) for theta in thetas])
    validation = 0.1 + 0.8 * sums / sums.max() + 0.02 * rng.random(len(thetas))
    test = np.clip(validation + 0.05 * rng.standard_normal(len(thetas)), 0, 1)
    rows = {SPACE.digest(theta): row for row, theta in enumerate(thetas)}
    return Benchmark(NasBench201Table("cifar10", rows, validation, test), "draw", Path("made-up.csv"))


def controller() -> Controller:
    """The same weights every time."""
    language = language_of(SPACE)
    return Controller(ControllerSettings(language.vocabulary, language.length), 0)


def sampler_of(name: str, seed: int, folder: Path | None = None) -> DomainSampler:
    """A sampler with small settings."""
    return samplers.make(
        name, SPACE, seed, population=8, tournament=4, nao=NAO, controller=controller(), folder=folder
    )  # fmt: skip
