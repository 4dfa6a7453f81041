"""Finding trained runs, and fetching what they left: the model's files, its data set, a device to run it on."""

from __future__ import annotations

from pathlib import Path

import torch
from mlflow.entities import Run as MlflowRun

from dermonas.data.manifest import Manifest, read_manifest
from dermonas.errors import ConfigError
from dermonas.tracking.lookup import by_id, newest
from dermonas.tracking.runs import STAGE, download
from dermonas.tracking.training import MODEL
from dermonas.training.config import LATEST
from pipelines.recipe import STAGES, Recipe, parse, prepared_folder

READS = "dermonas.test_reads"
"""Tag of a trained run: how often test was read for it."""
EVALUATED, EVALUATED_BY = "dermonas.evaluated", "dermonas.evaluated_by"
"""Tags that lead from an evaluation to its trained run, and back from that to the newest evaluation."""
TEMPERATURE = "dermonas.temperature"
"""Tag of a trained run: what divides its logits."""
PREDICTIONS = "predictions.parquet"
"""Artifact of an evaluation."""
TRAINED = ("train", "benchmark")
"""Stages whose runs hold a model."""


def dataset_of(recipe: Recipe, data: Path | None, dataset: str | None) -> str:
    """Return the data set's name: as given, as the prepared folder says, or the recipe's."""
    if dataset is not None:
        return dataset
    if data is not None and (data / "manifest.json").is_file():
        return read_manifest(data).dataset
    return str(parse(STAGES["prepare"], recipe.stages["prepare"], [], "prepare").dataset)


def trained_run(name: str, dataset: str) -> MlflowRun:
    """Return a trained run by its id, or the newest of a data set for "latest".

    Raises:
        ConfigError: there is none, or it holds no model.
    """
    run = newest(dataset, TRAINED) if name == LATEST else by_id(name)
    stage = run.data.tags.get(STAGE)
    if stage not in TRAINED:
        raise ConfigError(f"run {name} is of stage {stage}: name one of {' or '.join(TRAINED)}")
    if run.info.status != "FINISHED":
        raise ConfigError(f"run {name} is {run.info.status.lower()}: the same {stage} command finishes it")
    return run


def model_folder(run: MlflowRun, scratch: Path) -> Path:
    """Fetch a trained run's record and weights; see `training.record.load_model`."""
    return download(run.info.run_id, MODEL, scratch)


def data_of(run: MlflowRun, data: Path | None, recipe: Recipe) -> tuple[Manifest, Path]:
    """Return the data set that a run was made with.

    Raises:
        ConfigError: the folder holds other data than those.
        DataError: it is not there.
    """
    folder = data
    if folder is None:
        stated = run.data.params.get("data", "None")
        folder = Path(stated) if stated != "None" else None
    if folder is None:
        folder = prepared_folder(recipe)
    manifest = read_manifest(folder)
    used = run.data.tags.get("dermonas.dataset_digest", "")
    if manifest.digest != used:
        raise ConfigError(
            f"{folder} holds data {manifest.digest[:8]}, run {run.info.run_id} was made with {used[:8]}: give --data "
            "the folder that it was made with"
        )
    return manifest, folder


def device_named(name: str) -> torch.device:
    """Return a device for "auto", "cpu" or "cuda".

    Raises:
        ConfigError: CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch sees no CUDA device; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
