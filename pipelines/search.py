"""`mlflow run . -e search`: from unlabelled images to a genotype."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml

from dermonas.data.cache import decoded_cache
from dermonas.data.config import PrepareConfig, output_folder
from dermonas.data.manifest import Manifest, read_manifest
from dermonas.data.views import cached_resolution
from dermonas.errors import DataError
from dermonas.events import Fanout
from dermonas.objective.contrastive import ContrastiveObjective, chance
from dermonas.search import samplers
from dermonas.search.config import SearchConfig, deviations, identity, space_of, study_name
from dermonas.search.loop import Search, SearchResult
from dermonas.search.nao_config import CONTROLLED, nao_settings
from dermonas.search.pruning import make_pruner
from dermonas.search.report import write_report
from dermonas.search.rounds import facts_of, round_metrics
from dermonas.search.samplers.nao import NaoSampler
from dermonas.search.study import UID, file_name, opened, without_password
from dermonas.search.trials import event_of
from dermonas.seeding import numpy_generator
from dermonas.tracking.lookup import INPUTS, inputs_digest
from dermonas.tracking.runs import Run, tracked
from dermonas.tracking.search import GENOTYPE, SearchTracker
from pipelines import prepare
from pipelines.command import command
from pipelines.controllers import Found, controller_of, identity_of
from pipelines.models import device_named
from pipelines.progress import SearchProgress
from pipelines.recipe import STAGES, Recipe, parse, plain, read_config

ROUNDS = Path("outputs/nao")
"""Where nao keeps the controller after each round, a folder a study."""


def prepared(config: SearchConfig, recipe: Recipe) -> tuple[Manifest, Path]:
    """Return the prepared data set, preparing it first (as a run of its own) when its folder is missing.

    Raises:
        DataError: The folder holds something else than a prepared data set.
    """
    stage = {**recipe.stages["prepare"]}
    if config.data is not None:
        stage["out"] = str(config.data)
    folder = config.data
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
    """Return the search set, uint8 (n, S, S, 3): a memory map, or `config.images` rows of it drawn by seed."""
    images = decoded_cache(manifest, folder, cached_resolution(config.views, config.resolution), "search")
    if config.images is None or config.images >= len(images):
        return images
    chosen = numpy_generator(config.seed, "search images").choice(len(images), config.images, replace=False)
    return images[np.sort(chosen)]


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
    """Search as a tracked run; return its id and the result."""
    manifest, folder = prepared(config, recipe)
    device = device_named(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    space = space_of(config)
    found = controller_of(config.controller, space, recipe) if config.sampler == CONTROLLED else None
    controller = "" if found is None else found.identity
    name = study_name(config, recipe.name, manifest.digest)
    tags = {
        "dermonas.dataset_digest": manifest.digest,
        "dermonas.mode": config.mode,
        "dermonas.synthetic": manifest.synthetic,
    }
    inputs = {INPUTS: _inputs(config, manifest, controller)}
    with tracked(
        f"dermonas/{manifest.dataset}", "search", f"search-{name}", {**tags, **inputs}, adopt=adopt
    ) as tracker:
        _describe(tracker, config, recipe, manifest, folder, found)
        images = search_images(config, manifest, folder)
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
        assert config.pruner is not None
        pruner = make_pruner(config.pruner, config.epochs)
        identity_ = identity(config, manifest.digest, device.type, controller)
        with opened(config.storage, name, identity_, sampler, pruner) as study:
            observer = SearchTracker(tracker, name, study.user_attrs[UID], tags)
            observer.adopt(event_of(trial, space) for trial in study.get_trials(deepcopy=False))
            objective = ContrastiveObjective(images, config, device)
            both = Fanout([observer, SearchProgress(config.epochs)])
            guess = chance(objective.settings, len(images))
            search = Search(
                study,
                space,
                sampler,
                objective,
                trials=config.trials,
                max_failures=config.max_failures,
                observer=both,
            )
            result = search.run()
            if isinstance(sampler, NaoSampler):
                history = sampler.records(study)
                for made in sampler.rounds_of(history):
                    tracker.metrics(round_metrics([facts_of(made, history)]), made.first)
            with tempfile.TemporaryDirectory() as scratch:
                write_report(study, space, result, Path(scratch), both, guess)
        both.finished(
            "search",
            {
                "search/best_score": result.value,
                **({} if guess is None else {"search/chance": guess}),
                "search/images": len(images),
                "search/device_seconds": search.device_seconds,
                **{f"search/{kind}": count for kind, count in result.counts.items()},
                **{f"search/seconds/{phase}": seconds for phase, seconds in result.seconds.items()},
            },
        )
        tracker.tags({GENOTYPE: result.digest})
    return tracker.id, result


def _describe(
    tracker: Run, config: SearchConfig, recipe: Recipe, manifest: Manifest, folder: Path, found: Found | None
) -> None:
    """Log parameters, the whole configuration, deviations from the paper, and the data set."""
    settings = {**plain(config), "storage": without_password(config.storage)}
    if found is not None:
        settings |= {"controller": found.run_id or config.controller, "controller_source": found.source}
    tracker.params({**settings, "recipe": recipe.name})
    tracker.document("config.yaml", yaml.safe_dump(settings))
    tracker.document("deviations.json", deviations(config, manifest.dataset))
    tracker.data(manifest, folder, "search")


def main(argv: Sequence[str]) -> None:
    """Read the configuration, search, and print the run id and the best genotype's digest."""
    config, recipe = read_config("search", argv)
    run_id, result = run(config, recipe)
    counts = ", ".join(f"{kind} {count}" for kind, count in result.counts.items())
    print(f"best score {result.value:.6f} in trial {result.number} ({counts})", file=sys.stderr)
    print(f"run {run_id} genotype {result.digest}")


if __name__ == "__main__":
    sys.exit(command("search", main))
