"""`train` from a genotype to a tracked model, once more, and over seeds. Synthetic phantoms."""

from __future__ import annotations

import dataclasses
import json
import shutil
import statistics

import pytest
import torch
import yaml
from workplace import TINY

from dermonas.data.manifest import read_manifest
from dermonas.errors import DataError
from dermonas.space import zoo
from dermonas.training.record import load_model
from pipelines.jobs import check_classes

SMALL = ("--config", str(TINY), "--size", "16", "--channels", "2", "--threads", "1")


def small(place, *arguments):
    return [*SMALL, "--data", str(place.data), *arguments]


def weights(place, run):
    return torch.load(place.artifacts(run) / "model" / "best.pt", weights_only=True)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_published_genotype_becomes_a_tracked_model(place):
    arguments = small(place, "--genotype", "DARTS_V2", "--epochs", "3")
    done = place.run("train", *arguments)
    assert done.code == 0, done.err
    run = place.run_of(done)
    _check_run(place, run)
    _check_figures(place, run, epochs=3)
    _check_artifacts(place, run)
    kept = weights(place, run)

    started = place.client.create_run(run.info.experiment_id)  # as `mlflow run` does
    again = place.run("train", *arguments, environment={"MLFLOW_RUN_ID": started.info.run_id})
    assert (again.code, again.out) == (0, done.out), again.err
    (launcher,) = place.runs("launcher")
    assert (launcher.info.run_id, launcher.data.tags["dermonas.run_id"]) == (started.info.run_id, run.info.run_id)
    assert "was trained on the same inputs" in again.err
    assert [one.info.run_id for one in place.runs("train")] == [run.info.run_id]

    anew = place.run("train", *arguments, "--fresh", "true")
    assert anew.code == 0, anew.err
    fresh = place.run_of(anew)
    assert fresh.info.run_id != run.info.run_id
    assert "[1/3]" in anew.err
    assert equal(weights(place, fresh), kept)
    assert place.curve(fresh, "train/loss") == place.curve(run, "train/loss")

    other = place.run("train", *arguments, "--seed", "1")
    assert other.code == 0, other.err
    assert not equal(weights(place, place.run_of(other)), kept)


def _check_run(place, run):
    manifest = read_manifest(place.data)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "DARTS_V2")
    assert place.client.get_experiment(run.info.experiment_id).name == "dermonas/phantom"
    tags = run.data.tags
    assert tags["dermonas.genotype"] == zoo.load("DARTS_V2").digest
    assert tags["dermonas.dataset_digest"] == manifest.digest
    assert (tags["dermonas.synthetic"], tags["dermonas.mode"]) == ("True", "modern")
    assert (tags["dermonas.model"], tags["dermonas.start"]) == ("DARTS_V2", "random")
    assert "mlflow.parentRunId" not in tags
    params = run.data.params
    assert (params["genotype"], params["epochs"], params["size"], params["recipe"]) == ("DARTS_V2", "3", "16", "tiny")
    assert float(params["learning_rate"]) > 0  # the training recipe's, where the configuration says null
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("phantom", manifest.digest[:36])


def _check_figures(place, run, epochs):
    validation = {f"validation/{name}" for name in ("accuracy", "balanced_accuracy", "loss")}
    assert run.data.metrics.keys() == {
        "train/loss", "learning_rate", "drop_path", *validation, *(f"best/{name}" for name in validation),
        "best/epoch", "train/seconds", "model/params_m", "model/macs_g", "model/dead_params_m", "model/dead_macs_g",
        "model/latency_ms",
    }  # fmt: skip
    curves = {name: place.curve(run, name) for name in ("train/loss", *validation)}
    assert all([step for step, _ in curve] == list(range(epochs)) for curve in curves.values())
    judged = [value for _, value in curves["validation/balanced_accuracy"]]
    best = judged.index(max(judged))
    assert run.data.metrics["best/epoch"] == best
    assert all(run.data.metrics[f"best/{name}"] == curves[name][best][1] for name in validation)


