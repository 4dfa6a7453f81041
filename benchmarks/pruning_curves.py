"""Searches for `benchmarks.pruning` on curves that are kept: each candidate's score and CPU seconds by epoch.

A score is bit-exact given settings and genotype (one thread, CPU), so arms share curves, and an arm costs only what no
arm before it has trained. The searches themselves are always run anew, through `Search`, our samplers and pruners.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import optuna
import torch

from dermonas.errors import SearchError
from dermonas.events import Observer, Silent
from dermonas.objective.contrastive import ContrastiveObjective, ContrastiveSettings
from dermonas.objective.score import Score
from dermonas.search import samplers
from dermonas.search.loop import Search
from dermonas.search.pruning import make_pruner
from dermonas.space.darts import DartsSpace
from dermonas.space.genotype import Genotype

SETTINGS = ContrastiveSettings(
    # So small that 40 minutes of one core suffice; the learning rate is the phantom recipe's.
    epochs=12, batch_size=48, learning_rate=0.01, width=64, resolution=12, channels=4, layers=3, precision="float32",
)  # fmt: skip
SPACE = DartsSpace(nodes=4, encoding="pairs")


@dataclass(frozen=True)
class Arm:
    """One way to search: sampler, pruner and what the pruner is set to."""

    sampler: str
    pruner: str
    reduction_factor: int = 3
    least_epochs: int = 1

    @classmethod
    def of(cls, text: str) -> Arm:
        """Read "tpe:none", "tpe:median", "tpe:halving:4:2" or "random:hyperband:3:1"."""
        sampler, pruner, *numbers = text.split(":")
        return cls(sampler, pruner, *map(int, numbers))

    @property
    def plain(self) -> Arm:
        """The unpruned search of the same sampler."""
        return Arm(self.sampler, "none")

    def __str__(self) -> str:
        numbers = f" {self.reduction_factor}, {self.least_epochs}" if self.pruner in ("halving", "hyperband") else ""
        return f"{self.sampler} {self.pruner}{numbers}"


class Curves:
    """Every candidate's score and CPU seconds by epoch, kept in a file."""

    def __init__(self, images: np.ndarray, settings: ContrastiveSettings, folder: Path) -> None:
        self.objective = ContrastiveObjective(images, settings, torch.device("cpu"))
        # A process's first steps pay for what torch loads; no candidate is charged for it.
        warm = ContrastiveObjective(images, replace(settings, epochs=1), torch.device("cpu"))
        warm.score(SPACE.genotype((0,) * len(SPACE.choices)), Silent())
        # A constant learning rate: a shorter training is the beginning of a longer one.
        identity = {**asdict(settings), "epochs": None, "images": hashlib.sha256(images.tobytes()).hexdigest()}
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / f"curves-{key}.jsonl"
        self.known: dict[str, list[tuple[float, float]]] = {}
        if self.file.exists():
            for line in self.file.read_text().splitlines():
                row = json.loads(line)
                self.known[row["digest"]] = [tuple(pair) for pair in row["curve"]]

    def extend(self, genotype: Genotype, told: Callable[[int, float, float], None]) -> None:
        """Train a candidate from the start; tell of (epoch, score, seconds) beyond those known, and keep them."""
        curve = self.known.setdefault(genotype.digest, [])
        before = len(curve)
        try:
            self.objective.score(genotype, _Meter(curve, told))
        finally:
            if len(curve) > before:
                with self.file.open("a") as out:
                    out.write(json.dumps({"digest": genotype.digest, "curve": curve}) + "\n")


class _Meter(Silent):
    """Measures each epoch's CPU seconds, the first with construction and the bank's filling."""

    def __init__(self, curve: list[tuple[float, float]], told: Callable[[int, float, float], None]) -> None:
        self.curve, self.told, self.mark = curve, told, time.process_time()

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        score, seconds = metrics["score"], round(time.process_time() - self.mark, 4)
        if epoch == len(self.curve):
            self.curve.append((score, seconds))
            self.told(epoch, score, seconds)
        elif score != self.curve[epoch][0]:  # what was measured first is what every arm is charged
            raise SystemExit(f"epoch {epoch} gave {score}, the file holds {self.curve[epoch][0]}")
        self.mark = time.process_time()


class Spent(SearchError):
    """The budget is spent."""


class Replay:
    """The objective of one search: replays what is known, trains what is not, and counts the seconds.

    Attributes:
        clock: CPU seconds charged so far.
        full: (clock, score) of every candidate that was trained for all epochs.
    """

    def __init__(self, curves: Curves, budget: float, stop: float) -> None:
        self.curves, self.budget, self.stop = curves, budget, stop
        self.epochs = curves.objective.settings.epochs
        self.clock = 0.0
        self.full: list[tuple[float, float]] = []

    def score(self, genotype: Genotype, observer: Observer, number: int = 0) -> Score:
        """Score a candidate; see `Objective`.

        Raises:
            Spent: Before an epoch that would pass the budget, or with a full score that reaches `stop`.
        """

        def told(epoch: int, score: float, seconds: float) -> None:
            if self.clock + seconds > self.budget:
                raise Spent("the budget is spent")
            self.clock += seconds
            if epoch == self.epochs - 1:
                self.full.append((self.clock, score))
                if score <= self.stop:
                    raise Spent("the threshold is reached")
            observer.epoch(number, epoch, {"score": score})

        known = self.curves.known.get(genotype.digest, [])[: self.epochs]
        for epoch, pair in enumerate(known):
            told(epoch, *pair)
        if len(known) < self.epochs:
            self.curves.extend(genotype, told)
        scores = tuple(score for score, _ in self.curves.known[genotype.digest][: self.epochs])
        return Score(scores[-1], scores, 0.0, 0.0, 0, 0, 0)


@dataclass(frozen=True)
class Outcome:
    """One search: its seconds, its fully trained candidates as (clock, score), and how many were pruned."""

    seconds: float
    full: tuple[tuple[float, float], ...]
    pruned: int

    @property
    def best(self) -> float:
        """The best fully trained score."""
        return min((score for _, score in self.full), default=math.inf)

    def reaches(self, threshold: float) -> float:
        """Return when a fully trained score reaches the threshold, inf if none does."""
        return min((clock for clock, score in self.full if score <= threshold), default=math.inf)


def search(
    arm: Arm, seed: int, curves: Curves, trials: int | None, budget: float = math.inf, stop: float = -math.inf
) -> Outcome:
    """Search with an arm until `trials` are complete, the budget is spent or a full score reaches `stop`."""
    epochs = curves.objective.settings.epochs
    sampler = samplers.make(arm.sampler, SPACE, seed, "modern")
    pruner = make_pruner(arm.pruner, epochs, arm.reduction_factor, arm.least_epochs)
    study = optuna.create_study(study_name=f"{arm}-{seed}", sampler=sampler, pruner=pruner)
    objective = Replay(curves, budget, stop)
    run = Search(study, SPACE, sampler, objective, trials=trials or sys.maxsize, max_failures=0, observer=Silent())
    with contextlib.suppress(Spent):
        run.run()
    return Outcome(objective.clock, tuple(objective.full), run.ledger.counts["pruned"])
