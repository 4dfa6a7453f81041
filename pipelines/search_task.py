"""What a search and each of its workers set up alike: data, space, sampler, study."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from dermonas.data.cache import decoded_cache
from dermonas.data.config import PrepareConfig, output_folder
from dermonas.data.manifest import Manifest, read_manifest
from dermonas.data.views import cached_resolution
from dermonas.errors import DataError
from dermonas.search import samplers
from dermonas.search.config import SearchConfig, deviations, identity, space_of, study_name
from dermonas.search.nao_config import CONTROLLED, nao_settings
from dermonas.search.pruning import make_pruner
from dermonas.search.samplers.base import DomainSampler
from dermonas.search.storage import file_name, without_password
from dermonas.search.study import Study, opened
from dermonas.seeding import numpy_generator
from dermonas.space.darts import DartsSpace
from dermonas.tracking.runs import Run
from pipelines import prepare
from pipelines.controllers import Found, controller_of
from pipelines.models import device_named
from pipelines.recipe import STAGES, Recipe, parse, plain

ROUNDS = Path("outputs/nao")
"""Where nao keeps the controller after each round, a folder a study."""


@dataclass(frozen=True)
class Task:
    """A search that is ready to begin.

    Attributes:
        config: Its settings.
        recipe: Where they came from.
        manifest: The data set.
        folder: Where it was prepared.
        device: On which candidates are scored.
        space: What is searched.
        found: nao's controller; None for another sampler.
        name: The study's.
        sampler: The study's.
    """

    config: SearchConfig
    recipe: Recipe
    manifest: Manifest
    folder: Path
    device: torch.device
    space: DartsSpace
    found: Found | None
    name: str
    sampler: DomainSampler

    @property
    def controller(self) -> str:
        """Identity of nao's controller, or ""."""
        return "" if self.found is None else self.found.identity

    @property
    def tags(self) -> dict[str, Any]:
        """Tags that all runs of the search share."""
        return {
            "dermonas.dataset_digest": self.manifest.digest,
            "dermonas.mode": self.config.mode,
            "dermonas.synthetic": self.manifest.synthetic,
        }


def task_of(config: SearchConfig, recipe: Recipe) -> Task:
    """Set up a search: prepare the data and pretrain a controller where they are missing."""
    manifest, folder = prepared(config.data, recipe)
    device = device_named(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    space = space_of(config)
    found = controller_of(config.controller, space, recipe) if config.sampler == CONTROLLED else None
    name = study_name(config, recipe.name, manifest.digest)
    sampler = samplers.make(
        config.sampler,
        space,
        config.seed,
        config.mode,
        config.tpe,
        population=config.population,
        tournament=config.tournament,
        nao=None if found is None else nao_settings(config),
        controller=None if found is None else found.controller,
        folder=ROUNDS / file_name(name),
        zero_start=config.zero_start,
    )
    return Task(config, recipe, manifest, folder, device, space, found, name, sampler)


@contextlib.contextmanager
def study_of(task: Task, *, inside: bool = False) -> Iterator[Study]:
    """Open the task's study; see `dermonas.search.study.opened`."""
    config = task.config
    assert config.pruner is not None
    pruner = make_pruner(config.pruner, config.epochs, config.reduction_factor, config.least_epochs)
    identity_ = identity(config, task.manifest.digest, task.device.type, task.controller)
    with opened(config.storage, task.name, identity_, task.sampler, pruner, inside=inside) as study:
        yield study


def prepared(data: Path | None, recipe: Recipe) -> tuple[Manifest, Path]:
    """Return the prepared data set, preparing it first (as a run of its own) when its folder is missing.

    Raises:
        DataError: The folder holds something else than a prepared data set.
    """
    stage = {**recipe.stages["prepare"]}
    if data is not None:
        stage["out"] = str(data)
    folder = data
    if folder is None or not folder.exists() or not any(folder.iterdir()):
        settings: PrepareConfig = parse(STAGES["prepare"], stage, [], "prepare")
        folder = output_folder(settings)
        if not (folder / "manifest.json").exists():
            print(f"{folder} is not prepared yet: preparing it from {recipe.path} first", file=sys.stderr)
            return prepare.run(settings, adopt=False), folder
    elif not (folder / "manifest.json").exists():
        raise DataError(
            f"{folder} holds files but no manifest.json; give the folder that prepare wrote, or run "
            f"`python -m pipelines.prepare --source folder --root {folder} --out NEW_FOLDER` first"
        )
    return read_manifest(folder), folder


def search_images(config: SearchConfig, manifest: Manifest, folder: Path) -> np.ndarray:
    """Return the search set, uint8 (n, S, S, 3): a memory map where one shard holds it; or `config.images` of it."""
    images = decoded_cache(manifest, folder, cached_resolution(config.views, config.resolution), "search")
    if config.images is None or config.images >= len(images):
        return np.asanyarray(images)
    chosen = numpy_generator(config.seed, "search images").choice(len(images), config.images, replace=False)
    return images[np.sort(chosen)]


def share_of(threads: int, workers: int) -> int:
    """Return the CPU threads of one of several workers: as told, or its share of this process's cores."""
    return threads or max(1, len(os.sched_getaffinity(0)) // workers)


def describe(tracker: Run, task: Task) -> None:
    """Log parameters, the whole configuration, deviations from the paper, and the data set."""
    config, found = task.config, task.found
    settings = {**plain(config), "storage": without_password(config.storage)}
    if found is not None:
        settings |= {"controller": found.run_id or config.controller, "controller_source": found.source}
    tracker.params({**settings, "recipe": task.recipe.name})
    tracker.document("config.yaml", yaml.safe_dump(settings))
    tracker.document("deviations.json", deviations(config, task.manifest.dataset))
    tracker.data(task.manifest, task.folder, "search")
