"""Finding the controller that a search is told to use: by run, by file, pretrained on first use, or from scratch."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from dermonas.controller.anchors import domain_of
from dermonas.controller.language import Language
from dermonas.controller.languages import language_of
from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.storage import Stored, load_controller, weights_digest
from dermonas.errors import ConfigError, StorageError
from dermonas.space.domain import Domain
from dermonas.tracking.lookup import RUN_ID, by_id
from dermonas.tracking.runs import STAGE, download
from pipelines import controller_pretrain
from pipelines.controller_pretrain import CONTROLLER, KIND
from pipelines.controller_pretrain_config import ControllerPretrainConfig, hidden_of
from pipelines.recipe import Recipe, parse

SCRATCH = "scratch"
"""The reference of a controller that is not pretrained."""


class Found(NamedTuple):
    """A controller to search with.

    Attributes:
        controller: On the CPU, in evaluation mode.
        identity: Of its weights: their digest, or for one from scratch what they are keyed by.
        source: Where it comes from, in words.
        run_id: Of its pretraining; "" where there is none or it is not known.
        metric: Metric loss of its pretraining; "none" from scratch, "" where a file does not say.
    """

    controller: Controller
    identity: str
    source: str
    run_id: str
    metric: str


def controller_of(reference: str, space: Domain, recipe: Recipe) -> Found:
    """Return the controller that a reference names; "" pretrains one where none is, as a cached run of its own.

    Args:
        reference: Run id of controller-pretrain, a controller file, "scratch", or "": as the recipe's section
            controller-pretrain says, on the space's domain.
        space: What is to be searched.
        recipe: Says how to pretrain, and the seed and width of one from scratch.

    Raises:
        ConfigError: If the reference names nothing, an unfinished run, or a controller of another domain, or no
            language speaks of the space.
        StorageError: If the file is absent or damaged.
    """
    found = _existing(reference, space, recipe)
    if not reference:
        controller_pretrain.warn_of_another_domain(_pretraining(space, recipe), recipe)
    if found is not None:
        if not reference:
            print(f"no controller given: using that of run {found.run_id}", file=sys.stderr)
        return found
    config = _pretraining(space, recipe)
    told = f"{config.metric} on {config.domain}, {config.iterations} iterations"
    print(f"no controller given: pretraining one first ({told})", file=sys.stderr)
    run_id, file = controller_pretrain.run(config, recipe, adopt=False, wait=True)
    return _found(load_controller(file, language_of(space)), f"run {run_id}", run_id)


def identity_of(reference: str, space: Domain, recipe: Recipe) -> str | None:
    """Return the identity that `controller_of` finds, without pretraining; None where that would pretrain first.

    Raises:
        ConfigError: As `controller_of`.
        StorageError: As `controller_of`.
    """
    found = _existing(reference, space, recipe)
    return None if found is None else found.identity


def _existing(reference: str, space: Domain, recipe: Recipe) -> Found | None:
    """Return what needs no pretraining."""
    language = language_of(space)
    if reference == SCRATCH:
        return _scratch(_pretraining(space, recipe), language)
    if reference and not RUN_ID.fullmatch(reference):
        if not Path(reference).is_file():
            raise ConfigError(
                f"controller: {reference!r} is not possible; give the run id of controller-pretrain, a file that it "
                f"wrote, {SCRATCH!r}, or nothing to pretrain one"
            )
        return _found(load_controller(Path(reference), language), reference, "")
    if reference:
        return _of_run(reference, language)
    config = _pretraining(space, recipe)
    known = None if config.fresh else controller_pretrain.finished_run(config)
    try:
        return None if known is None else _of_run(known, language)
    except StorageError:  # its file is lost or damaged: pretraining says so, and makes another
        return None


def _pretraining(space: Domain, recipe: Recipe) -> ControllerPretrainConfig:
    """Return the recipe's pretraining, on the space's domain."""
    section = {**recipe.stages["controller-pretrain"], "domain": domain_of(language_of(space))}
    return parse(ControllerPretrainConfig, section, [], "controller-pretrain")


def _of_run(run_id: str, language: Language) -> Found:
    """Return the controller of a finished pretraining."""
    run = by_id(run_id)
    if run.data.tags.get(KIND) != "pretrain":
        raise ConfigError(f"run {run_id} is of stage {run.data.tags.get(STAGE)}: name one of controller-pretrain")
    if run.info.status != "FINISHED":
        raise ConfigError(
            f"run {run_id} is {run.info.status.lower()}: the same controller-pretrain command finishes it"
        )
    domain, wanted = run.data.params.get("domain"), domain_of(language)
    if domain != wanted:
        raise ConfigError(f"run {run_id} was pretrained on {domain}, not on {wanted}: name one of {wanted}")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            stored = load_controller(download(run_id, CONTROLLER, Path(scratch)), language)
        except StorageError as error:
            raise StorageError(str(error).replace(f"{scratch}/", f"run {run_id}: ")) from error
    return _found(stored, f"run {run_id}", run_id)


def _found(stored: Stored, source: str, run_id: str) -> Found:
    metric = str(stored.info.get("metric", ""))
    return Found(stored.controller.eval(), weights_digest(stored.controller), source, run_id, metric)


def _scratch(config: ControllerPretrainConfig, language: Language) -> Found:
    sizes = ControllerSettings(language.vocabulary, language.length, hidden_of(config), config.mlp_hidden)
    identity = f"{SCRATCH}-s{config.seed}-h{sizes.hidden}"
    if sizes.mlp_hidden != ControllerSettings.mlp_hidden:
        identity += f"-m{sizes.mlp_hidden}"
    return Found(Controller(sizes, config.seed).eval(), identity, f"not pretrained, seed {config.seed}", "", "none")
