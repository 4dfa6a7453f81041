"""`mlflow run . -e controller-pretrain`: a controller that embeds near cells near each other, before any search."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from dermonas.controller.anchors import OURS, anchors_of
from dermonas.controller.language import Language
from dermonas.controller.losses import rescaled_weight
from dermonas.controller.model import ControllerSettings
from dermonas.controller.pretrain import CHECKPOINT, Pretrained, pretrain
from dermonas.controller.storage import load_controller, read, save_controller, weights_digest
from dermonas.errors import DermonasError, StorageError
from dermonas.events import Fanout, Silent
from dermonas.tracking.lookup import INPUTS, inputs_digest, reusable, supersede
from dermonas.tracking.runs import STAGE, Run, download, launched, tracked
from pipelines.command import command
from pipelines.controller_pretrain_config import (
    ControllerPretrainConfig,
    depends_on,
    deviations,
    hidden_of,
    ours,
    resolved,
    settings_of,
)
from pipelines.controller_pretrain_figure import write_figure
from pipelines.locks import alone
from pipelines.models import device_named
from pipelines.progress import ControllerProgress
from pipelines.recipe import DEFAULT, Recipe, read_config

_log = logging.getLogger(__name__)

CONTROLLER, HISTORY = "controller.pt", "history.json"
"""Artifacts of a pretraining."""
KIND, WEIGHTS = "dermonas.controller", "dermonas.weights"
"""Tags: which of the controller's entry points, and the digest of the weights."""

# What is as apt for one domain as for another.
_OF_ANY = ("domain", "metric", "seed", "out", "log_every", "checkpoint_every", "fresh", "device", "threads")


def warn_of_another_domain(config: ControllerPretrainConfig, recipe: Recipe, argv: Sequence[str] = ()) -> None:
    """Say in one line which values of a recipe's section, written for another domain, are those of this one too.

    A section says what it was written for by its `domain`; one that does not is for any. Our space with 4 and with 5
    nodes is one domain here. Values that the domain has by default need no word.

    Args:
        config: The settings.
        recipe: Where they come from.
        argv: The command line, whose keys outrank the section's.
    """
    section = recipe.stages["controller-pretrain"]
    written = str(section.get("domain", config.domain))
    if written == config.domain or (ours(config) and written in OURS):
        return
    given = {word.split("=")[0].removeprefix("--") for word in argv}
    values, default = resolved(config), resolved(ControllerPretrainConfig(config.domain, config.metric))
    carried = {key for key in values if key not in _OF_ANY and values[key] != default[key]}
    told = [key for key in section if key in carried - given]
    if told:
        own = DEFAULT if ours(config) else DEFAULT.with_name(f"{config.domain}.yaml")
        _log.warning(
            "the recipe's section controller-pretrain is for %s, and %s takes %s from it: use --config %s",
            written, config.domain, ", ".join(told), Path(*own.parts[-3:]),
        )  # fmt: skip


def inputs_of(config: ControllerPretrainConfig) -> str:
    """Return a digest of what a pretraining's weights depend on.

    Raises:
        ConfigError: CUDA is asked for and absent.
    """
    return inputs_digest("controller-pretrain", depends_on(config, device_named(config.device).type))


def finished_run(config: ControllerPretrainConfig) -> str | None:
    """Return the id of the newest finished run of an equal pretraining, or None."""
    return reusable(f"controller/{config.domain}", "controller", inputs_of(config))


def run(
    config: ControllerPretrainConfig, recipe: Recipe, *, adopt: bool = True, wait: bool = False
) -> tuple[str, Path]:
    """Pretrain as a tracked run, go on with one that was killed, or find the finished run of an equal one.

    Args:
        config: The settings.
        recipe: Where they come from.
        adopt: Whether to use the run that `mlflow run` started; False when another entry point calls.
        wait: Whether to wait for another process that does the same; else it is an error.

    Returns:
        The run's id, and the controller's file in a folder below `config.out`.
    """
    device = device_named(config.device).type
    inputs = inputs_of(config)
    name = f"{config.domain}-{config.metric}-s{config.seed}"
    folder = config.out / f"{name}-{inputs}"
    with alone(config.out / f".{inputs}.lock", f"pretrains the same into {config.out}", wait=wait):
        known = None if config.fresh else finished_run(config)
        if known is not None and (file := _fetched(known, folder)):
            _log.info("%s was pretrained on the same inputs: run %s (--fresh true pretrains anew)", name, known)
            if adopt:
                launched(known, f"dermonas/controller/{config.domain}")
            return known, file
        if config.threads:
            torch.set_num_threads(config.threads)
        tags = {KIND: "pretrain", INPUTS: inputs, "dermonas.metric": config.metric}
        experiment = f"dermonas/controller/{config.domain}"
        with tracked(experiment, "controller", f"pretrain-{name}", tags, adopt=adopt) as tracker:
            supersede(tracker, {STAGE: "controller", INPUTS: inputs})
            values = {**resolved(config), "device": device}
            tracker.params({**values, "recipe": recipe.name})
            tracker.document("config.yaml", yaml.safe_dump(values))
            return tracker.id, _pretrained(tracker, config, name, folder, device)


