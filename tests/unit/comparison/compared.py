"""Candidates for tests: answers drawn so that one model is better than another by a known amount."""

from __future__ import annotations

import numpy as np

from dermonas.comparison.candidates import Candidate, Result
from dermonas.comparison.compare import Comparison, compare
from dermonas.seeding import numpy_generator

CLASSES = ("MEL", "NV", "BCC")
ROWS = 90


def result(run_id: str, skill: float, *, seed: int = 0, classes: int = 3, rows: int = ROWS) -> Result:
    """Answers that are right in about a share `skill` of the rows; two images a lesion."""
    truth = numpy_generator(0, "truth", classes)
    labels = truth.integers(0, classes, rows)
    labels[:classes] = np.arange(classes)
    rng = numpy_generator(seed, "answers", run_id)
    guess = np.where(rng.random(rows) < skill, labels, rng.integers(0, classes, rows))
    scores = rng.random((rows, classes)) + 2.0 * np.eye(classes)[guess]
    return Result(
        run_id=run_id,
        seed=seed,
        images=tuple(f"image{row:04d}" for row in range(rows)),
        labels=labels,
        probabilities=scores / scores.sum(axis=1, keepdims=True),
        groups=tuple(f"lesion{row // 2:04d}" for row in range(rows)),
    )


def candidate(name: str, skill: float, *, kind: str = "cells", seeds: int = 1, classes: int = 3, **more) -> Candidate:
    start = more.get("start", "random")
    key = f"{name}/{start}/{more.get('label_fraction', 1.0)}"
    defaults = {"parameters": 3_554_048, "multiply_adds": 496_100_000}
    runs = tuple(result(f"{key}/{seed}", skill, seed=seed, classes=classes) for seed in range(seeds))
    return Candidate(name=name, kind=kind, runs=runs, **{**defaults, **more})


def three(seeds: int = 1) -> list[Candidate]:
    """A searched network, a pretrained baseline and the same from random weights."""
    baseline = {"kind": "timm", "parameters": 3_400_000, "multiply_adds": 380_000_000, "seeds": seeds}
    return [
        candidate("DermoCSNAS_4", 0.8, seeds=seeds, search_device_seconds=5400.0, operations=7, latency_ms=31.25,
                  strategy="TPE, contrastive", dead_parameters=1234),
        candidate("tf_efficientnet_lite0", 0.85, start="wheel", **baseline),
        candidate("tf_efficientnet_lite0 (random)", 0.2, **baseline),
    ]  # fmt: skip


def comparison(candidates: list[Candidate] | None = None, layout: str = "isic", **more) -> Comparison:
    settings = {"classes": CLASSES, "dataset": "phantom", "synthetic": True, "digest": "0123abcd", "replicates": 300}
    return compare(three() if candidates is None else candidates, layout, **{**settings, **more})
