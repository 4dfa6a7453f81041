"""`mlflow run . -e compare`: evaluated models beside each other, with intervals, tests, fronts and one HTML report."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mlflow.entities import Run as MlflowRun

from dermonas.comparison.candidates import Candidate, Result
from dermonas.comparison.compare import compare
from dermonas.comparison.report import write
from dermonas.data.manifest import Manifest, read_manifest
from dermonas.errors import ConfigError, StorageError
from dermonas.evaluation.predictions import Predictions
from dermonas.space.genotype import PRIMITIVES
from dermonas.tracking.lookup import (
    DIGEST,
    INPUTS,
    by_id,
    children,
    inputs_digest,
    newest,
    reusable,
    runs_with,
    supersede,
)
from dermonas.tracking.runs import PARENT, STAGE, download, experiment_id, tracked
from dermonas.tracking.store import connected
from pipelines.command import command
from pipelines.compare_config import ALL, CompareConfig
from pipelines.explain import GRID
from pipelines.models import EVALUATED_BY, PREDICTIONS, TRAINED, data_of, dataset_of, trained_run
from pipelines.recipe import Recipe, plain, prepared_folder, read_config

_LAYOUTS = {"cifar10": "cifar10", "cifar100": "cifar10", "imagenet": "imagenet"}
# Labelled images of the data sets that the paper's tables are about. Source: spec/csnas.md 5 and 6.
_WHOLE = {"isic": 25_331, "cifar10": 60_000, "imagenet": 1_281_167}


def run(config: CompareConfig, recipe: Recipe, *, adopt: bool = True, reuse: bool = False) -> str:
    """Compare evaluated runs as a tracked run, or find it with `reuse`; return its id."""
    if config.runs == [ALL]:
        folder = config.data or prepared_folder(recipe)
        manifest = read_manifest(folder)
        runs = _all(manifest)
    else:
        runs = [trained_run(name, dataset_of(recipe, config.data, None)) for name in config.runs]
        manifest, folder = data_of(runs[0], config.data, recipe)
    dataset = manifest.dataset
    layout: Any = _LAYOUTS.get(dataset, "isic") if config.layout == "auto" else config.layout
    evaluations = [one.data.tags.get(EVALUATED_BY) for one in runs]
    inputs = inputs_digest("compare", {**plain(config), "data": None, "runs": evaluations, "layout": layout})
    if reuse and (known := reusable(dataset, "compare", inputs)):
        return known
    tags = {INPUTS: inputs, DIGEST: manifest.digest, "dermonas.synthetic": manifest.synthetic}
    with (
        tempfile.TemporaryDirectory() as place,
        tracked(f"dermonas/{dataset}", "compare", f"compare-{len(runs)}-models", tags, adopt=adopt) as tracker,
    ):
        supersede(tracker, {STAGE: "compare", INPUTS: inputs})
        scratch = Path(place)
        comparison = compare(
            [_candidate(one, manifest, scratch) for one in runs],
            layout,
            manifest.classes,
            dataset,
            manifest.synthetic,
            digest=manifest.digest,
            subset=int(manifest.frame["label"].notna().sum()) < _WHOLE[layout],
            reference=config.reference,
            melanoma=config.melanoma,
            replicates=config.resamples,
            seed=config.seed,
        )
        settled = {**plain(config), "runs": [one.info.run_id for one in runs], "layout": layout}
        tracker.params(settled)
        tracker.document("config.yaml", yaml.safe_dump(settled))
        tracker.data(manifest, folder, "comparison")
        names = dict(zip((one.info.run_id for one in runs), (row.name for row in comparison.ours), strict=True))
        maps = _grid(config, manifest, scratch)
        found = write(
            comparison,
            scratch / "out",
            grid=None if maps is None else maps.read_bytes(),
            deviations={names[one.info.run_id]: _deviations(one, scratch) for one in runs},
        )
        for path in [*found, *([] if maps is None else [maps])]:
            tracker.artifact(path)
    return tracker.id


def _all(manifest: Manifest) -> list[MlflowRun]:
    """Return every evaluated top-level run of the data; of one name and label fraction the newest, oldest first."""
    client = connected()
    experiment = experiment_id(client, f"dermonas/{manifest.dataset}")
    kept: dict[tuple[str, str], MlflowRun] = {}
    for stage in TRAINED:
        for one in runs_with(client, experiment, {STAGE: stage, DIGEST: manifest.digest}):
            tags = one.data.tags
            if one.info.status == "FINISHED" and EVALUATED_BY in tags and PARENT not in tags:
                kept.setdefault((tags["dermonas.model"], tags["dermonas.label_fraction"]), one)
    if not kept:
        where = f"dermonas/{manifest.dataset}"
        raise ConfigError(f"no evaluated run of the data {manifest.digest[:8]} in {where}: evaluate first")
    return sorted(kept.values(), key=lambda one: one.info.start_time)


def _candidate(run: MlflowRun, manifest: Manifest, scratch: Path) -> Candidate:
    """Read what compare needs of a trained run: its cost, and the answers of each seed on test."""
    tags, metrics = run.data.tags, run.data.metrics
    if tags.get(DIGEST) != manifest.digest:
        raise ConfigError(f"run {run.info.run_id} is of other data than {manifest.digest[:8]}: give --data its folder")
    results = [_result(one, scratch) for one in children(run)]
    search = tags.get("dermonas.search_run")
    seconds = metrics.get("search/device_seconds")
    cells = tags[STAGE] == "train"
    strategy = "published genotype" if cells else "Manual"
    if search is not None:
        had = by_id(search).data.params
        strategy = f"{had.get('sampler', '')}, {had.get('objective', 'contrastive')}".lstrip(", ")
    return Candidate(
        name=tags["dermonas.model"],
        kind="cells" if cells else "timm",
        runs=tuple(results),
        parameters=round(metrics["model/params_m"] * 1e6),
        multiply_adds=round(metrics["model/macs_g"] * 1e9),
        latency_ms=metrics.get("model/latency_ms"),
        dead_parameters=round(metrics.get("model/dead_params_m", 0.0) * 1e6),
        label_fraction=float(tags["dermonas.label_fraction"]),
        search_device_seconds=seconds,
        operations=len(PRIMITIVES) - 1 if cells else None,  # "none" is not built
        strategy=strategy,
        start=tags.get("dermonas.start", "random"),
    )


def _result(run: MlflowRun, scratch: Path) -> Result:
    """Read one seed's answers from its newest evaluation."""
    evaluation = run.data.tags.get(EVALUATED_BY)
    if evaluation is None:
        raise ConfigError(f"run {run.info.run_id} ({run.info.run_name}) is not evaluated: run evaluate --run on it")
    path = download(evaluation, PREDICTIONS, scratch / evaluation)
    test = Predictions.read(path).split("test")
    known = test.rows(test.labels() >= 0)
    return Result(
        run_id=run.info.run_id,
        seed=int(run.data.params.get("seed", 0)),
        images=tuple(known.frame["image"]),
        labels=known.labels(),
        probabilities=np.asarray(known.probabilities()),
        groups=tuple(known.groups()),
    )


def _deviations(run: MlflowRun, scratch: Path) -> list[dict[str, Any]]:
    """Read what a run's training changed in the paper's."""
    (scratch / f"deviations-{run.info.run_id}").mkdir()
    path = download(run.info.run_id, "deviations.json", scratch / f"deviations-{run.info.run_id}")
    content = json.loads(path.read_text(encoding="utf-8"))
    return [{"key": key, "paper": value["paper"], "ours": value["here"]} for key, value in content.items()]


def _grid(config: CompareConfig, manifest: Manifest, scratch: Path) -> Path | None:
    """Fetch the grid of heat maps; None where none was made."""
    if config.explain == "none":
        return None
    if config.explain == "latest":
        try:
            explained = newest(manifest.dataset, ("explain",), manifest.digest).info.run_id
        except ConfigError:
            return None
    else:
        explained = by_id(config.explain).info.run_id
    try:
        return download(explained, GRID, scratch)
    except StorageError:
        if config.explain == "latest":
            return None
        raise


def main(argv: Sequence[str]) -> None:
    """Read the configuration, compare, and print the run's id."""
    config, recipe = read_config("compare", argv)
    print(f"run {run(config, recipe)}")


if __name__ == "__main__":
    sys.exit(command("compare", main))
