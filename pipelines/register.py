"""`mlflow run . -e register`: a trained and evaluated model to a version in the registry, perhaps its champion."""

from __future__ import annotations

import csv
import dataclasses
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlflow.entities import Run as MlflowRun
from mlflow.entities.model_registry import ModelVersion
from numpy.typing import NDArray

from dermonas.data.manifest import Manifest
from dermonas.errors import DermonasError, StorageError
from dermonas.serving.description import PROGRAM
from dermonas.serving.digest import files_digest, verify
from dermonas.serving.package import head_of, package, write_artifacts
from dermonas.serving.program import TOLERANCE, export_program
from dermonas.serving.score import score_packaged
from dermonas.serving.served import Served
from dermonas.tracking import registry
from dermonas.tracking.card import Facts, card
from dermonas.tracking.champion import Decision, check_same_split, decide, unopposed
from dermonas.tracking.lookup import DIGEST, INPUTS
from dermonas.tracking.runs import Run, download, tracked
from dermonas.tracking.store import store_errors
from dermonas.training.record import load_model
from pipelines.abstention import Seen, abstaining, distance_of, in_words
from pipelines.candidate import Validation, chosen, description_of, other_data
from pipelines.command import command
from pipelines.models import EVALUATED_BY, TEMPERATURE, model_folder
from pipelines.recipe import Recipe, plain, read_config
from pipelines.register_config import RegisterConfig

_RECIPE = (
    *("training_recipe", "epochs", "batch_size", "learning_rate", "weight_decay", "schedule", "label_smoothing"),
    *("mixup", "cutmix", "ema_decay", "drop_path", "auxiliary", "cutout", "balance", "precision"),
)
_SELF_TEST = 2  # validation images that a package must answer in a process of its own


@dataclass(frozen=True)
class Registered:
    """What came of it.

    Attributes:
        name: Registered model.
        version: Its new version.
        run: MLflow run id of the registration.
        decision: Whether it is champion, and why.
    """

    name: str
    version: str
    run: str
    decision: Decision


@dataclass(frozen=True, eq=False)
class _Opponent:
    """The present champion: its version, and its probabilities or why there are none."""

    version: str
    probabilities: NDArray[np.float64] | None
    why: str = ""


def run(config: RegisterConfig, recipe: Recipe, *, adopt: bool = True, inputs: str = "") -> Registered:
    """Register a trained model as a tracked run; `inputs` is the digest by which a pipeline finds it again."""
    trained, manifest = chosen(config, recipe)
    name = registry.model_name(manifest.dataset, config.name)
    tags = {
        DIGEST: manifest.digest,
        "dermonas.synthetic": manifest.synthetic,
        "dermonas.trained_run": trained.info.run_id,
        **({INPUTS: inputs} if inputs else {}),
    }
    with tracked(f"dermonas/{manifest.dataset}", "register", f"register-{name}", tags, adopt=adopt) as tracker:
        tracker.params({**plain(config), "recipe": recipe.name})
        with tempfile.TemporaryDirectory() as scratch:
            version, decision = _register(tracker, config, trained, manifest, name, Path(scratch))
        return Registered(name, str(version.version), tracker.id, decision)


