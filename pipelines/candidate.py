"""What is to be registered: a trained and evaluated run, and the validation images that it is judged on."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlflow.entities import Run as MlflowRun
from numpy.typing import NDArray

from dermonas.data.manifest import Manifest, read_manifest
from dermonas.errors import ConfigError, DataError
from dermonas.evaluation.predict import flips
from dermonas.serving.description import Description
from dermonas.tracking.lookup import DIGEST, by_id, children, runs_with
from dermonas.tracking.registry import validation_digest
from dermonas.tracking.runs import STAGE, UNDER, experiment_id
from dermonas.tracking.store import connected, store_errors
from dermonas.tracking.training import MODEL
from dermonas.training.config import LATEST
from dermonas.training.record import ModelRecord
from pipelines.models import TEMPERATURE, TRAINED
from pipelines.recipe import Recipe, prepared_folder
from pipelines.register_config import RegisterConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Validation:
    """The labelled validation images.

    Attributes:
        files: (n,) encoded images.
        labels: int64 (n,) class indices.
        groups: (n,) lesions.
        digest: See `registry.validation_digest`.
    """

    files: list[Path]
    labels: NDArray[np.int64]
    groups: list[str]
    digest: str

    @classmethod
    def of(cls, manifest: Manifest) -> Validation:
        """Return those of a manifest.

        Raises:
            DataError: There are none.
        """
        rows = manifest.split_frame("validation")
        rows = rows[manifest.label_indices(rows) >= 0]
        if rows.empty:
            raise DataError(
                f"{manifest.dataset} has no labelled validation image: check the split sizes, prepare again"
            )
        labels, groups = manifest.label_indices(rows), [str(group) for group in rows["group"]]
        return cls(manifest.paths(rows), labels, groups, validation_digest(manifest))


def chosen(config: RegisterConfig, recipe: Recipe) -> tuple[MlflowRun, Manifest]:
    """Return the trained run and the data to judge it on.

    Raises:
        ConfigError: there is no such run, it holds no model, or it was not evaluated.
    """
    default = prepared_folder(recipe)
    if config.run == LATEST:
        manifest = read_manifest(config.data or default)
        return _latest(manifest), manifest
    found = by_id(config.run)
    seeds = [child.info.run_id for child in children(found)]
    if seeds != [found.info.run_id]:
        raise ConfigError(
            f"run {config.run} is of {len(seeds)} seeds: register one of them, --run {' or '.join(seeds)}"
        )
    if found.data.tags.get(STAGE) not in TRAINED:
        raise ConfigError(
            f"run {config.run} is of stage {found.data.tags.get(STAGE)}: give one of {' or '.join(TRAINED)}"
        )
    if TEMPERATURE not in found.data.tags:
        raise ConfigError(f"run {config.run} was not evaluated: run evaluate with --run {config.run} first")
    data = found.data.params.get("data", "None")
    return found, read_manifest(config.data or (default if data == "None" else Path(data)))


def _latest(manifest: Manifest) -> MlflowRun:
    client = connected()
    where = experiment_id(client, f"dermonas/{manifest.dataset}")
    found = [run for stage in TRAINED for run in runs_with(client, where, {STAGE: stage, DIGEST: manifest.digest})]
    for one in sorted(found, key=lambda run: run.info.start_time, reverse=True):
        with store_errors():
            held = (
                TEMPERATURE in one.data.tags
                and UNDER not in one.data.tags
                and bool(client.list_artifacts(one.info.run_id, MODEL))
            )
        if held and one.info.status == "FINISHED":
            return one
    raise ConfigError(
        f"no evaluated train or benchmark run of the data {manifest.digest[:8]} in experiment "
        f"dermonas/{manifest.dataset}: run train and evaluate first, or name a run"
    )


def other_data(config: RegisterConfig, record: ModelRecord, manifest: Manifest) -> bool:
    """Tell whether the validation images are of other data than the model was trained on.

    Raises:
        ConfigError: The classes differ, or the data were prepared again and are not named in the configuration.
    """
    if record.classes != manifest.classes:
        raise ConfigError(
            f"{record.name} knows the classes {', '.join(record.classes)}, the data have "
            f"{', '.join(manifest.classes)}: give the data that it was trained on"
        )
    if record.dataset_digest == manifest.digest:
        return False
    told = f"{record.name} was trained on data {record.dataset_digest[:8]}, these are {manifest.digest[:8]}"
    if config.data is None:
        raise ConfigError(f"{told}: prepare was run again since; give --data to judge it on these all the same")
    _log.warning("%s: it may have seen some of these validation images in training", told)
    return True


def description_of(name: str, record: ModelRecord, temperature: float) -> Description:
    """Return what a package says of a trained model, before its abstention threshold is known."""
    view = record.view
    try:
        turned = flips(view)
    except ConfigError:  # trained without flips
        turned = ((),)
    return Description(
        registered=name,
        name=record.name,
        dataset=record.dataset,
        dataset_digest=record.dataset_digest,
        synthetic=record.synthetic,
        classes=record.classes,
        stored=view.stored,
        size=view.size,
        mean=view.mean,
        std=view.std,
        temperature=temperature,
        flips=turned,
    )
