"""The model registry: a model logged and registered with its digests; the alias `champion` moves here alone.

By MLflow's client API, so that no global active run is left behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
    ErrorCode,
)
from mlflow.tracking import MlflowClient, get_tracking_uri

from dermonas.data.manifest import Manifest
from dermonas.errors import ConfigError, StorageError
from dermonas.tracking.champion import Decision
from dermonas.tracking.runs import Run
from dermonas.tracking.store import store_errors

CHAMPION = "champion"
FILES, VALIDATION, DECISION = "dermonas.files_digest", "dermonas.validation_digest", "dermonas.decision"
SUCCESSOR = "dermonas.succeeded_by"

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,199}")
_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
_MAX_DESCRIPTION = 5000  # of a version, characters: MLflow's column
_NOT_FOUND = ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)
_EXISTS = ErrorCode.Name(RESOURCE_ALREADY_EXISTS)
_INVALID = ErrorCode.Name(INVALID_PARAMETER_VALUE)  # what MLflow says of an alias that is not there


def model_name(dataset: str, name: str = "") -> str:
    """Return the registered model's name: the given one, or dermonas-<dataset>.

    Raises:
        ConfigError: MLflow, or a URI that names it, could not hold it.
    """
    found = name or f"dermonas-{dataset}"
    if not _NAME.fullmatch(found):
        raise ConfigError(f"name {found!r} is no name of a registered model: letters, digits, '.', '_' and '-' only")
    return found


def validation_digest(manifest: Manifest) -> str:
    """Return SHA-256 (64 hex digits) over classes and each validation row's path, label, file digest and group.

    Equal digests mean that two models can be compared on these rows.
    """
    rows = manifest.split_frame("validation")
    digest = hashlib.sha256(json.dumps(list(manifest.classes)).encode())
    for row in rows[["path", "label", "sha256", "group"]].itertuples(index=False):
        digest.update(json.dumps(list(row), ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()


def champion_of(client: MlflowClient, name: str) -> ModelVersion | None:
    """Return the version that the alias points to, or None."""
    with store_errors():
        try:
            version = client.get_registered_model(name).aliases.get(CHAMPION)
        except MlflowException as error:
            if error.error_code != _NOT_FOUND:
                raise
            return None
        return None if version is None else client.get_model_version(name, str(version))


def version_at(client: MlflowClient, uri: str) -> ModelVersion:
    """Return the version that models:/NAME@ALIAS or models:/NAME/VERSION names now.

    Raises:
        ConfigError: It is no such URI, or names nothing.
    """
    parts = _URI.fullmatch(uri)
    if parts is None:
        raise ConfigError(f"model {uri!r} must be models:/NAME@{CHAMPION} or models:/NAME/VERSION")
    name, number = parts["name"], parts["version"]
    with store_errors():
        try:
            if number is None:
                return client.get_model_version_by_alias(name, parts["alias"])
            return client.get_model_version(name, number)
        except MlflowException as error:
            if error.error_code not in (_NOT_FOUND, _INVALID):
                raise
            raise ConfigError(f"{uri} is not in {get_tracking_uri()}: register a model first") from error


def has_versions(client: MlflowClient, name: str) -> bool:
    """Tell whether the model was ever registered, with or without a champion."""
    with store_errors():
        return bool(client.search_model_versions(f"name = '{name}'", max_results=1))


@contextlib.contextmanager
def logged(run: Run, name: str, folder: Path, tags: Mapping[str, Any]) -> Iterator[Model]:
    """Give MLflow's entity for a package to be written to `folder`, then keep the folder with the run.

    The logged model ends READY, or FAILED where the block raises.

    Args:
        run: Whose output it is.
        name: Of the logged model.
        folder: Where the block writes the package.
        tags: Of the logged model.
    """
    client = run.client
    with store_errors():
        texts = {key: str(value) for key, value in tags.items()}
        made = client.create_logged_model(run.experiment_id, name.replace(".", "-"), run.id, texts)
    try:
        yield Model(
            artifact_path=made.artifact_location, run_id=run.id, model_uuid=made.model_id, model_id=made.model_id
        )
        with store_errors():
            client.log_model_artifacts(made.model_id, str(folder))
            client.log_outputs(run.id, [LoggedModelOutput(made.model_id, step=0)])
            client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    except BaseException:  # a store that fails too must not hide the first error
        with contextlib.suppress(StorageError), store_errors():
            client.finalize_logged_model(made.model_id, LoggedModelStatus.FAILED)
        raise


def register(
    run: Run, name: str, model: Model, trained: str, tags: Mapping[str, Any], description: str
) -> ModelVersion:
    """Make a new version of a registered model, which is made when absent. No alias moves.

    Args:
        run: Which registers.
        name: Registered model.
        model: As `logged` gave it.
        trained: MLflow run id of the training, which the version links to.
        tags: Of the version.
        description: Markdown; what passes MLflow's limit is cut off.
    """
    client = run.client
    with store_errors():
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != _EXISTS:
                raise
        return client.create_model_version(
            name,
            f"models:/{model.model_id}",
            trained,
            tags={key: str(value) for key, value in tags.items()},
            description=description[:_MAX_DESCRIPTION],
            model_id=model.model_id,
        )


def settle(client: MlflowClient, version: ModelVersion, decision: Decision) -> None:
    """Write a decision to a new version's tags and, where it won, move the alias and tag the old champion.

    Raises:
        StorageError: Another champion was set since the comparison.
    """
    name, number = version.name, str(version.version)
    now = champion_of(client, name)
    if decision.champion and ("" if now is None else str(now.version)) != decision.against:
        raise StorageError(
            f"the champion of {name} became version {now.version if now else 'none'} while version {number} was "
            f"compared with {decision.against or 'none'}; repeat the same command"
        )
    with store_errors():
        client.set_model_version_tag(name, number, DECISION, decision.to_json())
        client.set_model_version_tag(name, number, "dermonas.reason", decision.reason)
        if decision.champion:
            client.set_registered_model_alias(name, CHAMPION, number)
            if now is not None:
                client.set_model_version_tag(name, str(now.version), SUCCESSOR, number)


def fetch(version: ModelVersion, folder: Path) -> Path:
    """Copy a version's package into a folder, made when absent; check it by `serving.digest.verify` before use.

    Raises:
        StorageError: Its artifacts are gone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = download_artifacts(artifact_uri=f"models:/{version.name}/{version.version}", dst_path=str(folder))
    except (MlflowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StorageError(f"{version.name} version {version.version} cannot be fetched: {reason}") from error
    return Path(found)
