"""Finding runs: by tags, the newest of a stage, one by its id."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient, get_tracking_uri

from dermonas.errors import ConfigError
from dermonas.tracking.runs import PARENT, STAGE, Run, experiment_id
from dermonas.tracking.store import connected, patiently, store_errors

INPUTS, CONTINUED, DIGEST = "dermonas.inputs", "dermonas.continued_by", "dermonas.dataset_digest"
RUN_ID = re.compile(r"[0-9a-f]{32}")


def runs_with(client: MlflowClient, experiment: str, tags: Mapping[str, Any]) -> list[MlflowRun]:
    """Return every run of an experiment (by id) that bears these tags, newest first."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    found: list[MlflowRun] = []
    token: str | None = None
    with store_errors():
        while True:
            page = patiently(
                lambda token=token: client.search_runs(  # type: ignore[misc]
                    [experiment], wanted, order_by=["attributes.start_time DESC"], page_token=token
                )
            )
            found += page
            token = page.token
            if not token:
                return found


def finished(client: MlflowClient, experiment: str, tags: Mapping[str, Any]) -> MlflowRun | None:
    """Return the newest finished run of an experiment (by id) with these tags, or None."""
    ended = (run for run in runs_with(client, experiment, tags) if run.info.status == "FINISHED")
    return next(ended, None)


def reusable(dataset: str, stage: str, inputs: str) -> str | None:
    """Return the id of a data set's newest finished run of a stage with these inputs; see `inputs_digest`."""
    client = connected()
    known = finished(client, experiment_id(client, f"dermonas/{dataset}"), {STAGE: stage, INPUTS: inputs})
    return None if known is None else str(known.info.run_id)


def newest(dataset: str, stages: tuple[str, ...], digest: str | None = None) -> MlflowRun:
    """Return the newest finished run of some stages of a data set that is no other run's child.

    Args:
        dataset: Name of the data set.
        stages: Values of the tag dermonas.stage.
        digest: Of the manifest that it must have used; None takes any.

    Raises:
        ConfigError: there is none.
    """
    client = connected()
    experiment = experiment_id(client, f"dermonas/{dataset}")
    also = {} if digest is None else {DIGEST: digest}
    found = [run for stage in stages for run in runs_with(client, experiment, {STAGE: stage, **also})]
    ended = [run for run in found if run.info.status == "FINISHED" and PARENT not in run.data.tags]
    if not ended:
        data = "" if digest is None else f" of the data {digest[:8]}"
        raise ConfigError(
            f"no finished {' or '.join(stages)} run{data} in experiment dermonas/{dataset} of {get_tracking_uri()}: "
            f"run {stages[0]} first, or name a run"
        )
    return max(ended, key=lambda run: run.info.start_time)


def by_id(run_id: str) -> MlflowRun:
    """Return a run.

    Raises:
        ConfigError: there is none with this id.
    """
    if not RUN_ID.fullmatch(run_id):
        raise ConfigError(f"run {run_id!r} is no MLflow run id (32 hex digits)")
    try:
        client = connected()
        return patiently(lambda: client.get_run(run_id))
    except MlflowException as error:
        raise ConfigError(f"run {run_id} is not in {get_tracking_uri()}") from error


def children(run: MlflowRun) -> list[MlflowRun]:
    """Return a run's finished children, oldest first; the run itself where it has none."""
    found = runs_with(connected(), run.info.experiment_id, {PARENT: run.info.run_id})
    ended = [child for child in found if child.info.status == "FINISHED"]
    return sorted(ended, key=lambda child: child.info.start_time) or [run]


def inputs_digest(stage: str, values: Mapping[str, Any]) -> str:
    """Return 16 hex digits over a stage and what its result depends on (JSON-able values)."""
    text = json.dumps([stage, dict(values)], sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:16]


def supersede(run: Run, tags: Mapping[str, Any]) -> None:
    """End earlier runs of the same work that died: KILLED, with a tag that names the run that goes on."""
    for old in runs_with(run.client, run.experiment_id, tags):
        if old.info.run_id != run.id and old.info.status == "RUNNING":
            dead = Run(run.client, old.info.run_id, run.experiment_id)
            dead.tags({CONTINUED: run.id})
            dead.end("KILLED")
