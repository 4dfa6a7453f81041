"""What is compared: trained models with their answers on one test split, as plain values.

Models compare only on the same images with the same labels, so everything here ends in `aligned`: all answers in
the first one's order of images, or a refusal that names the first difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dermonas.errors import DataError
from dermonas.metrics.inputs import Floats, Ints, check_rows

_SHORT = 8  # digits of a run id that tell runs apart for a reader, as MLflow's page shows them


@dataclass(frozen=True, eq=False)
class Result:
    """One training's answers on the test split.

    Attributes:
        run_id: Of the run that holds them.
        seed: Of the training.
        images: (n,) names, each once.
        labels: (n,) class indices in [0, c).
        probabilities: (n, c) in [0, 1].
        groups: (n,) lesions.
    """

    run_id: str
    seed: int
    images: tuple[str, ...]
    labels: Ints
    probabilities: Floats
    groups: tuple[str, ...]

    def __post_init__(self) -> None:
        rows = len(self.images)
        lengths = (len(self.labels), len(self.probabilities), len(self.groups))
        if lengths != (rows,) * 3:
            raise DataError(f"run {self.run_id}: {rows} images, but {lengths} labels, probabilities and groups")
        twice = [name for name, count in Counter(self.images).items() if count > 1]
        if twice:
            raise DataError(f"run {self.run_id}: image {twice[0]} occurs twice; evaluate it again")
        try:
            check_rows(self.labels, self.probabilities)
        except DataError as error:
            raise DataError(f"run {self.run_id}: {error}") from error


@dataclass(frozen=True, eq=False)
class Candidate:
    """One trained model, with as many trainings as it has seeds.

    Attributes:
        name: What a reader calls it.
        kind: "cells" for a searched network, "timm" for a baseline.
        runs: One a seed, at least one; the first stands for the model where one training must (McNemar).
        parameters: Built, without the auxiliary head.
        multiply_adds: For one image.
        latency_ms: Measured, of one image; None where not measured.
        dead_parameters: Those among `parameters` that never influence the output.
        label_fraction: Share of the training labels used, in (0, 1]; 1 for all.
        search_device_seconds: Of the search that found it; None for a network that nobody searched.
        operations: Candidate operations of that search; None as above.
        strategy: How it was found, such as "TPE, contrastive" or "Manual".
        start: "random", or where the weights that training began with come from.
    """

    name: str
    kind: Literal["cells", "timm"]
    runs: tuple[Result, ...]
    parameters: int
    multiply_adds: int
    latency_ms: float | None = None
    dead_parameters: int = 0
    label_fraction: float = 1.0
    search_device_seconds: float | None = None
    operations: int | None = None
    strategy: str = "Manual"
    start: str = "random"

    def __post_init__(self) -> None:
        if not self.runs:
            raise DataError(f"{self.name} has no evaluated run; run evaluate on it first")
        if len({run.seed for run in self.runs}) < len(self.runs):
            seeds = ", ".join(str(run.seed) for run in self.runs)
            raise DataError(f"{self.name} has seeds {seeds}: the same seed twice says nothing new, leave one out")
        if self.parameters < 1 or self.multiply_adds < 1:
            raise DataError(f"{self.name}: {self.parameters} parameters and {self.multiply_adds} multiply-adds")
        if not 0 < self.label_fraction <= 1:
            raise DataError(f"{self.name}: label fraction {self.label_fraction} is not in (0, 1]")


def aligned(candidates: Sequence[Candidate], classes: Sequence[str]) -> tuple[Candidate, ...]:
    """Return the candidates with distinct names and all answers in the same order of images.

    Args:
        candidates: At least one.
        classes: Names, in the order of the probabilities' columns.

    Raises:
        DataError: No candidates, a run in two places, or answers to other images, labels, groups or classes.
    """
    if not candidates:
        raise DataError("nothing to compare: name at least one evaluated run")
    runs = Counter(run.run_id for candidate in candidates for run in candidate.runs)
    twice = [name for name, count in runs.items() if count > 1]
    if twice:
        raise DataError(f"run {twice[0]} stands in the comparison twice; name each run once")
    first = candidates[0].runs[0]
    return tuple(
        replace(candidate, name=name, runs=tuple(_as(first, run, candidate.name, classes) for run in candidate.runs))
        for candidate, name in zip(candidates, _distinct(candidates), strict=True)
    )


def _as(first: Result, run: Result, name: str, classes: Sequence[str]) -> Result:
    """Return a run's answers in the first run's order."""
    who = f"{name} (run {run.run_id})"
    if run.probabilities.shape[1] != len(classes):
        raise DataError(f"{who} knows {run.probabilities.shape[1]} classes, this data set has {len(classes)}")
    place = {image: row for row, image in enumerate(run.images)}
    if place.keys() != set(first.images):
        odd = min(place.keys() ^ set(first.images))
        raise DataError(
            f"{who} was evaluated on {len(place)} test images, run {first.run_id} on {len(first.images)}, "
            f"and {odd} is not in both: compare runs of one split of one data set"
        )
    order = np.array([place[image] for image in first.images])
    labels, groups = np.asarray(run.labels)[order], tuple(run.groups[row] for row in order)
    wrong = np.flatnonzero(labels != np.asarray(first.labels))
    if len(wrong):
        raise DataError(f"{who} and run {first.run_id} give image {first.images[wrong[0]]} different labels")
    if groups != first.groups:
        row = next(row for row, pair in enumerate(zip(groups, first.groups, strict=True)) if pair[0] != pair[1])
        raise DataError(f"{who} and run {first.run_id} give image {first.images[row]} different lesions")
    return replace(
        run, images=first.images, labels=labels, probabilities=np.asarray(run.probabilities)[order], groups=groups
    )


def _distinct(candidates: Sequence[Candidate]) -> list[str]:
    """Return a name for each that no other has at the same label fraction.

    Where names are equal, the start is added if it tells them apart, else a run id.
    """
    names = [candidate.name for candidate in candidates]
    endings = (
        lambda candidate: candidate.start,
        lambda candidate: f"run {candidate.runs[0].run_id[:_SHORT]}",
        lambda candidate: f"run {candidate.runs[0].run_id}",
    )
    for ending in endings:
        shared = Counter((name, c.label_fraction) for name, c in zip(names, candidates, strict=True))
        tried = [
            f"{c.name} ({ending(c)})" if shared[name, c.label_fraction] > 1 else name
            for name, c in zip(names, candidates, strict=True)
        ]
        found = Counter((name, c.label_fraction) for name, c in zip(tried, candidates, strict=True))
        names = [
            new if found[new, c.label_fraction] == 1 else old
            for new, old, c in zip(tried, names, candidates, strict=True)
        ]
    return names
