"""`mlflow run . -e evaluate`: a trained model's figures with intervals, its predictions, its calibration."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from mlflow.entities import Run as MlflowRun
from torch import nn

from dermonas.data.cache import Rows, decoded_cache
from dermonas.data.manifest import Manifest, read_manifest
from dermonas.errors import ConfigError, DataError
from dermonas.evaluation.documents import as_text, write_documents
from dermonas.evaluation.evaluate import evaluate
from dermonas.evaluation.figures import write_figures
from dermonas.evaluation.mapping import ClassMapping
from dermonas.evaluation.predict import predict
from dermonas.evaluation.predictions import Predictions, tabulate
from dermonas.evaluation.submission import COLUMNS, write_submission
from dermonas.evaluation.temperature import LabelledLogits, temperature_of
from dermonas.metrics.temperature import Temperature
from dermonas.tracking.lookup import DIGEST, INPUTS, children, inputs_digest, reusable, supersede
from dermonas.tracking.runs import PARENT, STAGE, Run, child, tracked
from dermonas.tracking.training import average
from dermonas.training.record import ModelRecord, load_model
from pipelines.command import command
from pipelines.evaluate_config import EvaluateConfig
from pipelines.models import (
    EVALUATED,
    EVALUATED_BY,
    PREDICTIONS,
    READS,
    TEMPERATURE,
    data_of,
    dataset_of,
    device_named,
    model_folder,
    trained_run,
)
from pipelines.recipe import Recipe, plain, read_config

_log = logging.getLogger(__name__)

_FREE = ("dataset", "data", "device", "threads", "batch_size")
"""Keys that do not change the result."""


def run(config: EvaluateConfig, recipe: Recipe, *, adopt: bool = True, reuse: bool = False, under: str = "") -> str:
    """Evaluate a trained run (each seed of it) as a tracked run, shown under the run `under` if any; return its id.

    With `reuse` a finished evaluation of the same inputs is returned instead: test is not read again.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    trained = trained_run(config.run, dataset_of(recipe, config.data, config.dataset))
    manifest, folder = data_of(trained, config.data, recipe)
    other = None if config.external is None else read_manifest(config.external)
    values = {**plain(config), "run": trained.info.run_id, "external": None if other is None else other.digest}
    inputs = inputs_digest("evaluate", {key: value for key, value in values.items() if key not in _FREE})
    if reuse and (known := reusable(manifest.dataset, "evaluate", inputs)):
        return known
    name = f"{trained.info.run_name}-{config.split if other is None else other.dataset}"
    tags = {
        DIGEST: manifest.digest,
        "dermonas.synthetic": manifest.synthetic,
        "dermonas.model": trained.data.tags.get("dermonas.model", ""),
        EVALUATED: trained.info.run_id,
    }
    ones = children(trained)
    top = {**tags, INPUTS: inputs, **({PARENT: under} if under else {})}
    with tracked(f"dermonas/{manifest.dataset}", "evaluate", name, top, adopt=adopt) as tracker:
        supersede(tracker, {STAGE: "evaluate", INPUTS: inputs})
        parent = Run(tracker.client, trained.info.run_id, trained.info.experiment_id)
        for one in ones:
            work = _Work(config, one, manifest, folder, other)
            if len(ones) == 1:
                _evaluate(work, tracker)
                continue
            seed = one.data.tags["dermonas.seed"]
            own = {**tags, EVALUATED: one.info.run_id, "dermonas.seed": seed, INPUTS: f"{inputs}-s{seed}"}
            with child(tracker, "evaluate", f"{name}-s{seed}", own) as seed_run:
                supersede(seed_run, {STAGE: "evaluate", INPUTS: own[INPUTS]})
                _evaluate(work, seed_run)
        tracker.params({**plain(config), "run": trained.info.run_id})
        if len(ones) > 1:
            figures = children(tracker.client.get_run(tracker.id))
            prefixes = (f"{_prefix(config, other)}/",)
            average(tracker, figures, prefixes)
            if work.of_test:
                average(parent, figures, prefixes)
            if work.counted:
                parent.tags({EVALUATED_BY: tracker.id})
    return tracker.id


@dataclass(frozen=True, eq=False)
class _Work:
    """One trained model, the data it was trained on, and perhaps an external test set."""

    config: EvaluateConfig
    trained: MlflowRun
    manifest: Manifest
    folder: Path
    other: Manifest | None

    @property
    def counted(self) -> bool:
        """Whether this reads the data set's own test images."""
        return self.other is None and self.config.split == "test"

    @property
    def of_test(self) -> bool:
        """Whether the figures belong on the trained run, whose own on validation are those of each epoch."""
        return self.other is not None or self.counted


def _prefix(config: EvaluateConfig, other: Manifest | None) -> str:
    return config.split if other is None else f"external/{other.dataset}"


