"""`pipeline`: the whole road in one command, after a kill, and once more. Synthetic phantoms."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from workplace import ROAD, ROOT, TINY

from pipelines.pipeline_config import STEPS
from pipelines.recipe import STAGES


def ids(place):
    return {run.info.run_id for stage in STAGES for run in place.runs(stage)}


def test_after_a_kill_the_road_went_on_where_it_stopped(road, went):
    killed, done = road.runs("pipeline")
    assert (killed.info.status, done.info.status) == ("KILLED", "FINISHED")
    assert killed.data.tags["dermonas.continued_by"] == done.info.run_id
    steps = json.loads((road.artifacts(done) / "steps.json").read_text())
    assert json.loads(went.with_suffix(".done").read_text()) == steps
    assert {step: len(runs) for step, runs in steps.items()} == {
        "search": 1, "train": 1, "benchmark": 1, "evaluate": 2, "explain": 1, "compare": 1,
    }  # fmt: skip
    for step in ("search", "train"):  # done before the kill, and not again
        assert killed.data.tags[f"dermonas.step.{step}"] == " ".join(steps[step])
    assert "dermonas.step.benchmark" not in killed.data.tags
    top = {
        stage: [run for run in road.runs(stage) if "mlflow.parentRunId" not in run.data.tags] for stage in STEPS[:-1]
    }
    assert {stage: len(runs) for stage, runs in top.items()} == {
        "prepare": 1, "search": 1, "train": 1, "benchmark": 2, "evaluate": 2, "explain": 1, "compare": 1,
    }  # fmt: skip
    for step, runs in steps.items():
        found = [road.client.get_run(run) for run in runs]
        assert {run.data.tags["dermonas.stage"] for run in found} == {step}
        assert {run.info.status for run in found} == {"FINISHED"}
        assert done.data.tags[f"dermonas.step.{step}"] == " ".join(runs)
    config = yaml.safe_load((road.artifacts(done) / "config.yaml").read_text())
    assert (config["train"]["runs"], config["search"]["trials"], config["benchmark"]["size"]) == (2, 1, 48)
    (train,) = top["train"]
    assert train.data.tags["dermonas.search_run"] == steps["search"][0]
    assert train.data.params["genotype"] == steps["search"][0]


def test_the_same_command_makes_no_run_but_its_own(road):
    before = ids(road)
    steps = json.loads((road.artifacts(road.runs("pipeline")[-1]) / "steps.json").read_text())
    done = road.run("pipeline", *ROAD)
    assert done.code == 0, done.err
    assert json.loads(done.out) == steps
    assert len(road.runs("pipeline")) == 3
    assert ids(road) - before == {road.runs("pipeline")[-1].info.run_id}
    tags = [run.data.tags for run in (*road.runs("train"), *road.runs("benchmark"))]
    assert {tag["dermonas.test_reads"] for tag in tags if "dermonas.test_reads" in tag} == {"1"}


def test_a_changed_step_is_made_anew_with_what_follows_and_the_best_is_registered(road, plain):
    before = ids(road)
    words = (*ROAD, "--benchmark.epochs=2", "--register", "best")  # the last of a word counts
    done = road.run("pipeline", *words, patch=plain)
    assert done.code == 0, done.err
    steps = json.loads(done.out)
    assert before >= {*steps["search"], *steps["train"], steps["evaluate"][0]}
    (benchmark,) = steps["benchmark"]
    assert road.client.get_run(benchmark).data.params["epochs"] == "2"
    assert len(road.curve(road.client.get_run(benchmark), "train/loss")) == 2
    assert not before & {benchmark, steps["evaluate"][1], *steps["explain"], *steps["compare"], *steps["register"]}
    (version,) = road.client.search_model_versions("name = 'dermonas-phantom'")
    judged = {
        run.info.run_id: run.data.metrics["best/validation/balanced_accuracy"]
        for run in (*road.runs("train"), road.client.get_run(benchmark))
        if "mlflow.parentRunId" in run.data.tags or run.info.run_id == benchmark
    }
    assert judged[version.run_id] == max(judged.values())
    before = ids(road)
    again = road.run("pipeline", *words, patch=plain)
    assert again.code == 0, again.err
    assert json.loads(again.out) == steps
    assert len(ids(road) - before) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--train.epoch", "1"), "unknown key '--epoch'; did you mean 'epochs'?"),
        (("--train.epochs", "many"), "epochs"),
        (("--train.epochs", "0"), "epochs 0"),
        (("--train.epochs",), "epochs"),
        (("--trian.epochs", "1"), "trian"),
        (("--register", "worst"), "worst"),
        (("--genotypes", '["DARTS_V2", "DARTS_V2"]'), "names one twice"),
    ],
)
def test_a_wrong_word_for_any_step_is_told_before_the_first(arguments, says, place):
    done = place.run("pipeline", "--config", str(TINY), *arguments)
    assert (done.code, done.out) == (2, ""), done.err
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: ")
    assert says in done.err
    assert ids(place) == set()


def test_every_entry_point_declares_its_recipe_alone_and_is_a_stage():
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    points = project["entry_points"]
    assert points.keys() - {"main"} == STAGES.keys()
    for name, point in points.items():
        assert point["parameters"].keys() == {"config"}
        default = point["parameters"]["config"]
        assert default["type"] == "string"
        assert (ROOT / default["default"]).is_file()
        module = re.fullmatch(r"python -m pipelines\.(\w+) --config \{config\}", point["command"]).group(1)
        assert module == ("search" if name == "main" else name.replace("-", "_"))
        assert (ROOT / "pipelines" / f"{module}.py").is_file()
