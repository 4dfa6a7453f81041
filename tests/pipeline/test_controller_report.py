"""`controller-report`: a pretraining and searches of a made-up table as one tracked report; what is refused."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
import yaml
from workplace import TINY

from dermonas.data.benchmarks.nasbench201 import read_nasbench201
from dermonas.errors import ConfigError
from dermonas.space.nasbench201 import architecture
from pipelines.controller_report_config import ControllerReportConfig

# UMAP takes ten seconds to compile and the unit tests see it; figures and plots take longer than all the rest.
QUICK = """
import dermonas.comparison.controller.embeddings as embeddings
embeddings.project = lambda points, seed: points[:, :2]
import pipelines.controller_pretrain as pretrain
pretrain.write_figure = lambda *_: None
import pipelines.controller_search as search
search.write_regret = lambda *_: []
"""
SMALL = ("--pairs", "8", "--performance_pairs", "8", "--random_pairs", "50", "--window", "5", "--queries", "[4, 8]")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A made-up NAS-Bench-201 table: an accuracy is a sum over the edges; test differs a little from validation."""
    rng = np.random.default_rng(0)
    choices = np.stack(np.unravel_index(np.arange(5**6), (5,) * 6), axis=1)
    validation = 10 + 12 * rng.random((6, 5))[np.arange(6), choices].sum(axis=1)
    frame = pd.DataFrame({"index": range(5**6), "arch": [architecture(tuple(row)) for row in choices.tolist()]})
    frame["c10_val_e12"] = validation
    frame["c10_test_e200"] = validation + rng.random(5**6)
    file = tmp_path_factory.mktemp("table") / "made-up.csv"
    frame.to_csv(file, index=False)
    return file


@pytest.fixture
def runs(place, table):
    """Ids by name: a pretraining, an older one of the same metric, evolution, and nao with the pretraining."""
    given = ("--config", str(TINY), "--domain", "nasbench201")
    counts = ("--table", str(table), "--seeds", "2", "--queries", "8", "--initial", "4")
    found = {}
    for name, seed in (("older", "1"), ("pretrain", "0")):
        done = place.run("controller_pretrain", *given, "--seed", seed, patch=QUICK)
        assert done.code == 0, done.err
        found[name] = done.out.split()[1]
    nao = ("--nao_initial", "4", "--nao_seeds", "4", "--nao_count", "2", "--nao_epochs", "2")
    for name, arguments in (
        ("evolution", ("--sampler", "evolution", "--population", "4", "--tournament", "2")),
        ("nao", ("--sampler", "nao", "--controller", found["pretrain"], *nao)),
    ):
        done = place.run("controller_search", *given, *counts, *arguments, patch=QUICK)
        assert done.code == 0, done.err
        found[name] = done.out.split()[1]
    return found


def reported(place, *arguments):
    return place.run("controller_report", "--config", str(TINY), *SMALL, *arguments, patch=QUICK)


def test_all_is_the_newest_of_each_metric_and_arm_as_one_report(place, runs, table):
    done = reported(place, "--table", str(table), "--out", "kept")
    assert done.code == 0, done.err
    assert all(line.startswith("INFO ") for line in done.err.splitlines()), done.err
    run = place.run_of(done)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "report-nasbench201")
    assert place.client.get_experiment(run.info.experiment_id).name == "dermonas/controller/nasbench201"
    assert (run.data.tags["dermonas.stage"], run.data.tags["dermonas.controller"]) == ("controller", "report")
    folder = place.artifacts(run)
    kept = {path.name for path in (place.folder / "kept").iterdir()}
    assert {path.name for path in folder.iterdir()} == {*kept, "config.yaml"}
    assert {"report.html", "report.md", "table1.csv", "comparison.csv", "locality.json", "regret.svg"} <= kept
    assert len([name for name in kept if name.startswith("fig") and name.endswith(".png")]) == 6
    settled = yaml.safe_load((folder / "config.yaml").read_text())["runs"]
    assert settled == [runs["pretrain"], runs["evolution"], runs["nao"]]

    queries = pd.read_parquet(place.artifacts(place.client.get_run(runs["evolution"])) / "queries.parquet")
    best = queries.loc[queries.groupby("seed")["validation"].idxmax()]
    rows = {row["method"]: row for row in csv.DictReader((folder / "table1.csv").open())}
    assert float(rows["evolution"]["test_acc_mean"]) == pytest.approx(100 * best["test"].mean(), abs=1e-5)
    assert float(rows["evolution"]["queries_mean"]) == pytest.approx(best["query"].mean())
    ranking = np.sort(read_nasbench201(table, "cifar10").test_accuracy)[::-1]
    ranks = [1 + int((ranking > value + 1e-9).sum()) for value in best["test"]]
    assert float(rows["evolution"]["rank_mean"]) == pytest.approx(np.mean(ranks))
    assert run.data.metrics["accuracy/evolution/at_8"] == pytest.approx(100 * best["test"].mean())
    (controller,) = json.loads((folder / "locality.json").read_text())["controllers"]
    assert run.data.metrics["locality/spearman"] == pytest.approx(controller["spearman"]["estimate"])
    assert (controller["run_id"], controller["pairs"]["3"]) == (runs["pretrain"], 8)
    differences = [row for row in csv.DictReader((folder / "comparison.csv").open()) if row["reference"]]
    assert {(row["reference"], row["paired_seeds"]) for row in differences} == {("evolution", "2")}

    named = reported(place, "--runs", json.dumps([runs["older"], runs["evolution"]]))
    assert named.code == 0, named.err
    page = (place.artifacts(place.run_of(named)) / "report.html").read_text()
    assert "Fig 1b: performance by edit distance: no table of accuracies was given." in page
    assert runs["older"] in page
    assert runs["nao"] not in page


