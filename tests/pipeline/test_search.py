"""`search` from nothing to a genotype in MLflow, and once more."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from workplace import TINY, clean_environment

from dermonas.data.manifest import read_manifest
from dermonas.space import zoo
from pipelines.recipe import plain, read_config

LAST = re.compile(r"run ([0-9a-f]{32}) genotype ([0-9a-f]{16})\n")


def artifacts(place, run_id, folder=None):
    return {item.path for item in place.client.list_artifacts(run_id, folder)}


def test_the_thin_road(place):
    command = [sys.executable, "-m", "pipelines.search", "--config", str(TINY)]
    done = subprocess.run(
        command, cwd=place.folder, env=clean_environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    found = LAST.fullmatch(done.stdout)
    assert found is not None, done.stdout
    run_id, digest = found.groups()
    check_parent(place, run_id, digest)
    check_children(place, run_id)
    check_prepare(place)

    again = place.run("search", "--config", str(TINY))
    assert again.code == 0, again.err
    assert again.out.split()[2:] == ["genotype", digest]
    check_taken_over(place, again.run_id, trials=3)
    assert place.client.get_run(run_id).data.tags["dermonas.continued_by"] == again.run_id
    check_parent(place, again.run_id, digest)

    trials = place.trials()
    more = place.run("search", "--config", str(TINY), "--trials", "5")
    assert more.code == 0, more.err
    assert place.trials()[:3] == trials
    assert len(place.trials()) == 5
    check_taken_over(place, more.run_id, trials=5)
    assert "plots/importance.html" in artifacts(place, more.run_id, "plots")
    # A run id names the genotype that the run found.
    described = place.run("describe", "--genotype", more.run_id, "--layers", "3", "--channels", "4", "--latency",
                          "false", "--resolution", "64")  # fmt: skip
    assert described.code == 0, described.err
    assert json.loads(described.out)["digest"] == more.out.split()[3]


def check_parent(place, run_id, digest):
    run = place.client.get_run(run_id)
    trials = place.trials()
    assert run.info.status == "FINISHED"
    assert place.client.get_experiment(run.info.experiment_id).name == "dermonas/phantom"
    config = read_config("search", ["--config", str(TINY)])[0]
    assert run.data.params == {**{key: str(value) for key, value in plain(config).items()}, "recipe": "tiny"}
    manifest = read_manifest(place.folder / "data" / "phantom")
    tags = run.data.tags
    assert tags["dermonas.stage"] == "search"
    assert tags["dermonas.genotype"] == digest
    assert tags["dermonas.dataset_digest"] == manifest.digest
    assert tags["dermonas.mode"] == "modern"
    assert tags["dermonas.synthetic"] == "True"
    assert "dermonas.error" not in tags

    metrics = run.data.metrics
    values = [trial["value"] for trial in trials]
    assert metrics["search/best_score"] == min(values)
    assert {key: metrics[f"search/{key}"] for key in ("distinct", "duplicate", "pruned", "failed")} == {
        "distinct": 3, "duplicate": 0, "pruned": 0, "failed": 0,
    }  # fmt: skip
    assert all(metrics[f"search/seconds/{phase}"] >= 0 for phase in ("propose", "score", "store", "observe"))
    assert metrics["search/device_seconds"] > 0
    assert metrics["search/images"] == manifest.frame["search"].sum() == 24
    best = place.client.get_metric_history(run_id, "search/best_score")
    assert {metric.step: metric.value for metric in best} == {step: min(values[: step + 1]) for step in range(3)}

    (data,) = run.inputs.dataset_inputs
    assert data.dataset.name == "phantom"
    assert data.dataset.digest == manifest.digest[:36]
    assert {tag.key: tag.value for tag in data.tags} == {"mlflow.data.context": "search"}

    files = {"genotype.json", "trials.parquet", "config.yaml", "deviations.json", "cells", "plots"}
    files |= {"checklist.md", "checklist.json"}
    assert artifacts(place, run_id) == files
    assert {path.split(".")[-1] for path in artifacts(place, run_id, "cells")} == {"svg", "png"}
    assert len(artifacts(place, run_id, "cells")) == 4
    assert "plots/history.html" in artifacts(place, run_id, "plots")
    folder = place.folder / "mlruns" / run.info.experiment_id / run_id / "artifacts"
    assert zoo.load(folder / "genotype.json").digest == digest
    assert yaml.safe_load((folder / "config.yaml").read_text()) == plain(config)
    table = pd.read_parquet(folder / "trials.parquet")
    assert table["value"].tolist() == values
    assert [json.dumps(theta.tolist()) for theta in table["theta"]] == [trial["theta"] for trial in trials]
    deviations = json.loads((folder / "deviations.json").read_text())
    assert deviations["encoding"] == {"paper": "first2", "here": "pairs"}
    assert deviations["epochs"] == {"paper": 10, "here": 2}


def check_children(place, run_id):
    children = place.runs("trial")
    trials = {str(trial["number"]): trial for trial in place.trials()}
    assert sorted(child.data.tags["dermonas.trial"] for child in children) == ["0", "1", "2"]
    for child in children:
        trial = trials[child.data.tags["dermonas.trial"]]
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == run_id
        assert child.data.tags["dermonas.genotype"] == trial["digest"]
        history = place.client.get_metric_history(child.info.run_id, "search/score")
        assert [(metric.step, metric.value) for metric in history] == list(enumerate(trial["epochs"]))
        assert len(trial["epochs"]) == 2
        assert child.data.metrics["model/params_m"] > 0


def check_prepare(place):
    (run,) = place.runs("prepare")
    assert run.info.status == "FINISHED"
    assert run.data.tags["dermonas.dataset_digest"] == read_manifest(place.folder / "data" / "phantom").digest
    assert run.data.params["phantom_size"] == "48"
    assert "mlflow.parentRunId" not in run.data.tags


def check_taken_over(place, run_id, trials):
    for run in place.runs("search"):
        if run.info.run_id != run_id:
            assert run.info.status == "KILLED"
            assert "dermonas.continued_by" in run.data.tags
    assert place.client.get_run(run_id).info.status == "FINISHED"
    children = place.runs("trial")
    assert len(children) == trials
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {run_id}
    assert {child.info.status for child in children} == {"FINISHED"}


# What `mlflow run` starts finds its interpreter by name.
def mlflow_run(place, *arguments, experiment="dermonas/phantom"):
    program = os.path.join(os.path.dirname(sys.executable), "mlflow")  # noqa: PTH118, PTH120
    environment = {
        **clean_environment(),
        "MLFLOW_TRACKING_URI": f"sqlite:///{place.folder}/mlflow.db",
        "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}",  # noqa: PTH120
    }
    del environment["PYTHONPATH"]
    return subprocess.run(
        [program, "run", str(TINY.parents[2]), "-e", "search", "--env-manager", "local", "--experiment-name",
         experiment, *(word for argument in arguments for word in ("-P", argument))],
        cwd=place.folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def shares(place):
    """Arguments that keep all that `mlflow run` writes out of the checkout, in which it runs."""
    return [f"config={TINY}", f"data={place.data}", f"storage=sqlite:///{place.folder}/studies.db"]


def test_mlflow_run_with_a_recipe_alone_uses_the_recipe(place, shares):
    done = mlflow_run(place, *shares, "images=8", "batch_size=4", "learning_rate=1e-3", "width=08")
    assert done.returncode == 0, done.stderr
    run_id, digest = LAST.search(done.stdout).groups()
    (run,) = place.runs("search")
    assert place.runs("launcher") == []
    assert run.info.run_id == run_id
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.source.type"] == "PROJECT"
    assert run.data.tags["dermonas.genotype"] == digest
    assert len(place.trials()) == read_config("search", ["--config", str(TINY)])[0].trials == 3
    assert run.data.params["trials"] == "3"
    assert float(run.data.params["learning_rate"]) == 0.001  # mlflow run logged it first, in its own spelling
    assert run.data.params["config"] == str(TINY)


def test_a_run_that_mlflow_started_elsewhere_becomes_a_launcher(place):
    # As `mlflow run` in another experiment does; the test above starts it for real.
    client = place.client
    started = client.create_run(client.create_experiment("elsewhere"), tags={"mlflow.source.type": "PROJECT"})
    arguments = place.small("--trials", "1")
    environment = {"MLFLOW_RUN_ID": started.info.run_id}
    done = place.run("search", *arguments, environment=environment)
    assert done.code == 0, done.err
    (run,), (launcher,) = place.runs("search"), place.runs("launcher")
    assert launcher.info.run_id == started.info.run_id
    assert launcher.data.tags["dermonas.run_id"] == run.info.run_id == done.run_id
    assert client.get_experiment(run.info.experiment_id).name == "dermonas/phantom"
    assert run.info.status == "FINISHED"

    refused = place.run("search", *arguments, "--epochs", "3", environment=environment)
    assert refused.code == 1
    launcher = client.get_run(started.info.run_id)
    assert launcher.data.tags["dermonas.error"] == refused.last.removeprefix("error: ")


def test_a_run_that_mlflow_started_learns_why_its_command_was_refused(place):
    # MLflow itself ends it FAILED, as the exit code is not 0.
    client = place.client
    started = client.create_run(client.create_experiment("dermonas/phantom"))
    done = place.search("--trials", "0", environment={"MLFLOW_RUN_ID": started.info.run_id})
    assert done.code == 2
    (run,) = place.runs("search")
    assert run.info.run_id == started.info.run_id
    assert run.data.tags["dermonas.error"] == "trials is 0, must be at least 1"
