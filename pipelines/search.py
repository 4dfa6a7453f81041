"""`mlflow run . -e search`: from unlabelled images to a genotype."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dermonas.data.manifest import Manifest
from dermonas.events import Fanout, Observer
from dermonas.objective.contrastive import chance
from dermonas.objective.untrained import objective_of
from dermonas.search.bounds import bounds_of
from dermonas.search.config import SearchConfig, identity, space_of
from dermonas.search.ledger import Ledger
from dermonas.search.loop import Search, SearchResult, result_of
from dermonas.search.nao_config import CONTROLLED
from dermonas.search.report import write_report
from dermonas.search.rounds import facts_of, round_metrics
from dermonas.search.samplers.nao import NaoSampler
from dermonas.search.study import Study
from dermonas.tracking.lookup import INPUTS, inputs_digest
from dermonas.tracking.runs import tracked
from dermonas.tracking.search import GENOTYPE
from pipelines import workers
from pipelines.checklist import write_checklist
from pipelines.command import command
from pipelines.controllers import identity_of
from pipelines.crew import Crew
from pipelines.models import device_named
from pipelines.progress import SearchProgress
from pipelines.recipe import Recipe, read_config
from pipelines.search_task import Task, describe, search_images, study_of, task_of


def inputs_of(config: SearchConfig, recipe: Recipe, manifest: Manifest) -> str | None:
    """Return a digest of what a search's result depends on; None while nao's controller is not pretrained."""
    controller: str | None = ""
    if config.sampler == CONTROLLED:
        controller = identity_of(config.controller, space_of(config), recipe)
    return None if controller is None else _inputs(config, manifest, controller)


def _inputs(config: SearchConfig, manifest: Manifest, controller: str) -> str:
    values = identity(config, manifest.digest, device_named(config.device).type, controller)
    return inputs_digest("search", {**values, "trials": config.trials})


def run(config: SearchConfig, recipe: Recipe, *, adopt: bool = True) -> tuple[str, SearchResult]:
    """Search as a tracked run; return the id of the search's run and the result.

    The run is this process's own, or that of the process which it joined.
    """
    task = task_of(config, recipe)
    tags = {**task.tags, INPUTS: _inputs(config, task.manifest, task.controller)}
    experiment, name = f"dermonas/{task.manifest.dataset}", f"search-{task.name}"
    with tracked(experiment, "search", name, tags, adopt=adopt) as tracker:
        describe(tracker, task)
        images = len(search_images(config, task.manifest, task.folder))  # workers find them decoded
        with study_of(task) as study, Crew(tracker, study, task) as crew:
            progress = Fanout([crew, SearchProgress(config.epochs)])
            if config.workers > 1:
                result = _by_workers(task, study, crew, progress)
            else:
                result = search_of(task, study, progress, shared=not crew.leads).run()
            if crew.must_report():
                report(task, study, crew, progress, result, images, chance(config, images))
        return crew.search_run, result


def search_of(task: Task, study: Study, observer: Observer, *, shared: bool) -> Search:
    """Return one worker of a task.

    Args:
        task: The task.
        study: Its study.
        observer: Told of all trials.
        shared: Whether another process writes the search's run, and reads this one's seconds from the study.
    """
    config = task.config
    return Search(
        study,
        task.space,
        task.sampler,
        objective_of(search_images(config, task.manifest, task.folder), config, task.device),
        trials=config.trials,
        max_failures=config.max_failures,
        max_attempts=config.max_attempts,
        observer=observer,
        shared=shared,
        bounds=bounds_of(config),
    )


def _by_workers(task: Task, study: Study, crew: Crew, observer: Observer) -> SearchResult:
    """Have processes of this one work on the study, and tell the observer what they do."""
    ledger = Ledger(task.space)
    ledger.read(study)
    observer.started("search", task.config.trials, {**ledger.totals(), "study": study.study_name})

    def look() -> None:
        for event in ledger.read(study):
            observer.trial(ledger.told(event))

    workers.work(task, look)
    look()
    return result_of(study, task.space, ledger, {})


def report(
    task: Task,
    study: Study,
    crew: Crew,
    observer: Observer,
    result: SearchResult,
    images: int,
    guess: float | None,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write the files and final figures of a search that is over.

    Args:
        task: The search.
        study: Its study.
        crew: This process, which leads.
        observer: Told of files and figures.
        result: What was found.
        images: That a candidate was scored on.
        guess: Score of a candidate that knows nothing; None where there is no such number.
        training: How what was found is trained; None is the recipe's section train.
    """
    tracker, sampler = crew.run, task.sampler
    if isinstance(sampler, NaoSampler):
        history = sampler.records(study)
        for made in sampler.rounds_of(history):
            tracker.metrics(round_metrics([facts_of(made, history)]), made.first)
    ledger = Ledger(task.space)
    events = ledger.read(study)
    seconds = crew.seconds(result.seconds)
    with tempfile.TemporaryDirectory() as scratch:
        write_report(study, task.space, result, Path(scratch), observer, guess)
        final = task.recipe.stages["train"] if training is None else training
        write_checklist(task, tracker, observer, ledger, events, result, images, seconds, final, Path(scratch))
    observer.finished(
        "search",
        {
            "search/best_score": result.value,
            **({} if guess is None else {"search/chance": guess}),
            "search/images": images,
            "search/image_epochs": float(images * ledger.epochs),
            "search/device_seconds": ledger.device_seconds,
            **{f"search/{kind}": count for kind, count in result.counts.items()},
            **{f"search/seconds/{phase}": value for phase, value in seconds.items()},
        },
    )
    tracker.tags({GENOTYPE: result.digest})


def main(argv: Sequence[str]) -> None:
    """Read the configuration, search, and print the run id and the best genotype's digest."""
    config, recipe = read_config("search", argv)
    run_id, result = run(config, recipe)
    counts = ", ".join(f"{kind} {count}" for kind, count in result.counts.items())
    print(f"best score {result.value:.6f} in trial {result.number} ({counts})", file=sys.stderr)
    print(f"run {run_id} genotype {result.digest}")


if __name__ == "__main__":
    sys.exit(command("search", main))
