"""One search of the robustness study: an arm, a sampler, a seed, as a search run under the study's."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dermonas.audit.arms import Arm
from dermonas.audit.robustness import search_rows
from dermonas.data.cache import decoded_cache
from dermonas.data.manifest import Manifest
from dermonas.data.views import cached_resolution
from dermonas.events import Fanout, Observer
from dermonas.objective.contrastive import chance
from dermonas.objective.score import Objective, Score
from dermonas.objective.supervised import SupervisedObjective, held_out_rows
from dermonas.objective.untrained import objective_of
from dermonas.search import samplers
from dermonas.search.bounds import bounds_of
from dermonas.search.config import SearchConfig, identity, space_of
from dermonas.search.loop import Search
from dermonas.search.pruning import make_pruner
from dermonas.search.study import Study, opened
from dermonas.space.genotype import Genotype
from dermonas.tracking.lookup import INPUTS, by_id, inputs_digest, reusable
from dermonas.tracking.runs import PARENT, Run, download, tracked
from dermonas.tracking.search import GENOTYPE
from pipelines.crew import Crew
from pipelines.models import device_named
from pipelines.progress import SearchProgress
from pipelines.recipe import Recipe
from pipelines.search import report
from pipelines.search_task import Task, describe

ARM = "dermonas.arm"
"""Tag of a search of the study."""
CPU_SECONDS = "cpu_seconds:"
"""How the attributes of an Optuna study begin that hold a trial's CPU seconds."""


@dataclass(frozen=True, eq=False)
class Bench:
    """What all searches of a study share.

    Attributes:
        config: The searches' settings; sampler, seed and study's name are set for each.
        recipe: Where they came from.
        manifest: The data.
        folder: Where they were prepared.
        images: Training images that count as all; None is every labelled one.
        training: How what is found is trained; for the searches' checklists.
    """

    config: SearchConfig
    recipe: Recipe
    manifest: Manifest
    folder: Path
    images: int | None
    training: Mapping[str, Any]

    def searched(self, arm: Arm, sampler: str, seed: int, parent: Run) -> str:
        """Search, go on with a search that was killed, or find the finished one; return the run's id."""
        config = dataclasses.replace(self.config, sampler=sampler, seed=seed)
        device = device_named(config.device)
        about = {"objective": arm.objective, "share": arm.share, "of_images": self.images}
        depends = {**identity(config, self.manifest.digest, device.type), **about}
        inputs = inputs_digest("search", {**depends, "trials": config.trials})
        known = reusable(self.manifest.dataset, "search", inputs)
        if known is not None:
            shown_under(known, parent)
            return known
        # More trials prolong a study; whatever else changes makes another one.
        name = f"robustness-{arm.name}-{sampler}-s{seed}-{inputs_digest('study', depends)[:8]}"
        task = self._task(dataclasses.replace(config, study=name), device)
        tags = {**task.tags, INPUTS: inputs, ARM: arm.name, "dermonas.objective": arm.objective}
        experiment = f"dermonas/{self.manifest.dataset}"
        with tracked(experiment, "search", f"{arm.name}-{sampler}-s{seed}", tags, adopt=False) as run:
            run.params({"arm": arm.name, **about})
            describe(run, task)
            objective, images = self._objective(arm, task)
            pruner = make_pruner("none", config.epochs)
            with (
                opened(config.storage, name, depends, task.sampler, pruner) as study,
                Crew(run, study, task) as crew,
            ):
                run.tags({PARENT: parent.id})  # whoever leads a study makes its run one of its own
                progress = Fanout([crew, SearchProgress(config.epochs)])
                result = Search(
                    study,
                    task.space,
                    task.sampler,
                    _Clocked(objective, study),
                    trials=config.trials,
                    max_failures=config.max_failures,
                    max_attempts=config.max_attempts,
                    observer=progress,
                    bounds=bounds_of(config),
                ).run()
                if crew.must_report():
                    classes = len(self.manifest.classes)
                    guess = math.log(classes) if arm.objective == "supervised" else chance(config, images)
                    report(task, study, crew, progress, result, images, guess, self.training)
                run.metrics({"search/cpu_seconds": cpu_seconds(study)})
            return crew.search_run

    def _task(self, config: SearchConfig, device: torch.device) -> Task:
        space = space_of(config)
        sampler = samplers.make(
            config.sampler, space, config.seed, config.mode, config.tpe, zero_start=config.zero_start
        )
        return Task(config, self.recipe, self.manifest, self.folder, device, space, None, config.study, sampler)

    def _objective(self, arm: Arm, task: Task) -> tuple[Objective, int]:
        """Return the arm's objective and how many images it sees; a contrastive one is given no label."""
        config, frame = task.config, self.manifest.split_frame("train")
        labels, groups = self.manifest.label_indices(frame), frame["group"].to_numpy()
        rows = search_rows(labels, groups, arm.share, config.seed, self.images)
        side = cached_resolution(config.views, config.resolution)
        images = np.asanyarray(decoded_cache(self.manifest, self.folder, side, "train")[rows])
        if arm.objective == "contrastive":
            return objective_of(images, config, task.device), len(rows)
        labels, groups = labels[rows], groups[rows]
        held = held_out_rows(labels, groups, config.seed)
        classes = len(self.manifest.classes)
        return SupervisedObjective(images, labels, held, classes, config, task.device), len(rows)


class _Clocked:
    """An objective that keeps in the study how many CPU seconds each trial took.

    Device seconds on a CPU are wall time, which whatever else runs on the machine prolongs.
    """

    def __init__(self, objective: Objective, study: Study) -> None:
        self.objective, self.study = objective, study

    def score(self, genotype: Genotype, observer: Observer, number: int = 0) -> Score:
        """Score one candidate; see `Objective`."""
        start = time.process_time()
        found = self.objective.score(genotype, observer, number)
        self.study.set_user_attr(f"{CPU_SECONDS}{number}", time.process_time() - start)
        return found


def cpu_seconds(study: Study) -> float:
    """Return the CPU seconds of all threads in a study's complete trials."""
    return float(sum(value for key, value in study.user_attrs.items() if key.startswith(CPU_SECONDS)))


def shown_under(run_id: str, parent: Run) -> None:
    """Show a run under this study where the one that it was made for did not finish; a finished one keeps its own."""
    had = by_id(run_id).data.tags.get(PARENT)
    if had not in (None, parent.id) and by_id(had).info.status != "FINISHED":
        Run(parent.client, run_id, parent.experiment_id).tags({PARENT: parent.id})


def found_by(run_id: str) -> Mapping[str, Any]:
    """Return what a finished search came to: digest, trial, score, images, epochs, counts, device_seconds."""
    run = by_id(run_id)
    with tempfile.TemporaryDirectory() as scratch:
        genotype = json.loads(download(run_id, "genotype.json", Path(scratch)).read_text(encoding="utf-8"))
    metrics = run.data.metrics
    return {
        "digest": run.data.tags[GENOTYPE],
        "trial": int(genotype["trial"]),
        "score": float(genotype["score"]),
        "images": round(metrics["search/images"]),
        "epochs": int(run.data.params["epochs"]),
        "image_epochs": round(metrics["search/image_epochs"]),
        "device_seconds": metrics["search/device_seconds"],
        "cpu_seconds": metrics["search/cpu_seconds"],
        **{kind: round(metrics[f"search/{kind}"]) for kind in ("distinct", "duplicate", "failed")},
    }
