"""Tracked runs: one experiment a data set, one run an entry point, by MLflow's client API.

Source: DESIGN 4.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient, get_tracking_uri
from mlflow.tracking.context.registry import resolve_tags

from dermonas.data.manifest import Manifest
from dermonas.errors import DermonasError, StorageError
from dermonas.tracking.store import connected, patiently, store_errors

STAGE, ERROR = "dermonas.stage", "dermonas.error"
PARENT = "mlflow.parentRunId"
UNDER = "dermonas.under"
"""Tag of trained runs that a study made for itself: the study's run. `latest` means none of them."""
_MARK = "dermonas.made"
_MAX_TAG = 5000  # MLflow's limit for a tag's value, characters
_MAX_PARAM = 6000
_DIGEST = 36  # MLflow's limit for a data set's digest


class Run:
    """One MLflow run, written through the client API (no global active run).

    What a server that is away does not take is written again; each write may be repeated.
    """

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str) -> None:
        self.client, self.id, self.experiment_id = client, run_id, experiment_id

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; values become text of at most 5000 characters."""
        with store_errors():
            tags = [RunTag(key, str(value)[:_MAX_TAG]) for key, value in values.items()]
            patiently(lambda: self.client.log_batch(self.id, tags=tags))

    def untag(self, key: str) -> None:
        """Remove a tag, if it is there."""
        with store_errors():
            if key in patiently(lambda: self.client.get_run(self.id)).data.tags:
                patiently(lambda: self.client.delete_tag(self.id, key))

    def beside(self, name: str, tags: Mapping[str, str]) -> Run:
        """Make another run in this one's experiment."""
        return _make(self.client, self.experiment_id, name, tags)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters that the run does not have yet.

        `mlflow run` logs what it declares and is given under its own spelling; logging 1e-3 over 0.001
        would be an error.
        """
        with store_errors():
            present = patiently(lambda: self.client.get_run(self.id)).data.params
            new = [Param(k, str(v)[:_MAX_PARAM]) for k, v in values.items() if k not in present]
            for start in range(0, len(new), 100):  # MLflow's limit of a batch
                some = new[start : start + 100]
                patiently(lambda some=some: self.client.log_batch(self.id, params=some))  # type: ignore[misc]

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at one step."""
        now = int(time.time() * 1000)
        with store_errors():
            new = [Metric(k, float(v), now, step) for k, v in values.items()]
            patiently(lambda: self.client.log_batch(self.id, metrics=new))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file into the run's artifacts."""
        with store_errors():
            patiently(lambda: self.client.log_artifact(self.id, str(path), folder or None))

    def document(self, name: str, content: Any) -> None:
        """Store a JSON-able value as an artifact file, or text where `content` is text."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / name
            path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2) + "\n")
            self.artifact(path)

    def data(self, manifest: Manifest, folder: Path, context: str) -> None:
        """Log the data set as an input, by its manifest digest."""
        with store_errors(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hints on schemas and sources, which are not for our readers
            dataset = from_pandas(
                manifest.frame, source=str(folder), name=manifest.dataset, digest=manifest.digest[:_DIGEST]
            )
            tags = [InputTag("mlflow.data.context", context)]
            self.client.log_inputs(self.id, [DatasetInput(dataset._to_mlflow_entity(), tags)])

    def end(self, status: str = "FINISHED") -> None:
        """Set the run's final status."""
        with store_errors():
            patiently(lambda: self.client.set_terminated(self.id, status))

    def reopen(self) -> None:
        """Show that the run is worked on again."""
        with store_errors():
            patiently(lambda: self.client.update_run(self.id, status="RUNNING"))


