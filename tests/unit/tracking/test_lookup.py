"""Finding runs, and what a trained run's observer and the mean over seeds write, on a store in a temporary folder."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from dermonas.errors import ConfigError
from dermonas.nn.measure import Cost
from dermonas.tracking.lookup import (
    CONTINUED,
    INPUTS,
    by_id,
    children,
    finished,
    inputs_digest,
    newest,
    reusable,
    runs_with,
    supersede,
)
from dermonas.tracking.runs import Run, child, tracked
from dermonas.tracking.training import TrainTracker, average, cost_metrics


@pytest.fixture
def client(tmp_path, run_tables, monkeypatch):
    shutil.copy(run_tables, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return MlflowClient()


def made(client, stage, start, status="FINISHED", dataset="x", **tags):
    """A run that began at a time of ours."""
    found = client.get_experiment_by_name(f"dermonas/{dataset}")
    where = found.experiment_id if found else client.create_experiment(f"dermonas/{dataset}")
    named = {"dermonas.stage": stage, **{key.replace("_", ".", 1): value for key, value in tags.items()}}
    run = client.create_run(where, start_time=start, tags=named)
    if status != "RUNNING":
        client.set_terminated(run.info.run_id, status, end_time=start + 1)
    return run.info.run_id


def test_the_newest_finished_run_of_its_own_is_found(client):
    expected = made(client, "train", 20, dermonas_dataset_digest="aa")
    made(client, "train", 10, dermonas_dataset_digest="aa")
    other = made(client, "benchmark", 30, dermonas_dataset_digest="bb")
    made(client, "train", 40, "RUNNING", dermonas_dataset_digest="aa")
    made(client, "train", 41, "FAILED", dermonas_dataset_digest="aa")
    made(client, "train", 42, "KILLED", dermonas_dataset_digest="aa")
    made(client, "train", 43, dermonas_dataset_digest="aa", mlflow_parentRunId=expected)
    made(client, "evaluate", 44, dermonas_dataset_digest="aa")
    made(client, "train", 45, dataset="y", dermonas_dataset_digest="aa")
    assert newest("x", ("train",)).info.run_id == expected
    assert newest("x", ("train", "benchmark")).info.run_id == other
    assert newest("x", ("train", "benchmark"), "aa").info.run_id == expected


def test_none_to_be_found_says_what_to_run(client):
    made(client, "train", 10, dermonas_dataset_digest="aa")
    with pytest.raises(ConfigError, match=r"no finished search run in experiment dermonas/x .*: run search first"):
        newest("x", ("search",))
    with pytest.raises(ConfigError, match="no finished train or benchmark run of the data bbbbbbbb in experiment"):
        newest("x", ("train", "benchmark"), "b" * 64)


def test_every_page_of_runs_is_read(client, monkeypatch):
    expected = [made(client, "train", start, dermonas_inputs="i") for start in range(1, 6)]
    real = MlflowClient.search_runs
    monkeypatch.setattr(MlflowClient, "search_runs", lambda self, *a, **k: real(self, *a, **{**k, "max_results": 2}))
    where = client.get_experiment_by_name("dermonas/x").experiment_id
    assert [run.info.run_id for run in runs_with(client, where, {"dermonas.inputs": "i"})] == expected[::-1]
    assert finished(client, where, {"dermonas.inputs": "i"}).info.run_id == expected[-1]
    assert finished(client, where, {"dermonas.inputs": "j"}) is None


def test_only_a_finished_run_of_the_same_inputs_is_reusable(client):
    assert reusable("x", "train", "i") is None
    expected = made(client, "train", 10, dermonas_inputs="i")
    made(client, "train", 20, "FAILED", dermonas_inputs="i")
    made(client, "train", 30, dermonas_inputs="j")
    made(client, "evaluate", 40, dermonas_inputs="i")
    assert reusable("x", "train", "i") == expected
    assert reusable("y", "train", "i") is None


def test_a_run_by_its_id(client):
    run = made(client, "train", 10)
    assert by_id(run).info.run_id == run
    for name in ("latest", run[:-1], run.upper() + "0", ""):
        with pytest.raises(ConfigError, match="is no MLflow run id"):
            by_id(name)
    with pytest.raises(ConfigError, match=f"run {'0' * 32} is not in sqlite"):
        by_id("0" * 32)


def test_children_are_the_finished_ones_oldest_first_or_the_run_itself(client):
    parent = made(client, "train", 10)
    assert [run.info.run_id for run in children(by_id(parent))] == [parent]
    later = made(client, "train", 30, mlflow_parentRunId=parent)
    earlier = made(client, "train", 20, mlflow_parentRunId=parent)
    made(client, "train", 25, "KILLED", mlflow_parentRunId=parent)
    assert [run.info.run_id for run in children(by_id(parent))] == [earlier, later]


def test_a_digest_of_inputs_depends_on_stage_and_values_and_not_on_their_order():
    values = {"a": 1, "b": [1, 2], "path": Path("here")}
    digest = inputs_digest("train", values)
    assert len(digest) == 16
    assert inputs_digest("train", dict(reversed(values.items()))) == digest
    assert inputs_digest("benchmark", values) != digest
    for key, value in (("a", 2), ("b", [2, 1]), ("path", Path("there"))):
        assert inputs_digest("train", {**values, key: value}) != digest


def test_dead_runs_of_the_same_work_end_killed_with_their_successor(client):
    tags = {"dermonas.stage": "train", INPUTS: "i"}
    dead = made(client, "train", 10, "RUNNING", dermonas_inputs="i")
    failed = made(client, "train", 11, "FAILED", dermonas_inputs="i")
    other = made(client, "train", 12, "RUNNING", dermonas_inputs="j")
    with tracked("dermonas/x", "train", "name", tags) as run:
        supersede(run, tags)
        assert client.get_run(run.id).info.status == "RUNNING"
    assert (by_id(dead).info.status, by_id(dead).data.tags[CONTINUED]) == ("KILLED", run.id)
    for left, status in ((failed, "FAILED"), (other, "RUNNING"), (run.id, "FINISHED")):
        assert by_id(left).info.status == status
        assert CONTINUED not in by_id(left).data.tags


def test_the_mean_is_over_what_all_children_have(client):
    logged = [
        {"test/accuracy": 0.5, "test/accuracy/lo": 0.4, "test/accuracy/hi": 0.6, "best/epoch": 2, "test/only": 1},
        {"test/accuracy": 0.8, "test/accuracy/lo": 0.7, "test/accuracy/hi": 0.9, "best/epoch": 5},
    ]
    with tracked("dermonas/x", "train", "name", {}) as run:
        for values in logged:
            with child(run, "train", "seed", {}) as one:
                one.metrics(values)
        average(run, children(by_id(run.id)), ("test/",))
    assert by_id(run.id).data.metrics == {
        "test/accuracy": pytest.approx(0.65),
        "test/accuracy/sd": pytest.approx(statistics.stdev([0.5, 0.8])),
    }
    with tracked("dermonas/x", "train", "single", {}) as single:
        average(single, [by_id(one.info.run_id) for one in children(by_id(run.id))[:1]], ("best/",))
    assert by_id(single.id).data.metrics == {"best/epoch": 2}


def test_a_resumed_training_has_its_whole_curve_and_the_best_apart(client, tmp_path):
    epochs = [{"train/loss": 3.0 - epoch, "validation/accuracy": value} for epoch, value in enumerate((0.2, 0.6, 0.4))]
    with tracked("dermonas/x", "train", "name", {}) as run:
        tracker = TrainTracker(Run(client, run.id, run.experiment_id))
        tracker.started("train", 3, {"first_epoch": 2, "epochs": epochs[:2]})
        tracker.epoch(0, 2, epochs[2])
        tracker.finished("train", {"best_epoch": 1.0, **epochs[1]})
        (tmp_path / "best.pt").write_bytes(b"weights")
        (tmp_path / "last.ckpt").write_bytes(b"more")
        tracker.model(tmp_path, ("best.pt",))
    for name in ("train/loss", "validation/accuracy"):
        curve = [(one.step, one.value) for one in client.get_metric_history(run.id, name)]
        assert curve == [(epoch, values[name]) for epoch, values in enumerate(epochs)]
    metrics = by_id(run.id).data.metrics
    assert (metrics["best/epoch"], metrics["best/validation/accuracy"]) == (1, 0.6)
    assert "best/train/loss" not in metrics
    assert [file.path for file in client.list_artifacts(run.id, "model")] == ["model/best.pt"]


def test_costs_are_in_millions_and_billions():
    cost = Cost(parameters=3_000_000, dead_parameters=500_000, multiply_adds=2_000_000_000, dead_multiply_adds=0,
                latency_ms=None)  # fmt: skip
    found = cost_metrics(cost)
    assert found == {
        "model/params_m": 3.0, "model/dead_params_m": 0.5, "model/macs_g": 2.0, "model/dead_macs_g": 0.0,
    }  # fmt: skip
    timed = Cost(**{**cost.__dict__, "latency_ms": 1.5})
    assert cost_metrics(timed) == {**found, "model/latency_ms": 1.5}
