"""`evaluate`: figures that are scikit-learn's, reads of test that are counted, external sets. Synthetic phantoms."""

from __future__ import annotations

import json
import statistics

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics as sk
from workplace import TINY

from dermonas.data.cache import decoded_cache
from dermonas.data.manifest import read_manifest
from dermonas.evaluation.predict import predict
from dermonas.evaluation.predictions import Predictions
from dermonas.metrics.temperature import scaled
from dermonas.training.record import load_model

FILES = {"predictions.parquet", "report.json", "report.txt", "report.csv", "subgroups.csv", "submission.csv",
         "config.yaml"}  # fmt: skip
EVALUATE = ("--config", str(TINY))


def table(place, evaluation):
    return Predictions.read(place.artifacts(evaluation) / "predictions.parquet")


def single(place):
    """The baseline's run: of one seed."""
    (run,) = (run for run in place.runs("benchmark") if run.info.status == "FINISHED")
    return run


def evaluation_of(place, run):
    return place.client.get_run(run.data.tags["dermonas.evaluated_by"])


def test_the_predictions_are_the_models_on_validation_and_test(road):
    run = single(road)
    evaluation = evaluation_of(road, run)
    assert evaluation.data.tags["dermonas.evaluated"] == run.info.run_id
    assert evaluation.info.run_name == f"{run.info.run_name}-test"
    found = table(road, evaluation)
    manifest = read_manifest(road.folder / "data" / "phantom")
    rows = pd.concat([manifest.split_frame("validation"), manifest.split_frame("test")])
    for column, source in (("image", "path"), ("label", "label"), ("group", "group"), ("split", "split")):
        assert found.frame[column].tolist() == rows[source].tolist()
    assert found.classes == manifest.classes
    np.testing.assert_allclose(found.probabilities().sum(axis=1), 1, atol=1e-12)
    network, record = load_model(road.artifacts(run) / "model")
    images = decoded_cache(manifest, road.folder / "data" / "phantom", record.view.stored, "test")
    logits = predict(network, images, record.view)
    np.testing.assert_allclose(found.split("test").logits(), logits, atol=1e-5)
    assert float(run.data.tags["dermonas.temperature"]) == found.temperature.value
    np.testing.assert_allclose(found.split("test").probabilities(), scaled(logits, found.temperature.value), atol=1e-5)
    assert (found.synthetic, found.dataset_digest, found.tta) == (True, manifest.digest, False)


def test_the_figures_are_scikit_learns_on_both_runs(road):
    run = single(road)
    evaluation = evaluation_of(road, run)
    test = table(road, evaluation).split("test").frame
    classes = table(road, evaluation).classes
    decided = np.array(classes)[test[[f"p_{name}" for name in classes]].to_numpy().argmax(axis=1)]
    present = sorted(set(test["label"]))
    areas = [sk.roc_auc_score(test["label"] == name, test[f"p_{name}"]) for name in present]
    wanted = {
        "accuracy": sk.accuracy_score(test["label"], decided),
        "balanced_accuracy": sk.recall_score(test["label"], decided, labels=present, average="macro"),
        "macro_f1": sk.f1_score(test["label"], decided, labels=present, average="macro"),
        "melanoma_f1": sk.f1_score(test["label"] == "MEL", decided == "MEL"),
        "auroc_macro": statistics.mean(areas),
    }
    for name, value in wanted.items():
        assert evaluation.data.metrics[f"test/{name}"] == pytest.approx(value), name
    own = {name: value for name, value in evaluation.data.metrics.items() if name.startswith("test/")}
    assert own == {name: value for name, value in run.data.metrics.items() if name.startswith("test/")}
    assert {"test/accuracy/lo", "test/accuracy/hi", "test/ece", "test/ece_before"} <= own.keys()
    assert own["test/accuracy/lo"] <= own["test/accuracy"] <= own["test/accuracy/hi"]
    report = json.loads((road.artifacts(evaluation) / "report.json").read_text())
    assert report["headline"]["accuracy"]["estimate"] == own["test/accuracy"]


