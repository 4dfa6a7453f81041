"""`mlflow run . -e robustness`: Fig 3, labels or none, a tenth or all of the images, TPE or random, on your data.

Each search, training and evaluation is a run under the study's. One whose result for the same inputs exists is not
made again, so the same command after a kill goes on where it stopped, inside a search and a training too.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from dermonas.audit.arms import ARMS
from dermonas.audit.robustness import Outcome, check_budgets, summary
from dermonas.audit.robustness_report import About, as_page, write_study
from dermonas.data.manifest import Manifest
from dermonas.errors import ConfigError, DataError
from dermonas.search.config import SearchConfig, identity
from dermonas.search.samplers.tpe import settings_of as tpe_settings
from dermonas.tracking.lookup import DIGEST, INPUTS, by_id, inputs_digest, reusable, supersede
from dermonas.tracking.runs import STAGE, Run, launched, tracked
from dermonas.training.config import seeds_of
from pipelines import evaluate, train
from pipelines.command import command
from pipelines.jobs import check_classes
from pipelines.locks import alone
from pipelines.models import device_named
from pipelines.recipe import STAGES, Recipe, by_step, parse, plain, read_config
from pipelines.robustness_config import DECIDED, SETTLED, STEPS, RobustnessConfig
from pipelines.robustness_search import Bench, found_by, shown_under
from pipelines.search_task import prepared

_log = logging.getLogger(__name__)

# What no result depends on.
_FREE = {
    "search": ("data", "storage", "study", "threads", "workers", "max_failures", "max_attempts", "sampler", "seed"),
    "train": ("data", "out", "fresh", "accelerator", "workers", "threads"),
    "evaluate": ("run", "dataset", "data", "device", "threads", "batch_size"),
}


def run(config: RobustnessConfig, recipe: Recipe, overrides: Mapping[str, Sequence[str]], *, adopt: bool = True) -> str:
    """Make the study as a tracked run, or find the finished one of the same inputs; return its id.

    Args:
        config: The settings.
        recipe: Holds those of search, train and evaluate.
        overrides: Command-line words of these.
        adopt: See `tracking.runs.tracked`.
    """
    settings = settings_of(config, recipe, overrides)
    manifest, folder = prepared(settings["search"].data, recipe)
    check_classes(manifest)
    if manifest.split_frame("test").empty:
        raise DataError(f"{folder} has no test image: run prepare again with other --split_sizes")
    if settings["search"].threads:
        torch.set_num_threads(settings["search"].threads)
    settings["train"] = dataclasses.replace(settings["train"], data=folder)
    inputs = _inputs(config, settings, manifest)
    known = reusable(manifest.dataset, "robustness", inputs)
    if known is not None:
        _log.info("the study was made on the same inputs: run %s", known)
        if adopt:
            launched(known, f"dermonas/{manifest.dataset}")
        return known
    tags = {INPUTS: inputs, DIGEST: manifest.digest, "dermonas.synthetic": manifest.synthetic}
    with (
        alone(config.out / f".{inputs}.lock", "makes the same study"),
        tracked(
            f"dermonas/{manifest.dataset}", "robustness", f"robustness-{recipe.name}", tags, adopt=adopt
        ) as tracker,
    ):
        supersede(tracker, {STAGE: "robustness", INPUTS: inputs})
        tracker.params({**plain(config), "recipe": recipe.name})
        resolved = {"robustness": plain(config), **{step: plain(settings[step]) for step in STEPS}}
        tracker.document("config.yaml", yaml.safe_dump(resolved))
        tracker.data(manifest, folder, "robustness")
        training = _changed(settings["train"])
        bench = Bench(settings["search"], recipe, manifest, folder, config.images, training)
        outcomes = _outcomes(config, settings, bench, tracker)
        check_budgets(outcomes)
        _report(tracker, outcomes, _about(config, settings, manifest))
    return tracker.id


def settings_of(config: RobustnessConfig, recipe: Recipe, overrides: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the settings of search, train and evaluate: the recipe's, the study's own, then the command line's.

    Raises:
        ConfigError: One of them is not possible, or the study's to set.
    """
    found: dict[str, Any] = {}
    for step in STEPS:
        words = overrides.get(step, ())
        for key in (word.split("=")[0][2:] for word in words if word.startswith("--")):
            if key in DECIDED[step]:
                raise ConfigError(f"--{step}.{key} is set by the study: leave it out")
        values = {key: value for key, value in recipe.stages[step].items() if key not in DECIDED[step]}
        found[step] = parse(STAGES[step], {**values, **getattr(config, step), **SETTLED[step]}, words, step)
    return found


def _inputs(config: RobustnessConfig, settings: Mapping[str, Any], manifest: Manifest) -> str:
    device = device_named(settings["search"].device).type
    values: dict[str, Any] = {
        key: getattr(config, key) for key in ("arms", "samplers", "seeds", "first_seed", "images")
    }
    for step in STEPS:
        values[step] = {key: value for key, value in plain(settings[step]).items() if key not in _FREE[step]}
    values["search"] |= identity(settings["search"], manifest.digest, device)
    return inputs_digest("robustness", values)