def test_what_cannot_be_reported_is_told_in_one_line(place, runs):
    place.client.set_terminated(runs["older"], "FAILED")
    done = reported(place, "--runs", json.dumps([runs["nao"]]), "--table", "absent.csv")
    assert done.code == 1
    assert "absent.csv cannot be read" in done.last
    (failed,) = (run for run in place.runs("controller") if run.data.tags["dermonas.controller"] == "report")
    assert failed.info.status == "FAILED"
    assert "absent.csv" in failed.data.tags["dermonas.error"]
    again = place.client.create_run(failed.info.experiment_id)
    tags = {"dermonas.controller": "search", "dermonas.arm": "evolution"}
    for key, value in tags.items():
        place.client.set_tag(again.info.run_id, key, value)
    for key, value in {"domain": "nasbench201", "dataset": "cifar10"}.items():
        place.client.log_param(again.info.run_id, key, value)
    place.client.set_terminated(again.info.run_id)
    for arguments, says in (
        (["0" * 32], "is not in sqlite"),
        (["latest"], "is no MLflow run id"),
        ([runs["older"]], f"run {runs['older']} is failed: the same controller-pretrain command ends it"),
        ([failed.info.run_id], "is a report of the controller: name runs of controller-pretrain or controller-search"),
        ([runs["evolution"], again.info.run_id], "are both the arm evolution: name one of them"),
        ([again.info.run_id], "has no artifact queries.parquet"),
    ):
        done = reported(place, "--runs", json.dumps(arguments))
        assert (done.code, done.out) == (1 if "artifact" in says else 2, ""), done.err
        assert done.last.startswith("error: ")
        assert says in done.last
        assert "Traceback" not in done.err
    for arguments, says in (
        (("--domain", "darts4"), "is of nasbench201, not of darts4: name others, or give --domain"),
        (("--dataset", "cifar100"), "searched cifar10, not cifar100: name others, or give --dataset"),
    ):
        done = reported(place, "--runs", json.dumps([runs["nao"]]), *arguments)
        assert done.code == 2
        assert says in done.last


def test_without_runs_there_is_the_space_alone(place):
    done = reported(place, "--domain", "darts4")
    assert done.code == 0, done.err
    folder = place.artifacts(place.run_of(done))
    names = {"fig1a-distances.png", "fig1a-distances.svg", "report.html", "report.md", "config.yaml"}
    assert {path.name for path in folder.iterdir()} == names
    assert "INFO not made: Fig 4: performance in query order, no search was given" in done.err


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"window": 0}, "window: 0 is not possible; give 1 or more"),
        ({"pairs": 1}, "pairs: 1 is not possible; give 2 or more"),
        ({"queries": []}, "queries: [] is not possible"),
        ({"queries": [0, 3]}, "queries: [0, 3] is not possible"),
        ({"runs": ["all", "x"]}, "give run ids, or all"),
        ({"runs": ["x", "y", "x"]}, "runs: x stands there twice"),
        ({"dataset": "svhn"}, "dataset: 'svhn' is not possible; give one of cifar10"),
        ({"dataset": "cifar100", "domain": "nasbench101"}, "'cifar100' is not possible with nasbench101"),
        ({"table": "x.csv", "domain": "darts5"}, "table: x.csv is not possible with darts5"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, says):
    with pytest.raises(ConfigError) as caught:
        ControllerReportConfig(**values)
    assert says in str(caught.value)