def _register(
    tracker: Run, config: RegisterConfig, trained: MlflowRun, manifest: Manifest, name: str, scratch: Path
) -> tuple[ModelVersion, Decision]:
    """Pack, compare, log and register; nothing enters the registry before all that can fail has been done."""
    source = trained.info.run_id
    network, record = load_model(model_folder(trained, scratch))
    other = other_data(config, record, manifest)
    validation = Validation.of(manifest)
    tracker.data(manifest, manifest.root, "validation")
    opponent = _opponent(tracker, config, name, validation, scratch)

    artifacts, folder = scratch / "artifacts", scratch / "package"
    artifacts.mkdir()
    export_program(network, record.view.size, artifacts / PROGRAM)
    head = head_of(network, record.view.size)
    description = description_of(name, record, float(trained.data.tags[TEMPERATURE]))
    write_artifacts(artifacts, description, head, "")
    served = Served.load(artifacts)
    seen, distance = Seen.by(served, validation.files), distance_of(served, manifest, config)
    probabilities, description = seen.probabilities, abstaining(description, config, seen, distance)
    first = not registry.has_versions(tracker.client, name)
    decision = _decide(config, validation, probabilities, opponent, first)
    facts = Facts(
        registered=name,
        record=record,
        manifest=manifest,
        metrics=trained.data.metrics,
        temperature=description.temperature,
        abstention=in_words(description),
        recipe={key: trained.data.params[key] for key in _RECIPE if key in trained.data.params},
        subgroups=_subgroups(tracker, trained, scratch),
        run=source,
    )
    text = card(facts)
    write_artifacts(artifacts, description, head, text, distance)
    tags: dict[str, str] = {
        DIGEST: record.dataset_digest,
        registry.VALIDATION: validation.digest,
        "dermonas.model": record.name,
        "dermonas.synthetic": str(record.synthetic),
        "dermonas.registered_by": tracker.id,
        **({"dermonas.validation_of_other_data": manifest.digest} if other else {}),
    }
    with registry.logged(tracker, name, folder, tags) as model:
        package(artifacts, folder, model, metadata={"dermonas.dataset": record.dataset, "dermonas.model": record.name})
        again = score_packaged(folder, validation.files[:_SELF_TEST])
        if not np.allclose(again, probabilities[:_SELF_TEST], rtol=TOLERANCE, atol=TOLERANCE):
            raise StorageError(f"the package of {name} does not answer as the model does: please report it")
    tags[registry.FILES] = files_digest(folder)
    tracker.document("card.md", text)
    version = registry.register(tracker, name, model, source, tags, text)
    verify(registry.fetch(version, scratch / "registered"), tags[registry.FILES])
    registry.settle(tracker.client, version, decision)
    figures = dataclasses.asdict(decision)
    tracker.metrics({f"register/{key}": value for key, value in figures.items() if isinstance(value, float)})
    tracker.tags({"dermonas.registered": f"{name}/{version.version}", "dermonas.reason": decision.reason})
    return version, decision


def _subgroups(tracker: Run, trained: MlflowRun, scratch: Path) -> list[list[str]]:
    """Return evaluate's table of subgroups, a header first; empty where there is none."""
    evaluation = trained.data.tags.get(EVALUATED_BY)
    if evaluation is None:
        return []
    with store_errors():
        names = {Path(item.path).name for item in tracker.client.list_artifacts(evaluation)}
    if "subgroups.csv" not in names:
        return []
    with download(evaluation, "subgroups.csv", scratch).open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _opponent(
    tracker: Run, config: RegisterConfig, name: str, validation: Validation, scratch: Path
) -> _Opponent | None:
    """Return the champion and what its packaged code says of the validation images, or None where there is none.

    Raises:
        DermonasError: It cannot be compared, and nobody forces.
    """
    old = registry.champion_of(tracker.client, name)
    if old is None:
        return None
    version, folder = str(old.version), scratch / "champion"
    try:
        theirs = old.tags.get(registry.VALIDATION, "")
        check_same_split(validation.digest, theirs, f"{name} version {version}", old.run_id or "ITS_RUN")
        folder = registry.fetch(old, folder)
        verify(folder, old.tags.get(registry.FILES, ""))
        return _Opponent(version, score_packaged(folder, validation.files))
    except DermonasError as error:
        if not config.force:
            raise
        return _Opponent(version, None, str(error))


def _decide(
    config: RegisterConfig,
    validation: Validation,
    probabilities: NDArray[np.float64],
    opponent: _Opponent | None,
    first: bool,
) -> Decision:
    if opponent is None:
        return unopposed("the first version" if first else "no version was champion", validation.labels, probabilities)
    if opponent.probabilities is None:
        reason = f"forced without a comparison: {config.reason} ({opponent.why})"
        return unopposed(reason, validation.labels, probabilities, against=opponent.version, forced=True)
    return decide(
        validation.labels,
        probabilities,
        opponent.probabilities,
        validation.groups,
        against=opponent.version,
        force=config.reason,
        replicates=config.replicates,
        seed=config.seed,
    )


def main(argv: Sequence[str]) -> None:
    """Read the configuration, register, and print version and decision."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    config, recipe = read_config("register", argv)
    found = run(config, recipe)
    verdict = "champion" if found.decision.champion else "not champion"
    print(f"model {found.name} version {found.version} {verdict}: {found.decision.reason}")
    print(f"run {found.run}")


if __name__ == "__main__":
    sys.exit(command("register", main))