def _check_artifacts(place, run):
    folder = place.artifacts(run)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {"model/record.json", "model/best.pt", "deviations.json", "config.yaml", "genotype.json"}
    assert zoo.load(folder / "genotype.json").digest == zoo.load("DARTS_V2").digest
    network, record = load_model(folder / "model")
    assert (record.name, record.network.layers, record.view.size, record.label_fraction) == ("DARTS_V2", 3, 16, 1.0)
    assert record.classes == read_manifest(place.data).classes
    assert sum(value.numel() for value in network.parameters()) >= run.data.metrics["model/params_m"] * 1e6
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["specification"] == record.network.to_dict()
    deviations = json.loads((folder / "deviations.json").read_text())
    assert deviations["layers"]["here"] == 3
    assert deviations["channels"] == {"paper": 48, "here": 2}
    assert deviations["epochs"]["here"] == 3


def test_a_search_names_its_genotype_as_the_newest_by_id_and_by_file(road):
    (search,) = road.runs("search")
    before = {one.info.run_id for one in road.runs("train")}
    arguments = (*SMALL, "--epochs", "1")
    done = road.run("train", *arguments, "--genotype", "latest")
    assert done.code == 0, done.err
    run = road.run_of(done)
    digest = search.data.tags["dermonas.genotype"]
    assert run.info.run_name == f"CSNAS-{digest[:8]}"
    assert run.data.tags["dermonas.genotype"] == digest
    assert run.data.tags["dermonas.search_run"] == search.info.run_id
    assert run.data.metrics["search/device_seconds"] == search.data.metrics["search/device_seconds"]
    record = json.loads((road.artifacts(run) / "model" / "record.json").read_text())
    assert record["search_run"] == search.info.run_id

    named = road.run("train", *arguments, "--genotype", search.info.run_id)
    assert (named.code, named.out) == (0, done.out), named.err

    shutil.copy(road.artifacts(search) / "genotype.json", road.folder / "mine.json")
    done = road.run("train", *arguments, "--genotype", "mine.json")
    assert done.code == 0, done.err
    run = road.run_of(done)
    assert (run.info.run_name, run.data.tags["dermonas.genotype"]) == ("mine", digest)
    assert "dermonas.search_run" not in run.data.tags
    assert len({one.info.run_id for one in road.runs("train")} - before) == 2


def test_several_seeds_are_children_of_one_run_with_their_mean_and_deviation(road):
    parent, *children = sorted(road.runs("train"), key=lambda run: "mlflow.parentRunId" in run.data.tags)
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert sorted(child.data.tags["dermonas.seed"] for child in children) == ["0", "1"]
    assert {child.info.status for child in children} == {parent.info.status} == {"FINISHED"}
    one, other = (weights(road, child) for child in children)
    assert not equal(one, other)
    assert not (road.artifacts(parent) / "model").exists()
    for name in ("best/validation/balanced_accuracy", "best/validation/loss", "best/epoch", "train/seconds"):
        values = [child.data.metrics[name] for child in children]
        assert parent.data.metrics[name] == pytest.approx(statistics.mean(values))
        assert parent.data.metrics[f"{name}/sd"] == pytest.approx(statistics.stdev(values))
    assert parent.data.metrics["model/params_m"] == children[0].data.metrics["model/params_m"]


def test_more_seeds_leave_a_finished_run_its_own(place):
    arguments = small(place, "--genotype", "DARTS_V2", "--epochs", "1", "--runs", "2")
    first = place.run("train", *arguments)
    assert first.code == 0, first.err
    second = place.run("train", *arguments, "--seed", "1")
    assert second.code == 0, second.err
    assert second.err.count("[1/1]") == 1  # seed 1 was trained before: its checkpoint is taken
    by_parent = {}
    for run in place.runs("train"):
        if parent := run.data.tags.get("mlflow.parentRunId"):
            by_parent.setdefault(parent, {})[run.data.tags["dermonas.seed"]] = weights(place, run)
    ours, theirs = (by_parent[place.run_of(done).info.run_id] for done in (first, second))
    assert (sorted(ours), sorted(theirs)) == (["0", "1"], ["1", "2"])
    assert equal(ours["1"], theirs["1"])