def _evaluate(work: _Work, tracker: Run) -> None:
    """Predict, calibrate and score one model; its figures go to this run and to the trained one."""
    config = work.config
    trained = Run(tracker.client, work.trained.info.run_id, work.trained.info.experiment_id)
    with tempfile.TemporaryDirectory() as scratch:
        model, record = load_model(model_folder(work.trained, Path(scratch)))
        if work.counted:  # before it happens, so that one that dies counts too
            reads = int(work.trained.data.tags.get(READS, 0)) + 1
            trained.tags({READS: reads})
            if reads > 1:
                _log.warning("test has now been read %d times for this model: choose nothing by it", reads)
        predictions = predictions_of(work, model, record)
        found = evaluate(
            predictions,
            "test" if work.other is not None else config.split,
            melanoma=config.melanoma,
            resamples=config.resamples,
            seed=config.seed,
        )
        out = Path(scratch) / "out"
        out.mkdir()
        predictions.write(out / PREDICTIONS)
        write_documents(found, out)
        write_figures(found, out)
        if set(record.classes) == set(COLUMNS) and work.other is None:
            write_submission(predictions.split(config.split), out / "submission.csv")
        for path in sorted(out.iterdir()):
            tracker.artifact(path)
    metrics = found.metrics(_prefix(config, work.other))
    tracker.metrics(metrics)
    if work.of_test:
        trained.metrics(metrics)
    settled = {**plain(config), "run": work.trained.info.run_id}
    tracker.params(settled)
    tracker.document("config.yaml", yaml.safe_dump(settled))
    tracker.data(work.manifest if work.other is None else work.other, work.folder, "evaluation")
    if work.counted:
        trained.tags({EVALUATED_BY: tracker.id})
    if work.other is None:
        trained.tags({TEMPERATURE: predictions.temperature.value})
    tracker.tags({"dermonas.warnings": "; ".join(found.warnings)})
    print(as_text(found), file=sys.stderr)


def predictions_of(work: _Work, model: nn.Module, record: ModelRecord) -> Predictions:
    """Return the table of validation and the evaluated rows, at the temperature that validation gives."""
    config, manifest = work.config, work.manifest
    device = device_named(config.device)

    def logits(split: Rows) -> np.ndarray:
        images = decoded_cache(manifest, work.folder, record.view.stored, split)
        return predict(model, images, record.view, batch_size=config.batch_size, device=device, tta=config.tta)

    def labelled(split: Rows, values: np.ndarray) -> LabelledLogits:
        rows = manifest.split_frame(split)
        return LabelledLogits(manifest.label_indices(rows), values, rows["group"].tolist())

    validation = logits("validation")
    temperature = temperature_of(
        labelled("validation", validation),
        lambda: labelled("train", logits("train")),
        names=record.classes,
        seed=config.seed,
    )
    if work.other is not None:
        return _external(work, model, record, temperature, device)
    frames, values = [manifest.split_frame("validation")], [validation]
    if config.split == "test":
        if manifest.split_frame("test").empty:
            raise DataError(f"{work.folder} has no test image: run prepare again with other --split_sizes")
        frames.append(manifest.split_frame("test"))
        values.append(logits("test"))
    return tabulate(
        pd.concat(frames, ignore_index=True),
        np.concatenate(values),
        record.classes,
        temperature,
        model=record.name,
        dataset=manifest.dataset,
        dataset_digest=manifest.digest,
        synthetic=manifest.synthetic,
        tta=config.tta,
    )


def _external(
    work: _Work, model: nn.Module, record: ModelRecord, temperature: Temperature, device: torch.device
) -> Predictions:
    """Return the table of an external test set, its classes mapped to the model's."""
    config, other, folder = work.config, work.other, work.config.external
    assert other is not None
    assert folder is not None
    test = other.split_frame("test")
    rows = test if len(test) else other.frame[other.frame["label"].notna()]
    if rows.empty:
        raise DataError(f"{folder} has no labelled image to evaluate on")
    mapping = ClassMapping(config.mapping or {name: [name] for name in record.classes}, record.classes)
    mapping.check_labels(rows["label"])
    known = set(work.manifest.frame["sha256"])
    shared = int(rows["sha256"].isin(known).sum())
    if shared:
        raise ConfigError(f"{shared} images of {folder} are in the model's own data set: an external test set is new")
    images = decoded_cache(other, folder, record.view.stored, "all")[rows.index.to_numpy()]
    raw = predict(model, images, record.view, batch_size=config.batch_size, device=device, tta=config.tta)
    return tabulate(
        rows.assign(split="test"),
        mapping.logits(raw, temperature.value),
        mapping.external,
        temperature,
        model=record.name,
        dataset=other.dataset,
        dataset_digest=other.digest,
        synthetic=other.synthetic,
        tta=config.tta,
        notes=mapping.notes(raw, temperature.value),
    )


def main(argv: Sequence[str]) -> None:
    """Read the configuration, evaluate, and print the run's id."""
    config, recipe = read_config("evaluate", argv)
    print(f"run {run(config, recipe)}")


if __name__ == "__main__":
    sys.exit(command("evaluate", main))