def _make(client: MlflowClient, experiment: str, name: str, tags: Mapping[str, Any]) -> Run:
    mark = {_MARK: uuid.uuid4().hex}  # by which a run is known that was made, and not answered
    known = {tag: value for tag, value in tags.items() if value is not None}
    wanted = f"tags.`{_MARK}` = '{mark[_MARK]}'"
    tries: list[None] = []

    def make() -> str:
        tries.append(None)
        made = client.search_runs([experiment], wanted) if len(tries) > 1 else []
        if not made:
            made = [client.create_run(experiment, tags={**known, **mark}, run_name=name)]
        return str(made[0].info.run_id)

    with store_errors():
        return Run(client, patiently(make), experiment)


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, made when absent.

    Raises:
        StorageError: The store refuses, or the experiment was deleted.
    """
    with store_errors():
        found = patiently(lambda: client.get_experiment_by_name(name))
        if found is None:
            try:
                return str(patiently(lambda: client.create_experiment(name)))
            except MlflowException:  # another process was first, or the store refuses: then this does too
                found = patiently(lambda: client.get_experiment_by_name(name))
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise StorageError(f"MLflow experiment {name!r} is deleted; restore it, or purge it with `mlflow gc`")
        return str(found.experiment_id)


@contextlib.contextmanager
def tracked(experiment: str, stage: str, name: str, tags: Mapping[str, Any], *, adopt: bool = True) -> Iterator[Run]:
    """Open a run and end it FINISHED, FAILED with the message as a tag, or KILLED on an interrupt.

    Under `mlflow run`, the run it started is used when it stands in `experiment`; otherwise a run is
    made there, and the other one is tagged as its launcher.

    Args:
        experiment: Experiment name, e.g. "dermonas/isic2019".
        stage: Value of the tag dermonas.stage.
        name: The run's name.
        tags: Further tags.
        adopt: Whether to use the run of `mlflow run`; False for a step that another one starts.
    """
    client = connected()
    where = experiment_id(client, experiment)
    started = os.environ.get("MLFLOW_RUN_ID") if adopt else None
    with store_errors():
        if started and patiently(lambda: client.get_run(started)).info.experiment_id == where:
            run = Run(client, started, where)
            patiently(lambda: client.update_run(started, status="RUNNING", name=name))
        else:
            run = _make(client, where, name, resolve_tags())
            if started:
                launched(run.id, experiment)
    with _ending(run, stage, tags):
        yield run


def launched(run_id: str, experiment: str) -> None:
    """Tag the run that `mlflow run` started, if any, as the launcher of the one that holds the result."""
    started = os.environ.get("MLFLOW_RUN_ID")
    if started and started != run_id:
        tags = {STAGE: "launcher", "dermonas.run_id": run_id, "dermonas.experiment": experiment}
        Run(connected(), started, "").tags(tags)


@contextlib.contextmanager
def child(parent: Run, stage: str, name: str, tags: Mapping[str, Any]) -> Iterator[Run]:
    """Open a run under another one, and end it as `tracked` does."""
    run = parent.beside(name, {**resolve_tags(), PARENT: parent.id})
    with _ending(run, stage, tags):
        yield run


@contextlib.contextmanager
def _ending(run: Run, stage: str, tags: Mapping[str, Any]) -> Iterator[None]:
    run.tags({STAGE: stage, **tags})
    try:
        yield
    except KeyboardInterrupt:
        _end_quietly(run, "KILLED", "interrupted; the same command goes on where it stopped")
        raise
    except BaseException as error:
        message = str(error) if isinstance(error, DermonasError) else f"{type(error).__name__}: {error}"
        _end_quietly(run, "FAILED", message)
        raise
    run.end()


def _end_quietly(run: Run, status: str, message: str) -> None:
    """End a run that failed; a store that fails too must not hide the first error."""
    with contextlib.suppress(StorageError):
        run.tags({ERROR: message})
    with contextlib.suppress(StorageError):
        run.end(status)


def note_failure(stage: str, message: str) -> None:
    """Tag the run that `mlflow run` started with an error, which may have come before any run of ours."""
    started = os.environ.get("MLFLOW_RUN_ID")
    if started:
        with contextlib.suppress(StorageError), store_errors():
            launcher = Run(connected(), started, "")
            tags = launcher.client.get_run(started).data.tags
            launcher.tags({ERROR: message, **({} if STAGE in tags else {STAGE: stage})})


def download(run_id: str, artifact: str, folder: Path) -> Path:
    """Fetch one artifact of a run.

    Raises:
        StorageError: No such run or artifact.
    """
    try:
        return Path(connected().download_artifacts(run_id, artifact, str(folder)))
    except (MlflowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StorageError(f"run {run_id} has no artifact {artifact} in {get_tracking_uri()}: {reason}") from error
