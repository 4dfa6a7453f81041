"""One training: a network, one seed, its data, and the record of what comes of it."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from dermonas.data.augmentation import Augment, Evaluate
from dermonas.data.cache import decoded_cache
from dermonas.data.manifest import Manifest
from dermonas.data.samples import Samples, label_fraction
from dermonas.errors import DataError
from dermonas.events import Fanout, Observer
from dermonas.imaging.normalise import Channels
from dermonas.nn.measure import measure
from dermonas.nn.specification import NetworkSpec
from dermonas.tracking.lookup import inputs_digest
from dermonas.tracking.runs import Run
from dermonas.tracking.training import TrainTracker, cost_metrics
from dermonas.training.config import FitConfig, deviations, settings_of
from dermonas.training.fit import fit
from dermonas.training.hardware import Hardware
from dermonas.training.loaders import TrainData
from dermonas.training.record import RECORD, WEIGHTS, ModelRecord, write_record
from dermonas.training.settings import TrainSettings
from pipelines.progress import TrainProgress
from pipelines.recipe import Recipe

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Start:
    """A network before its training.

    Attributes:
        network: As it starts.
        origin: Where its weights come from, in words.
        mean: Channel means that the weights expect; None where they expect nothing.
        std: Likewise.
    """

    network: nn.Module
    origin: str = "random"
    mean: Channels | None = None
    std: Channels | None = None


@dataclass(frozen=True, eq=False)
class Model:
    """A network to train.

    Attributes:
        name: What tables call it.
        spec: The network.
        start: From (seed, settings) to the network as it starts.
        tags: For its run.
        metrics: For its run, known before training.
        documents: Files to keep with its run: name -> content.
        search_run: The search that found it, or "".
    """

    name: str
    spec: NetworkSpec
    start: Callable[[int, TrainSettings], Start]
    tags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    documents: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    search_run: str = ""


@dataclass(frozen=True, eq=False)
class Work:
    """Everything around the networks that one command trains."""

    stage: str
    config: FitConfig
    recipe: Recipe
    manifest: Manifest
    folder: Path


@dataclass(frozen=True, eq=False)
class Job:
    """One training: a network, one seed. It holds no network: ten seeds of a large one would fill the memory."""

    work: Work
    model: Model
    settings: TrainSettings
    record: ModelRecord
    digest: str

    def network(self) -> nn.Module:
        """Build the network as it starts."""
        return self.model.start(self.settings.seed, self.settings).network

    def fit(self, network: nn.Module, observer: Observer) -> Path:
        """Train, or go on; return the folder with the model's files."""
        config = self.work.config
        folder = config.out / f"{self.model.name.replace('/', '-')}-s{self.settings.seed}-{self.digest}"
        data = train_data(self.work.manifest, self.work.folder, self.settings, config.label_fraction)
        fit(
            network,
            data,
            self.settings,
            folder,
            observer,
            resume=not config.fresh,
            hardware=hardware_of(config),
            bar=sys.stdout.isatty(),
        )
        return folder

    def tracked(self, run: Run, name: str) -> None:
        """Train in a run and keep the model with it; `name` is shown beside the progress."""
        network = self.network()
        cost = measure(network, self.settings.augment.size, latency=True)
        run.metrics({**cost_metrics(cost), **self.model.metrics})
        tracker = TrainTracker(run)
        began = time.monotonic()
        folder = self.fit(network, Fanout([tracker, TrainProgress(name, self.settings.select)]))
        run.metrics({"train/seconds": time.monotonic() - began})
        write_record(self.record, folder)
        tracker.model(folder, (RECORD, WEIGHTS))


def hardware_of(config: FitConfig) -> Hardware:
    """Return where a configuration trains."""
    return Hardware(config.accelerator, config.devices, config.num_nodes, config.workers, config.sync_batchnorm)


def job_of(work: Work, model: Model, seed: int) -> Job:
    """Settle everything of one training; the weights that it starts from are read, so that a wrong file is told now."""
    config, manifest = work.config, work.manifest
    settings = dataclasses.replace(settings_of(config), seed=seed)
    if model.spec.kind == "timm":
        settings = dataclasses.replace(settings, drop_path=0.0, auxiliary=0.0)
    start = model.start(seed, settings)
    view = settings.augment
    for key in ("mean", "std"):
        if getattr(config, key) is None and getattr(start, key) is not None:
            view = dataclasses.replace(view, **{key: getattr(start, key)})
    settings = dataclasses.replace(settings, augment=view)
    record = ModelRecord(
        name=model.name,
        network=model.spec,
        classes=manifest.classes,
        view=view,
        dataset=manifest.dataset,
        dataset_digest=manifest.digest,
        synthetic=manifest.synthetic,
        seed=seed,
        label_fraction=config.label_fraction,
        start=start.origin,
        search_run=model.search_run,
    )
    settled = {"settings": settings.as_dict(), "record": {**record.to_dict(), "search_run": ""}}
    return Job(work, model, settings, record, inputs_digest("training", settled))


def train_data(manifest: Manifest, folder: Path, settings: TrainSettings, fraction: float) -> TrainData:
    """Return train (its share of labels) and validation samples, from the decoded cache."""
    view = settings.augment
    rows = {split: manifest.split_frame(split) for split in ("train", "validation")}
    images = {split: decoded_cache(manifest, folder, view.stored, split) for split in ("train", "validation")}
    labels = {split: manifest.label_indices(frame) for split, frame in rows.items()}
    chosen = label_fraction(labels["train"], rows["train"]["group"].to_numpy(), fraction, settings.seed)
    return TrainData(
        Samples(images["train"], labels["train"], Augment(view, settings.seed), rows=chosen),
        Samples(images["validation"], labels["validation"], Evaluate(view)),
        manifest.classes,
    )


def check_classes(manifest: Manifest) -> None:
    """Refuse what cannot be learned, warn of what cannot be judged."""
    for split in ("train", "validation"):
        count = manifest.split_frame(split)["label"].value_counts()
        absent = [name for name in manifest.classes if not count.get(name)]
        if len(absent) == len(manifest.classes):
            raise DataError(f"{split} has no labelled image: run prepare again with other --split_sizes")
        if absent and split == "train":
            raise DataError(
                f"train has no image of {', '.join(absent)}: add images or leave the class out, and run prepare again"
            )
        if absent:
            _log.warning("%s has no image of %s: its figures leave the class out", split, ", ".join(absent))
    if len(manifest.classes) < 2:
        raise DataError(f"the data have {len(manifest.classes)} class: a classifier needs 2")


def deviations_of(config: FitConfig, settings: TrainSettings) -> dict[str, Any]:
    """Add to the configuration's deviations what the kind of network changes."""
    found = deviations(config)
    used = {**settings.as_dict(), **settings.as_dict()["augment"]}
    paper = settings_of(config)
    for key in ("drop_path", "auxiliary"):
        if used[key] != getattr(paper, key):
            found[key] = {"paper": getattr(paper, key), "here": used[key]}
    for key in ("mean", "std"):
        if tuple(used[key]) != tuple(getattr(paper.augment, key)):
            found[key] = {"paper": list(getattr(paper.augment, key)), "here": list(used[key])}
    return found
