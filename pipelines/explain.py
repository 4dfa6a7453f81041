"""`mlflow run . -e explain`: where the models look, as Fig 7 of the paper, and whether their maps depend on them."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from mlflow.entities import Run as MlflowRun
from torch import nn

from dermonas.data.augmentation import AugmentSettings, Evaluate
from dermonas.data.cache import decoded_cache
from dermonas.data.manifest import Manifest
from dermonas.errors import ConfigError
from dermonas.explain.cam import class_activation
from dermonas.explain.figures import Column, grid, save
from dermonas.explain.gradcam import gradcam
from dermonas.explain.sanity import shuffled_weights, similarity
from dermonas.metrics.temperature import scaled
from dermonas.seeding import numpy_generator
from dermonas.tracking.lookup import DIGEST, INPUTS, children, inputs_digest, reusable, supersede
from dermonas.tracking.runs import STAGE, Run, tracked
from dermonas.training.record import ModelRecord, load_model
from pipelines.command import command
from pipelines.explain_config import ExplainConfig
from pipelines.models import TEMPERATURE, data_of, dataset_of, device_named, model_folder, trained_run
from pipelines.recipe import Recipe, plain, read_config

_log = logging.getLogger(__name__)

_FREE = ("dataset", "data", "device", "threads")
"""Keys that do not change the result."""

GRID = "cam-grid.png"
"""Artifact: a row an image, a column a model."""


@dataclass(frozen=True, eq=False)
class _Explained:
    """One model's column, its own pixels, and its sanity check."""

    run: MlflowRun
    record: ModelRecord
    column: Column
    similarity: float | None


def run(config: ExplainConfig, recipe: Recipe, *, adopt: bool = True, reuse: bool = False) -> str:
    """Draw the maps of trained runs as a tracked run, or find it with `reuse`; return its id."""
    if config.threads:
        torch.set_num_threads(config.threads)
    dataset = dataset_of(recipe, config.data, config.dataset)
    runs = [children(trained_run(name, dataset))[0] for name in config.runs]
    manifest, folder = data_of(runs[0], config.data, recipe)
    other = [one.info.run_id for one in runs if one.data.tags.get(DIGEST) != manifest.digest]
    if other:
        raise ConfigError(f"run {other[0]} was trained on other data than run {runs[0].info.run_id}: explain it alone")
    temperatures = [one.data.tags.get(TEMPERATURE) for one in runs]
    values = {**plain(config), "runs": [one.info.run_id for one in runs], "temperatures": temperatures}
    inputs = inputs_digest("explain", {key: value for key, value in values.items() if key not in _FREE})
    if reuse and (known := reusable(manifest.dataset, "explain", inputs)):
        return known
    rows = chosen_rows(manifest, config.images, config.seed)
    tags = {INPUTS: inputs, DIGEST: manifest.digest, "dermonas.synthetic": manifest.synthetic}
    name = f"explain-{runs[0].info.run_name}" if len(runs) == 1 else f"explain-{len(runs)}-models"
    with tracked(f"dermonas/{manifest.dataset}", "explain", name, tags, adopt=adopt) as tracker:
        supersede(tracker, {STAGE: "explain", INPUTS: inputs})
        settled = {**plain(config), "runs": [one.info.run_id for one in runs]}
        tracker.params(settled)
        tracker.document("config.yaml", yaml.safe_dump(settled))
        tracker.data(manifest, folder, "explanation")
        labels = manifest.split_frame("validation")["label"].iloc[rows].tolist()
        found = []
        with tempfile.TemporaryDirectory() as scratch:
            for one in runs:
                explained = _explain(config, manifest, folder, one, rows, Path(scratch) / one.info.run_id)
                if explained is None:
                    continue
                found.append(explained)
                pixels = _pixels(manifest, folder, explained.record.view, rows)
                figure = grid(
                    pixels, [explained.column], labels, threshold=config.threshold, synthetic=manifest.synthetic
                )
                own = Run(tracker.client, one.info.run_id, one.info.experiment_id)
                own.artifact(save(figure, Path(scratch) / one.info.run_id / "cam.png"), "explain")
                if explained.similarity is not None:
                    own.metrics({"explain/similarity_to_shuffled": explained.similarity})
            if not found:
                raise ConfigError("none of the models can be explained; see the warnings above")
            view = max((explained.record.view for explained in found), key=lambda view: view.size)
            figure = grid(
                _pixels(manifest, folder, view, rows),
                [_resized(explained.column, view.size) for explained in found],
                labels,
                threshold=config.threshold,
                synthetic=manifest.synthetic,
            )
            tracker.artifact(save(figure, Path(scratch) / GRID))
            tracker.artifact(save(figure, (Path(scratch) / GRID).with_suffix(".svg")))
        checks = {explained.run.info.run_id: explained.similarity for explained in found}
        tracker.document("sanity.json", {"rank_correlation_with_shuffled_weights": checks})
        for explained in found:
            print(f"{explained.column.name}: {_judged(explained.similarity)}", file=sys.stderr)
    return tracker.id