def _outcomes(config: RobustnessConfig, settings: Mapping[str, Any], bench: Bench, tracker: Run) -> list[Outcome]:
    """Search, train and evaluate for each seed, arm and sampler."""
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    work = list(itertools.product(seeds, config.arms, config.samplers))
    found = []
    for number, (seed, name, sampler) in enumerate(work, start=1):
        print(f"robustness [{number}/{len(work)}] {name}, {sampler}, seed {seed}", file=sys.stderr, flush=True)
        found.append(_outcome(settings, bench, name, sampler, seed, tracker))
        one = found[-1]
        told = f"test error {100 * one.test_error:.2f} %, search {one.device_seconds:.1f} s"
        print(f"robustness [{number}/{len(work)}] {told}", file=sys.stderr, flush=True)
    return found


def _outcome(settings: Mapping[str, Any], bench: Bench, name: str, sampler: str, seed: int, tracker: Run) -> Outcome:
    arm = ARMS[name]
    search_run = bench.searched(arm, sampler, seed, tracker)
    trainings = len(seeds_of(settings["train"]))
    training = dataclasses.replace(settings["train"], genotype=search_run, seed=seed * trainings)
    train_run = train.run(training, bench.recipe, adopt=False, under=tracker.id)
    evaluation = dataclasses.replace(settings["evaluate"], run=train_run, split="test")
    evaluate_run = evaluate.run(evaluation, bench.recipe, adopt=False, reuse=True, under=tracker.id)
    for one in (train_run, evaluate_run):
        shown_under(one, tracker)
    trained, judged = by_id(train_run).data.metrics, by_id(evaluate_run).data.metrics
    return Outcome(
        arm=name,
        objective=arm.objective,
        share=arm.share,
        sampler=sampler,
        seed=seed,
        **found_by(search_run),
        parameters_m=trained["model/params_m"],
        validation_error=1 - trained["best/validation/accuracy"],
        test_error=1 - judged["test/accuracy"],
        test_error_sd=judged.get("test/accuracy/sd"),
        trainings=trainings,
        search_run=search_run,
        train_run=train_run,
        evaluate_run=evaluate_run,
    )


def _about(config: RobustnessConfig, settings: Mapping[str, Any], manifest: Manifest) -> About:
    searching: SearchConfig = settings["search"]
    keys = ("trials", "epochs", "batch_size", "learning_rate", "channels", "layers", "resolution", "views", "score",
            "nodes", "encoding", "tpe", "mode", "pruner")  # fmt: skip
    notes = [
        "SL: held-out cross-entropy of a classifier, a fifth of the search set held out; CSSL: the search's score",
        f"each sampler has {searching.trials} trials x images x {searching.epochs} epochs in each arm; none is pruned",
        f"{config.seeds} seed{'s' * (config.seeds > 1)}: of the search, its images, and the training that follows it",
    ]
    start = tpe_settings(searching.tpe).n_startup
    if "tpe" in config.samplers:
        own = max(0, searching.trials - start)
        notes.append(
            f"TPE draws its first {start} proposals at random, as the paper's: {own} of {searching.trials} are its own"
            + ("" if own else ", so the samplers differ by luck alone")
        )
    return About(
        dataset=manifest.dataset,
        digest=manifest.digest,
        synthetic=manifest.synthetic,
        classes=len(manifest.classes),
        search={key: getattr(searching, key) for key in keys},
        train=_changed(settings["train"]),
        notes=notes,
        device=device_named(searching.device).type,
    )


def _changed(training: Any) -> dict[str, Any]:
    """Return what of a training's settings is said beside its recipe's name."""
    left = (*_FREE["train"], *DECIDED["train"])
    return {key: value for key, value in plain(training).items() if value is not None and key not in left}


def _report(tracker: Run, outcomes: Sequence[Outcome], about: About) -> None:
    """Log the files and, by arm and sampler, the means."""
    with tempfile.TemporaryDirectory() as scratch:
        for path in write_study(outcomes, about, Path(scratch)):
            tracker.artifact(path)
    metrics = {}
    for row in summary(outcomes).to_dict("records"):
        for figure in ("test_error", "validation_error", "device_seconds", "cpu_seconds"):
            for end in ("", "/half"):
                if row[f"{figure}{end}"] == row[f"{figure}{end}"]:  # no interval of one seed
                    metrics[f"robustness/{row['arm']}/{row['sampler']}/{figure}{end}"] = row[f"{figure}{end}"]
    tracker.metrics(metrics)
    print(as_page(outcomes, about), file=sys.stderr)


def main(argv: Sequence[str]) -> None:
    """Read the recipe and `--key value` or `--search.key value`, make the study, and print its run's id."""
    mine, overrides = by_step(argv, STEPS)
    config, recipe = read_config("robustness", mine)
    print(f"run {run(config, recipe, overrides)}")


if __name__ == "__main__":
    sys.exit(command("robustness", main))