def _pretrained(tracker: Run, config: ControllerPretrainConfig, name: str, folder: Path, device: str) -> Path:
    """Pretrain in a run and keep with it what came of it; return the controller's file."""
    language, anchors = anchors_of(config.domain, config.seed, config.anchors, config.vertices)
    tracker.document("deviations.json", deviations(config, len(anchors)))
    settings = settings_of(config)
    sizes = ControllerSettings(language.vocabulary, language.length, hidden_of(config), config.mlp_hidden)
    # Reports at other iterations are another history, of the same weights.
    kept = folder / f"every-{config.log_every}"
    if config.fresh:
        shutil.rmtree(kept, ignore_errors=True)
    _make(kept)
    both = Fanout([_Curves(tracker, kept), ControllerProgress(name)])
    began = time.monotonic()
    found = pretrain(language, anchors, settings, sizes, both, kept, device)
    seconds = time.monotonic() - began
    last = found.history[-1]
    rule = rescaled_weight(last["pretrain/reconstruction"], last["pretrain/metric"]) if last["pretrain/metric"] else 0.0
    ends = {"pretrain/seconds": seconds, "pretrain/anchors": len(anchors), "pretrain/rescaled_weight": rule}
    tracker.metrics(ends, config.iterations)
    return _kept(tracker, config, language, found, folder)


def _kept(tracker: Run, config: ControllerPretrainConfig, language: Language, found: Pretrained, folder: Path) -> Path:
    """Write the controller into the folder, and it, the history and the figure into the run."""
    last = {key: value for key, value in found.history[-1].items() if key != "iterations"}
    about = {key: getattr(config, key) for key in ("metric", "seed", "domain", "iterations")}
    save_controller(folder / CONTROLLER, found.controller, language, {**about, **last})
    tracker.artifact(folder / CONTROLLER)
    tracker.document(HISTORY, found.history)
    title = f"{config.metric} on {config.domain}, seed {config.seed}: pretraining"
    with tempfile.TemporaryDirectory() as scratch:
        write_figure(found.history, title, config.milestones, Path(scratch))
        for path in sorted(Path(scratch).iterdir()):
            tracker.artifact(path)
    tracker.tags({WEIGHTS: weights_digest(found.controller)})
    return folder / CONTROLLER


class _Curves(Silent):
    """Writes the reports to the run, those of the checkpoint that is gone on with first; the step is iterations done.

    Args:
        run: The run.
        folder: Holds the checkpoint, if there is one.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder = run, folder

    def started(self, stage: str, total: int | None, info: Mapping[str, Any]) -> None:
        """Bring the curves up to where the pretraining goes on."""
        if not info["resumed_at"]:
            return
        for report in read(self.folder / CHECKPOINT, "delete it to pretrain anew")["history"]:
            told = {key: value for key, value in report.items() if key != "iterations"}
            self.run.metrics(told, int(report["iterations"]))
        self.run.metrics({"pretrain/resumed_at": info["resumed_at"]})

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log a report."""
        self.run.metrics(metrics, epoch + 1)


def _fetched(run_id: str, folder: Path) -> Path | None:
    """Copy a finished run's controller into the folder; None, and a line, where the run has no sound one."""
    _make(folder)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            file = download(run_id, CONTROLLER, Path(scratch))
            load_controller(file)
        except DermonasError as error:
            reason = str(error).replace(f"{scratch}/", "")
            _log.warning("run %s cannot be used, pretraining once more: %s", run_id, reason)
            return None
        return file.replace(folder / CONTROLLER)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}; choose another --out") from error


def main(argv: Sequence[str]) -> None:
    """Read the configuration, pretrain, and print the run's id and the digest of the weights."""
    config, recipe = read_config("controller-pretrain", argv)
    warn_of_another_domain(config, recipe, argv)
    run_id, file = run(config, recipe)
    print(f"run {run_id} controller {weights_digest(load_controller(file).controller)}")


if __name__ == "__main__":
    sys.exit(command("controller", main))
