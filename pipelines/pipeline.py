"""`mlflow run . -e pipeline`: prepare, search, train, benchmark, evaluate, explain, compare and register on one recipe.

Each step is a run of its own, as if it were started alone; one whose result for the same inputs exists is skipped. So
the same command after a kill goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from dermonas.data.config import PrepareConfig, output_folder
from dermonas.data.manifest import Manifest, read_manifest
from dermonas.errors import DataError
from dermonas.tracking.lookup import DIGEST, INPUTS, by_id, children, inputs_digest, reusable, supersede
from dermonas.tracking.runs import STAGE, Run, tracked
from pipelines import benchmark, compare, evaluate, explain, prepare, register, search, train
from pipelines.command import command
from pipelines.fitting import follower
from pipelines.pipeline_config import STEPS, PipelineConfig
from pipelines.recipe import STAGES, Recipe, by_step, parse, plain, read_config

_JUDGED = "best/validation/balanced_accuracy"


def run(config: PipelineConfig, recipe: Recipe, overrides: dict[str, list[str]]) -> dict[str, list[str]]:
    """Go the whole road as a tracked run.

    Args:
        config: The settings.
        recipe: Holds each step's own.
        overrides: Command-line words of each step.

    Returns:
        Step -> run ids; {} in a further process of a training on several devices.
    """
    settings = {step: parse(STAGES[step], recipe.stages[step], overrides.get(step, []), step) for step in STEPS}
    manifest = _prepared(settings["prepare"])
    folder = output_folder(settings["prepare"])
    for step in ("search", "train", "benchmark", "compare", "register"):
        settings[step] = dataclasses.replace(settings[step], data=folder)
    if follower(settings["train"], settings["benchmark"]):
        _models(config, settings, recipe, _searched(settings["search"], recipe, manifest), lambda step, run_id: run_id)
        return {}
    resolved = {"pipeline": plain(config), **{step: plain(values) for step, values in settings.items()}}
    same = {STAGE: "pipeline", INPUTS: inputs_digest("pipeline", {**resolved, "digest": manifest.digest})}
    tags = {**same, DIGEST: manifest.digest, "dermonas.synthetic": manifest.synthetic}
    with tracked(f"dermonas/{manifest.dataset}", "pipeline", f"pipeline-{recipe.name}", tags) as tracker:
        supersede(tracker, same)
        tracker.params({**plain(config), "recipe": recipe.name})
        tracker.document("config.yaml", yaml.safe_dump(resolved))
        tracker.data(manifest, folder, "pipeline")
        steps = _Steps(tracker)
        found = steps.told("search", _searched(settings["search"], recipe, manifest))
        models = _models(config, settings, recipe, found, steps.told)
        for one in models:
            values = _with(settings["evaluate"], run=one)
            steps.told("evaluate", evaluate.run(values, recipe, adopt=False, reuse=True))
        values = _with(settings["explain"], runs=models)
        maps = steps.told("explain", explain.run(values, recipe, adopt=False, reuse=True))
        values = _with(settings["compare"], runs=models, explain=maps)
        steps.told("compare", compare.run(values, recipe, adopt=False, reuse=True))
        if config.register != "none":
            chosen = _best(models[:1] if config.register == "found" else models)
            steps.told("register", _registered(_with(settings["register"], run=chosen), recipe, manifest))
        tracker.document("steps.json", steps.runs)
    return steps.runs


class _Steps:
    """Keeps which run did which step, on the pipeline's run as it goes."""

    def __init__(self, tracker: Run) -> None:
        self.tracker = tracker
        self.runs: dict[str, list[str]] = {}

    def told(self, step: str, run_id: str) -> str:
        self.runs.setdefault(step, []).append(run_id)
        self.tracker.tags({f"dermonas.step.{step}": " ".join(self.runs[step])})
        print(f"{step}: run {run_id}", file=sys.stderr)
        return run_id


def _models(
    config: PipelineConfig, settings: Mapping[str, Any], recipe: Recipe, found: str, told: Callable[[str, str], str]
) -> list[str]:
    """Train the found network, the published ones and the baselines; return their runs."""
    models = []
    for genotype in (found, *config.genotypes):
        models.append(told("train", train.run(_with(settings["train"], genotype=genotype), recipe, adopt=False)))
    for weights in (None, "none") if config.scratch else (None,):
        own = settings["benchmark"] if weights is None else _with(settings["benchmark"], weights=weights)
        models += [told("benchmark", one) for one in benchmark.run(own, recipe, adopt=False)]
    return models


def _with(config: Any, **values: Any) -> Any:
    return dataclasses.replace(config, **values)


def _prepared(config: PrepareConfig) -> Manifest:
    """Return the data set, prepared by these settings: those of an earlier prepare are in its report."""
    folder = output_folder(config)
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        manifest = read_manifest(folder)
    except (OSError, ValueError, DataError):
        return prepare.run(config, adopt=False)
    wanted, had = plain(config), report.get("config", {})
    same = report.get("digest") == manifest.digest and all(
        had.get(key) == value for key, value in wanted.items() if key not in ("workers", "out")
    )
    return manifest if same else prepare.run(config, adopt=False)


def _searched(config: Any, recipe: Recipe, manifest: Manifest) -> str:
    inputs = search.inputs_of(config, recipe, manifest)
    known = None if inputs is None else reusable(manifest.dataset, "search", inputs)
    return known or search.run(config, recipe, adopt=False)[0]


def _best(models: Sequence[str]) -> str:
    """Return the training with the best validation balanced accuracy, a seed of it where there are several."""
    seeds = [one for model in models for one in children(by_id(model))]
    return str(max(seeds, key=lambda one: one.data.metrics[_JUDGED]).info.run_id)


def _registered(config: Any, recipe: Recipe, manifest: Manifest) -> str:
    inputs = inputs_digest("register", {**plain(config), "data": None, "digest": manifest.digest})
    known = reusable(manifest.dataset, "register", inputs)
    return known or register.run(config, recipe, adopt=False, inputs=inputs).run


def main(argv: Sequence[str]) -> None:
    """Read the recipe and `--key value` or `--step.key value`, go, and print the pipeline's steps."""
    mine, overrides = by_step(argv, STEPS)
    config, recipe = read_config("pipeline", mine)
    found = run(config, recipe, overrides)
    if found:
        print(json.dumps(found))


if __name__ == "__main__":
    sys.exit(command("pipeline", main))
