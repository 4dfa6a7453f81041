"""Small made-up material of the controller's report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dermonas.comparison.controller.known import Known
from dermonas.comparison.controller.material import Material, Pretraining, Searched
from dermonas.comparison.controller.searches import Answers, Search
from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.space.nasbench101_graphs import every_graph

NB101 = NasBench101Language()
CELLS = every_graph(5).astype(np.uint8)


def known(seed: int = 0) -> Known:
    """A made-up accuracy for each graph of at most five vertices."""
    test = np.random.default_rng(seed).uniform(0.5, 0.9, len(CELLS))
    return Known(CELLS, test, "test accuracy", "made up", test, float(np.sort(test)[-3]))


def search(arm: str, seeds: int = 3, queries: int = 40, gain: float = 0.0) -> Search:
    """Accuracies of a made-up search; the seeds of two arms share their noise."""
    answers = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        test = 0.7 + 0.1 * rng.random(queries) + gain
        answers[seed] = Answers(test + rng.normal(0, 0.001, queries), test)
    return Search(arm, f"{arm:0<32}", answers)


def controller(seed: int = 0) -> Controller:
    return Controller(ControllerSettings(NB101.vocabulary, NB101.length), seed).eval()


def history(steps: int = 4) -> list[dict[str, float]]:
    names = ("pretrain/metric", "pretrain/reconstruction", "pretrain/token_accuracy", "pretrain/masked_accuracy")
    return [{"iterations": 10 * step, **dict.fromkeys(names, 1 / step)} for step in range(1, steps + 1)]


def material(**changes: object) -> Material:
    """Two pretrained controllers, three arms, one controller after its search."""
    values: dict[str, object] = {
        "domain": "nasbench101",
        "place": "a made-up table",
        "language": NB101,
        "cells": CELLS,
        "listed": True,
        "known": known(),
        "pretrainings": [
            Pretraining("a" * 32, "MarginLoss", 0, controller(0), history()),
            Pretraining("b" * 32, "AngularLoss", 0, controller(1), history(1)),
        ],
        "searches": [search("evolution"), search("nao-<b>", gain=0.05), search("random", seeds=1, queries=20)],
        "searched": [Searched("nao-<b>", "MarginLoss", controller(2))],
    }
    return Material(**{**values, **changes})  # type: ignore[arg-type]


def write_queries(folder: Path, one: Search) -> Path:
    """Write a search as controller-search does, rows shuffled."""
    rows = [
        {"seed": seed, "query": place + 1, "round": 0, "theta": "[]", "digest": "", "validation": v, "test": t}
        for seed, answers in one.seeds.items()
        for place, (v, t) in enumerate(zip(answers.validation, answers.test, strict=True))
    ]
    path = folder / "queries.parquet"
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_parquet(path, index=False)
    return path
