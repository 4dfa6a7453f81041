"""What `train` and `benchmark` share: a network to a tracked, trained model, once or over several seeds."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence

import torch
import yaml

from dermonas.data.manifest import read_manifest
from dermonas.events import Silent
from dermonas.tracking.lookup import DIGEST, INPUTS, by_id, children, finished, inputs_digest, reusable, supersede
from dermonas.tracking.runs import PARENT, STAGE, UNDER, Run, child, launched, tracked
from dermonas.tracking.training import average
from dermonas.training.config import FitConfig, seeds_of
from dermonas.training.settings import TrainSettings
from pipelines.jobs import Job, Model, Work, check_classes, deviations_of, hardware_of, job_of
from pipelines.locks import alone
from pipelines.recipe import Recipe, plain, prepared_folder

_log = logging.getLogger(__name__)

FOLLOWED = "DERMONAS_TRAINS"
"""Tells the processes that Lightning starts for further devices which training the first one does."""
_MARKS = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", FOLLOWED)


def work_of(stage: str, config: FitConfig, recipe: Recipe) -> Work:
    """Read the prepared data set that a configuration names.

    Raises:
        DataError: it is not there; says how to prepare it.
    """
    folder = config.data
    if folder is None:
        folder = prepared_folder(recipe)
    return Work(stage, config, recipe, read_manifest(folder), folder)


def follower(*configs: FitConfig) -> bool:
    """Tell whether the first process of several does all the tracking, and this is another one."""
    started = FOLLOWED in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"
    return started or any(hardware_of(config).further() for config in configs)


def trained(work: Work, model: Model, *, adopt: bool = True, under: str = "") -> str:
    """Train a network over the configured seeds as a tracked run, a child a seed where there are several.

    A run with the same inputs that is finished is returned as it is, unless `fresh`.

    Args:
        work: What surrounds the network.
        model: The network.
        adopt: See `tracking.runs.tracked`.
        under: Run under which a new one is shown, if any.

    Returns:
        The run's id; "" in a further process of a training on several devices.
    """
    config, manifest = work.config, work.manifest
    if config.threads:
        torch.set_num_threads(config.threads)
    check_classes(manifest)
    jobs = [job_of(work, model, seed) for seed in seeds_of(config)]
    if follower(config):
        _follow(jobs)
        return ""
    inputs = inputs_digest(work.stage, {"runs": [job.digest for job in jobs]})
    name = model.name if config.label_fraction == 1 else f"{model.name}-{config.label_fraction:g}"
    known = None if config.fresh else reusable(manifest.dataset, work.stage, inputs)
    if known is not None:
        _log.info("%s was trained on the same inputs: run %s (--fresh true trains anew)", name, known)
        if adopt:
            launched(known, f"dermonas/{manifest.dataset}")
        return known
    tags = {
        DIGEST: manifest.digest,
        "dermonas.synthetic": manifest.synthetic,
        "dermonas.mode": work.recipe.stages["search"].get("mode", "modern"),
        "dermonas.model": model.name,
        "dermonas.label_fraction": config.label_fraction,
        "dermonas.start": jobs[0].record.start,
        **model.tags,
        **({UNDER: under} if under else {}),
    }
    top = {**tags, INPUTS: inputs, **({PARENT: under} if under else {})}
    with (
        alone(config.out / f".{inputs}.lock", f"trains the same into {config.out}"),
        tracked(f"dermonas/{manifest.dataset}", work.stage, name, top, adopt=adopt) as run,
    ):
        supersede(run, {STAGE: work.stage, INPUTS: inputs})
        _describe(run, work, model, jobs[0].settings)
        if len(jobs) == 1:
            with _followed(jobs[0]):
                jobs[0].tracked(run, name)
            return run.id
        for job in jobs:
            if not config.fresh and (old := _finished_child(run, job, work.stage)):
                run.client.set_tag(old, PARENT, run.id)
                continue
            own = {**tags, INPUTS: job.digest, "dermonas.seed": job.settings.seed}
            called = f"{name}-s{job.settings.seed}"
            with _followed(job), child(run, work.stage, called, own) as one:
                supersede(one, {STAGE: work.stage, INPUTS: job.digest})
                _describe(one, work, model, job.settings)
                job.tracked(one, called)
        average(run, children(run.client.get_run(run.id)), ("best/", "model/", "train/seconds", "search/"))
    return run.id


def _follow(jobs: Sequence[Job]) -> None:
    """Train along with the first process, which does all the tracking."""
    os.environ.pop("MLFLOW_RUN_ID", None)  # so that no error is noted there either
    named = os.environ.get(FOLLOWED)  # another launcher than Lightning says nothing: this process does every training
    for job in jobs:
        if named in (None, job.digest):
            with _followed(job):
                job.fit(job.network(), Silent())


def _describe(run: Run, work: Work, model: Model, settings: TrainSettings) -> None:
    """Log parameters, the whole configuration, deviations from the paper, and the data set."""
    resolved = settings.as_dict()
    view = resolved.pop("augment")
    values = {**plain(work.config), **resolved, **view, "network": model.name}
    run.params({**values, "recipe": work.recipe.name, "training_recipe": work.config.recipe})
    run.document("config.yaml", yaml.safe_dump({**values, "specification": model.spec.to_dict()}))
    run.document("deviations.json", deviations_of(work.config, settings))
    for name, content in model.documents.items():
        run.document(name, content)
    run.data(work.manifest, work.folder, "training")


def _finished_child(run: Run, job: Job, stage: str) -> str | None:
    """Return the finished run of one seed, from an earlier run of the same command that did not finish."""
    old = finished(run.client, run.experiment_id, {STAGE: stage, INPUTS: job.digest})
    if old is None or by_id(old.data.tags[PARENT]).info.status == "FINISHED":  # that one keeps its children
        return None
    return str(old.info.run_id)


@contextlib.contextmanager
def _followed(job: Job) -> Iterator[None]:
    """Have the processes that Lightning starts for further devices do this training, and end with it.

    It starts them once, and later takes its own marks in the environment for those of another launcher.
    """
    before = {name: os.environ.get(name) for name in _MARKS}
    os.environ[FOLLOWED] = job.digest
    if job.work.config.threads:
        os.environ["OMP_NUM_THREADS"] = str(job.work.config.threads)  # without it Lightning takes all cores' share
    try:
        yield
    finally:
        launched = before["LOCAL_RANK"] is None and "LOCAL_RANK" in os.environ  # else another launcher's group goes on
        if launched and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