def test_the_files_of_an_evaluation(road):
    evaluations = [run for run in road.runs("evaluate") if (road.artifacts(run) / "predictions.parquet").exists()]
    assert len(evaluations) == 3
    drawn = 0
    for evaluation in evaluations:
        files = {path.name for path in road.artifacts(evaluation).iterdir()}
        assert files >= FILES
        pictures = {name for name in files - FILES if name.endswith((".png", ".svg"))}
        assert files - FILES == pictures
        drawn += bool(pictures)
        test = table(road, evaluation).split("test").frame
        sent = pd.read_csv(road.artifacts(evaluation) / "submission.csv")
        assert sent["image"].tolist() == [name.rpartition("/")[2].partition(".")[0] for name in test["image"]]
        np.testing.assert_allclose(sent["MEL"], test["p_MEL"])
        assert (sent["UNK"] == 0).all()
    assert drawn == 1


def test_several_seeds_have_their_mean_and_deviation_on_both_parents(road):
    parent, *seeds = sorted(road.runs("train"), key=lambda run: "mlflow.parentRunId" in run.data.tags)
    evaluation = evaluation_of(road, parent)
    assert evaluation.data.tags["dermonas.evaluated"] == parent.info.run_id
    assert {evaluation_of(road, seed).data.tags["mlflow.parentRunId"] for seed in seeds} == {evaluation.info.run_id}
    assert [seed.data.tags["dermonas.test_reads"] for seed in seeds] == ["1", "1"]
    for name in ("test/accuracy", "test/macro_f1", "test/ece"):
        values = [seed.data.metrics[name] for seed in seeds]
        for run in (parent, evaluation):
            assert run.data.metrics[name] == pytest.approx(statistics.mean(values))
            assert run.data.metrics[f"{name}/sd"] == pytest.approx(statistics.stdev(values))
            assert f"{name}/lo" not in run.data.metrics


def test_only_a_read_of_test_counts(road, plain):
    run = single(road)
    before = {name: road.curve(run, name) for name in run.data.metrics}
    known = evaluation_of(road, run)
    done = road.run("evaluate", *EVALUATE, "--run", run.info.run_id, "--split", "validation", "--tta", "true",
                    patch=plain)  # fmt: skip
    assert done.code == 0, done.err
    found = road.run_of(done)
    now = road.client.get_run(run.info.run_id)
    assert now.data.tags["dermonas.test_reads"] == "1"
    assert now.data.tags["dermonas.evaluated_by"] == known.info.run_id  # compare reads test of that one
    assert {name: road.curve(now, name) for name in now.data.metrics} == before
    assert "validation/accuracy" in found.data.metrics
    assert not any(name.startswith("test/") for name in found.data.metrics)
    flipped = table(road, found)
    assert set(flipped.frame["split"]) == {"validation"}
    assert flipped.tta
    plainly = table(road, known).split("validation")
    assert flipped.frame["image"].tolist() == plainly.frame["image"].tolist()
    assert not np.allclose(flipped.logits(), plainly.logits())

    dying = plain + "\nimport os\nevaluate.predictions_of = lambda *_: os._exit(9)"
    assert road.run("evaluate", *EVALUATE, "--run", run.info.run_id, patch=dying).code == 9
    done = road.run("evaluate", *EVALUATE, "--run", run.info.run_id, patch=plain)
    assert done.code == 0, done.err
    assert "test has now been read 3 times for this model" in done.err
    now = road.client.get_run(run.info.run_id)
    assert now.data.tags["dermonas.test_reads"] == "3"
    assert now.data.tags["dermonas.evaluated_by"] == done.out.split()[1]
    dead = [one for one in road.runs("evaluate") if one.info.status == "KILLED"]
    assert [one.data.tags["dermonas.continued_by"] for one in dead] == [done.out.split()[1]]


MAPPING = {"MEL": ["MEL"], "AKIEC": ["AK", "SCC"], "NV": ["NV"]}


