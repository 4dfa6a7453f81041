"""`compare`: evaluated runs as one table, from their predictions alone. Synthetic phantoms."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from workplace import TINY

COMPARE = ("--config", str(TINY), "--resamples", "50")


def comparison(place, run):
    return json.loads((place.artifacts(run) / "comparison.json").read_text())


def ours(place, run):
    return [row for row in comparison(place, run)["rows"] if row["source"] == "measured"]


def models(place):
    """The found network's parent run, and the baseline's."""
    (found,) = (run for run in place.runs("train") if "mlflow.parentRunId" not in run.data.tags)
    (baseline,) = (run for run in place.runs("benchmark") if run.info.status == "FINISHED")
    return found, baseline


def test_the_figures_are_those_of_the_evaluations(road):
    (run,) = road.runs("compare")
    for row, model in zip(ours(road, run), models(road), strict=True):
        assert row["name"] == model.data.tags["dermonas.model"]
        for name in ("accuracy", "balanced_accuracy", "melanoma_f1"):
            assert row["cells"][name]["mean"] == pytest.approx(model.data.metrics[f"test/{name}"])
        assert row["cells"]["parameters"] == round(model.data.metrics["model/params_m"] * 1e6)
        assert row["cells"]["latency_ms"] == model.data.metrics["model/latency_ms"]
    found, baseline = ours(road, run)
    assert (found["kind"], baseline["kind"]) == ("cells", "timm")
    children = [one for one in road.runs("train") if "mlflow.parentRunId" in one.data.tags]
    by_seed = sorted(children, key=lambda one: one.data.tags["dermonas.seed"])
    assert found["cells"]["accuracy"]["by_seed"] == [one.data.metrics["test/accuracy"] for one in by_seed]
    assert found["cells"]["accuracy"]["sd"] == pytest.approx(models(road)[0].data.metrics["test/accuracy/sd"])
    assert [one["run_id"] for one in found["runs"]] == [one.info.run_id for one in by_seed]
    content = comparison(road, run)
    assert [(pair["first"], pair["second"]) for pair in content["tests"]] == [("1", "2")]
    assert content["split"]["synthetic"] is True
    assert all(row["source"].startswith("published") for row in content["rows"][2:])


def test_the_report_stands_alone(road):
    (run,) = road.runs("compare")
    files = {path.name for path in road.artifacts(run).iterdir()}
    assert {"comparison.html", "comparison.csv", "comparison.json", "config.yaml"} <= files
    page = (road.artifacts(run) / "comparison.html").read_text()
    assert "ynthetic" in page
    assert all(model.data.tags["dermonas.model"] in page for model in models(road))
    sources = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    rows = pd.read_csv(road.artifacts(run) / "comparison.csv")
    assert rows["accuracy"].tolist()[:2] == [row["cells"]["accuracy"]["mean"] for row in ours(road, run)]


def test_all_takes_the_newest_of_each_name_and_label_fraction(road, plain):
    found, baseline = models(road)
    again = []
    for arguments in (("--seed", "7"), ("--label_fraction", "0.5")):
        done = road.run("train", "--config", str(TINY), "--size", "16", "--epochs", "1", *arguments)
        assert done.code == 0, done.err
        again.append(done.out.split()[1])
    done = road.run("compare", *COMPARE, "--runs", json.dumps(again))
    assert (done.code, done.out) == (2, "")
    assert f"{again[0]} (" in done.last
    assert "is not evaluated: run evaluate --run on it" in done.last
    for run in again:
        assert road.run("evaluate", "--config", str(TINY), "--run", run, patch=plain).code == 0
    done = road.run("compare", *COMPARE)
    assert done.code == 0, done.err
    rows = {(row["name"], row["label_fraction"]): row for row in ours(road, road.run_of(done))}
    name = found.data.tags["dermonas.model"]
    assert rows.keys() == {(name, 1.0), (name, 0.5), (baseline.data.tags["dermonas.model"], 1.0)}
    assert [one["run_id"] for one in rows[name, 1.0]["runs"]] == [again[0]]
    assert [one["run_id"] for one in rows[name, 0.5]["runs"]] == [again[1]]


def test_what_cannot_be_compared_is_told_in_one_line(road):
    found, baseline = models(road)
    both = ("--runs", json.dumps([found.info.run_id, baseline.info.run_id]))
    (search,) = road.runs("search")
    for arguments, says in (
        (("--runs", json.dumps([search.info.run_id])), "is of stage search"),
        (("--runs", json.dumps(["all", found.info.run_id])), "runs must be run ids of train or benchmark, or all"),
        ((*both, "--reference", "nobody"), "nobody"),
        ((*both, "--explain", "0" * 32), "is not in sqlite"),
    ):
        done = road.run("compare", *COMPARE, *arguments)
        assert (done.code, done.out) == (2, ""), done.err
        assert done.last.startswith("error: ")
        assert says in done.last
        assert "Traceback" not in done.err
    road.client.set_tag(baseline.info.run_id, "dermonas.dataset_digest", "f" * 64)
    done = road.run("compare", *COMPARE, *both)
    assert (done.code, done.out) == (2, "")
    assert f"run {baseline.info.run_id} is of other data than" in done.last
    assert {run.info.status for run in road.runs("compare")} == {"FINISHED", "FAILED"}