def _judged(similarity: float | None) -> str:
    """Return what the sanity check says, in words."""
    if similarity is None:
        return "every map is constant, there is nothing to compare: larger images give maps of more than one position"
    depends = "depends" if similarity < _ALIKE else "hardly depends"
    return f"rank correlation with the maps of shuffled weights {similarity:.2f}: the map {depends} on the weights"


_ALIKE = 0.5  # ours: above it a map of shuffled weights ranks most pixels as the trained one does


def chosen_rows(manifest: Manifest, count: int, seed: int) -> np.ndarray:
    """Return rows of validation, int64, classes in turn, each class's images in an order drawn by seed."""
    labels = manifest.label_indices(manifest.split_frame("validation"))
    generator = numpy_generator(seed, "explained images")
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rank[generator.permutation(rows)] = np.arange(len(rows))
    return np.sort(np.lexsort((labels, rank))[:count])


def _explain(
    config: ExplainConfig, manifest: Manifest, folder: Path, run: MlflowRun, rows: np.ndarray, scratch: Path
) -> _Explained | None:
    """Return one model's maps of the classes that it predicts; None where it cannot be explained."""
    scratch.mkdir(parents=True)
    model, record = load_model(model_folder(run, scratch))
    model.to(device_named(config.device))
    images = decoded_cache(manifest, folder, record.view.stored, "validation")
    view = Evaluate(record.view)
    inputs = torch.stack([view(images[row]) for row in rows.tolist()]).to(device_named(config.device))
    exact = config.method == "cam" or (config.method == "auto" and record.network.kind == "cells")
    try:
        with torch.no_grad():
            logits = model(inputs).cpu()
        classes = logits.argmax(dim=1)
        maps = _maps(model, inputs, classes, exact)
        with shuffled_weights(model, config.seed):
            shuffled = _maps(model, inputs, classes, exact)
    except ConfigError as error:
        _log.warning("%s cannot be explained: %s", record.name, error)
        return None
    probabilities = scaled(logits.numpy(), float(run.data.tags.get(TEMPERATURE, 1.0)))
    column = Column(
        name=record.name if exact else f"{record.name} (Grad-CAM)",
        cams=maps,
        predicted=[record.classes[index] for index in classes.tolist()],
        probability=probabilities.max(axis=1).tolist(),
    )
    alike = similarity(maps, shuffled)
    known = alike[~np.isnan(alike)]
    return _Explained(run, record, column, float(known.mean()) if len(known) else None)


def _maps(model: nn.Module, inputs: torch.Tensor, classes: torch.Tensor, exact: bool) -> np.ndarray:
    """Return maps float32 (n, size, size) on 0..1."""
    if not exact:
        return gradcam(model, inputs, classes)[0].numpy()
    head = model.classifier
    if not isinstance(head, nn.Linear):
        raise ConfigError("it does not end in pooling and one linear layer: use method gradcam")
    with torch.no_grad():
        _, features = model.logits_and_map(inputs)  # type: ignore[operator]
        return class_activation(features, head.weight, classes.to(inputs.device), inputs.shape[-1]).cpu().numpy()


def _pixels(manifest: Manifest, folder: Path, view: AugmentSettings, rows: np.ndarray) -> np.ndarray:
    """Return the images as a network of this view sees them, before normalisation, uint8 (n, size, size, 3)."""
    images = decoded_cache(manifest, folder, view.stored, "validation")
    start = (view.stored - view.size) // 2
    inside = slice(start, start + view.size)
    return np.stack([np.asarray(images[row])[inside, inside] for row in rows.tolist()])


def _resized(column: Column, side: int) -> Column:
    """Bring a column's maps to the side of the grid's images."""
    maps = torch.from_numpy(np.asarray(column.cams))[:, None]
    if maps.shape[-1] == side:
        return column
    sized = torch.nn.functional.interpolate(maps, (side, side), mode="bilinear", align_corners=False)[:, 0]
    return Column(column.name, sized.numpy(), column.predicted, column.probability)


def main(argv: Sequence[str]) -> None:
    """Read the configuration, explain, and print the run's id."""
    config, recipe = read_config("explain", argv)
    print(f"run {run(config, recipe)}")


if __name__ == "__main__":
    sys.exit(command("explain", main))