@pytest.fixture
def outside(road):
    """A prepared folder of noise in three classes, one of which is two of the model's."""
    noise = np.random.default_rng(0)
    for name in MAPPING:
        (road.folder / "outside" / name).mkdir(parents=True)
        for number in range(4):
            pixels = noise.integers(0, 255, (6, 6, 3)).astype(np.uint8)
            Image.fromarray(pixels).resize((48, 48)).save(road.folder / "outside" / name / f"{name}{number}.png")
    done = road.run("prepare", "--config", str(TINY), "--source", "folder", "--root", "outside", "--dataset", "outside")
    assert done.code == 0, done.err
    return road.folder / "data" / "outside"


def test_an_external_set_is_scored_in_its_own_classes(road, outside, plain):
    run = single(road)
    external = ("--run", run.info.run_id, "--external", "data/outside")
    done = road.run("evaluate", *EVALUATE, *external, "--mapping", json.dumps(MAPPING), patch=plain)
    assert done.code == 0, done.err
    found = road.run_of(done)
    manifest = read_manifest(outside)
    told = table(road, found)
    assert set(told.frame["image"]) == set(manifest.split_frame("test")["path"])
    assert told.classes == tuple(MAPPING)
    network, record = load_model(road.artifacts(run) / "model")
    images = decoded_cache(manifest, outside, record.view.stored, "test")
    ours = scaled(predict(network, images, record.view), float(run.data.tags["dermonas.temperature"]))
    sums = np.stack([ours[:, [record.classes.index(one) for one in names]].sum(axis=1) for names in MAPPING.values()])
    np.testing.assert_allclose(told.probabilities().T, sums / sums.sum(axis=0), atol=1e-5)
    decided = np.array(list(MAPPING))[sums.argmax(axis=0)]
    accuracy = (decided == manifest.split_frame("test")["label"].to_numpy()).mean()
    now = road.client.get_run(run.info.run_id)
    for one in (found, now):
        assert one.data.metrics["external/outside/accuracy"] == pytest.approx(accuracy)
    assert now.data.tags["dermonas.test_reads"] == "1"
    assert now.data.metrics["test/accuracy"] == run.data.metrics["test/accuracy"]
    assert now.data.tags["dermonas.evaluated_by"] == run.data.tags["dermonas.evaluated_by"]
    assert [one.dataset.name for one in found.inputs.dataset_inputs] == ["outside"]

    done = road.run("evaluate", *EVALUATE, *external, patch=plain)  # AKIEC is no class of the model
    assert done.code == 1
    assert "no class of the model is mapped to the label AKIEC" in done.last


def test_what_cannot_be_evaluated_is_told_in_one_line(road, outside, plain):
    run, (search,) = single(road), road.runs("search")
    (killed,) = (one for one in road.runs("benchmark") if one.info.status == "KILLED")
    own = "of data/phantom are in the model's own data set"
    for arguments, says in (
        (("--external", "data/phantom"), own),
        (("--data", "data/outside"), "give --data the folder that it was made with"),
        (("--run", search.info.run_id), "is of stage search: name one of train or benchmark"),
        (("--run", killed.info.run_id), "is killed: the same benchmark command finishes it"),
        (("--run", "latest", "--dataset", "elsewhere"), "no finished train or benchmark run in experiment"),
        (("--run", "mine"), "is no MLflow run id"),
        (("--run", "0" * 32), "is not in sqlite:///"),
        (("--mapping", json.dumps(MAPPING)), "no external test set"),
        (("--resamples", "0"), "resamples is 0"),
    ):
        done = road.run("evaluate", *EVALUATE, "--run", run.info.run_id, *arguments, patch=plain)
        assert (done.code, done.out) == (2, ""), done.err
        assert done.last.startswith("error: ")
        assert says in done.last
        assert "Traceback" not in done.err
    assert road.client.get_run(run.info.run_id).data.tags == run.data.tags
    assert {one.info.status for one in road.runs("evaluate")} == {"FINISHED", "FAILED"}