ROWS = """
import json, pathlib
import pipelines.jobs as jobs
fit = jobs.fit
def told(network, data, *more, **named):
    pathlib.Path("rows.json").write_text(json.dumps(data.train.rows.tolist()))
    return fit(network, data, *more, **named)
jobs.fit = told
"""


def test_a_label_fraction_is_a_share_of_each_class_in_whole_lesions(place):
    done = place.run(
        "train", *small(place, "--genotype", "DARTS_V2", "--epochs", "1", "--label_fraction", "0.5"), patch=ROWS
    )
    assert done.code == 0, done.err
    run = place.run_of(done)
    assert run.info.run_name == "DARTS_V2-0.5"
    assert float(run.data.tags["dermonas.label_fraction"]) == 0.5
    assert load_model(place.artifacts(run) / "model")[1].label_fraction == 0.5
    train = read_manifest(place.data).split_frame("train").reset_index(drop=True)
    rows = json.loads((place.folder / "rows.json").read_text())
    assert 0.5 * len(train) <= len(rows) <= 0.75 * len(train)  # of a class with one lesion all
    chosen = train.loc[rows]
    assert set(chosen["label"]) == set(train["label"])
    assert not set(chosen["group"]) & set(train.drop(index=rows)["group"])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, ["no finished search run of the data", "dermonas/phantom", "run search first"]),
        (("--genotype", "DARTS_V9"), 1, ["DARTS_V9", "DARTS_V2"]),
        (("--genotype", "0" * 32), 1, ["0" * 32]),
        (("--genotype", "DARTS_V2", "--warmup", "2"), 2, ["warmup 2", "epochs 2"]),
        (("--genotype", "DARTS_V2", "--layers", "1"), 2, ["layers"]),
        (("--genotype", "DARTS_V2", "--layers", "0"), 2, ["layers"]),
        (("--genotype", "DARTS_V2", "--stem", "imagenet", "--size", "20"), 2, ["20"]),
        (("--genotype", "DARTS_V2", "--recipe", "mine"), 2, ["recipe 'mine'", "isic2019"]),
        (("--genotype", "DARTS_V2", "--label_fraction", "0"), 2, ["label_fraction", "0.0"]),
        (("--genotype", "DARTS_V2", "--data", "nowhere"), 1, ["nowhere", "prepare"]),
        (("--genotype", "DARTS_V2", "--epoch", "1"), 2, ["'--epoch'", "epochs"]),
        (("--genotype", "DARTS_V2", "--precision", "float16"), 2, ["float16", "CUDA"]),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_line(arguments, code, says, place):
    done = place.run("train", *small(place, *arguments), patch="import torch; torch.cuda.is_available = lambda: False")
    assert (done.code, done.out) == (code, ""), done.err
    assert done.last.startswith("error: ")
    assert "Traceback" not in done.err
    for word in says:
        assert word in done.last
    assert {run.info.status for run in place.runs("train")} <= {"FAILED"}


def test_classes_that_cannot_be_learned_are_refused_and_unjudged_ones_named(phantoms, caplog):
    manifest = read_manifest(phantoms)
    frame = manifest.frame
    check_classes(manifest)

    def without(rows):
        return dataclasses.replace(manifest, frame=frame[~rows])

    train, validation = frame["split"] == "train", frame["split"] == "validation"
    with pytest.raises(DataError, match="train has no image of BCC, DF: add images or leave the class out"):
        check_classes(without(train & frame["label"].isin(["BCC", "DF"])))
    with pytest.raises(DataError, match="train has no labelled image"):
        check_classes(without(train))
    with pytest.raises(DataError, match="validation has no labelled image"):
        check_classes(without(validation))
    caplog.clear()
    check_classes(without(validation & (frame["label"] == "MEL")))
    assert "validation has no image of MEL" in caplog.text
