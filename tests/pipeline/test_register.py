"""`register`: from a trained run to the registry, with the champion compared by its own package. Synthetic phantoms."""

from __future__ import annotations

import base64
import json
import shutil

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from workplace import TINY

from dermonas.data.augmentation import AugmentSettings
from dermonas.data.cache import decoded_cache
from dermonas.data.manifest import read_manifest
from dermonas.evaluation.predict import predict
from dermonas.metrics.temperature import scaled
from dermonas.nn.specification import NetworkSpec
from dermonas.serving.digest import files_digest, verify
from dermonas.space import zoo
from dermonas.tracking import registry
from dermonas.training.record import WEIGHTS, ModelRecord, write_record

NAME, TEMPERATURE = "dermonas-phantom", 1.3
VIEW = AugmentSettings(size=16, crop="resize", horizontal_flip=0.5)


def trained(place, *, fitted, tags=None, folder="made"):
    """Put a trained and evaluated run into a place's store; return its id and its network."""
    manifest = read_manifest(place.data)
    spec = NetworkSpec(
        kind="cells", name="DARTS_V2", classes=len(manifest.classes), resolution=16,
        genotype=zoo.load("DARTS_V2").to_dict(), stem="cifar", channels=4, layers=3,
    )  # fmt: skip
    network = spec.build(seed=1).eval()
    if fitted:  # least squares of the labels on the pooled features: all validation images right
        images = decoded_cache(manifest, place.data, VIEW.stored, "validation")
        labels = manifest.label_indices(manifest.split_frame("validation"))
        features = torch.from_numpy(predict(_Pooled(network), images, VIEW)).float()
        wanted = 5 * torch.eye(len(manifest.classes))[torch.from_numpy(labels)]
        solved = torch.linalg.pinv(torch.cat([features, torch.ones(len(features), 1)], 1)) @ wanted
        with torch.no_grad():
            network.classifier.weight.copy_(solved[:-1].T)
            network.classifier.bias.copy_(solved[-1])
    record = ModelRecord(
        name="DARTS_V2", network=spec, classes=manifest.classes, view=VIEW, dataset=manifest.dataset,
        dataset_digest=manifest.digest, synthetic=True, seed=0,
    )  # fmt: skip
    model = place.folder / folder
    shutil.rmtree(model, ignore_errors=True)
    write_record(record, model)
    torch.save(network.state_dict(), model / WEIGHTS)
    client = place.client
    found = client.get_experiment_by_name("dermonas/phantom")
    where = found.experiment_id if found else client.create_experiment("dermonas/phantom", str(place.folder / "mlruns"))
    own = {
        "dermonas.stage": "train",
        "dermonas.dataset_digest": manifest.digest,
        "dermonas.temperature": str(TEMPERATURE),
    }
    run = client.create_run(where, tags={**own, **(tags or {})}).info.run_id
    client.log_artifacts(run, str(model), "model")
    client.log_param(run, "data", str(place.data))
    for key, value in (("", 0.5), ("/lo", 0.4), ("/hi", 0.6)):
        client.log_metric(run, f"test/balanced_accuracy{key}", value)
    client.set_terminated(run)
    return run, network


class _Pooled(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network.features(x)


def register(place, *arguments):
    return place.run("register", "--config", str(TINY), *arguments)


def test_the_road_of_a_champion(place, monkeypatch):
    good, network = trained(place, fitted=True)
    done = register(place, "--run", "latest", "--data", str(place.data), "--coverage", "0.8")
    assert done.code == 0, done.err
    assert done.out.startswith(f"model {NAME} version 1 champion: the first version\n")
    client = place.client
    first = registry.champion_of(client, NAME)
    assert (str(first.version), first.run_id) == ("1", good)
    assert first.tags["dermonas.synthetic"] == "True"
    assert "**Synthetic.**" in first.description
    assert "| balanced accuracy | 0.500 | 0.400 to 0.600 |" in first.description
    (run,) = place.runs("register")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["register/balanced_accuracy"] == 1.0

    _served_equals_evaluation(place, network, monkeypatch)

    poor, _ = trained(place, fitted=False)
    done = register(place, "--run", poor)
    assert done.code == 0, done.err
    assert done.out.startswith(f"model {NAME} version 2 not champion: balanced accuracy 0.")
    assert "not higher" in done.out
    assert str(registry.champion_of(client, NAME).version) == "1"
    decision = json.loads(client.get_model_version(NAME, "2").tags[registry.DECISION])
    assert decision["against"] == "1"
    assert decision["champion_balanced_accuracy"] == 1.0
    assert decision["difference"] < 0
    assert not decision["champion"]

    _tampered_or_other_data(place, good)
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 2


def _served_equals_evaluation(place, network, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place.folder}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    served = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    manifest = read_manifest(place.data)
    rows = manifest.split_frame("test")
    texts = [base64.b64encode(path.read_bytes()).decode() for path in manifest.paths(rows)]
    answers = served.predict(pd.DataFrame({"image": texts}), params={"top_k": len(manifest.classes)})
    images = decoded_cache(manifest, place.data, VIEW.stored, "test")
    wanted = scaled(predict(network, images, VIEW), TEMPERATURE)
    for row, answer in answers.iterrows():
        listed = {one["label"]: one["probability"] for one in answer["probabilities"]}
        np.testing.assert_allclose([listed[name] for name in manifest.classes], wanted[row], atol=1e-5)
    assert set(answers["version"]) == {"1"}
    assert set(answers["digest"]) == {registry.champion_of(place.client, NAME).tags[registry.FILES]}
    assert answers["notice"].str.contains("synthetic").all()
    validation = manifest.split_frame("validation")
    texts = [base64.b64encode(path.read_bytes()).decode() for path in manifest.paths(validation)]
    answered = ~served.predict(pd.DataFrame({"image": texts}))["abstain"]
    assert 0.8 <= answered.mean() < 1  # the coverage asked for


def _tampered_or_other_data(place, good):
    champion = registry.champion_of(place.client, NAME)
    other = place.folder / "other"
    done = place.run("prepare", "--config", str(TINY), "--out", str(other), "--seed", "5")
    assert done.code == 0, done.err
    done = register(place, "--run", good, "--data", str(other))
    assert done.code == 2
    assert f"{NAME} version 1, the champion, was registered with validation split" in done.last
    assert "register the champion again on this data" in done.last
    assert "may have seen some of these validation images" in done.err

    folder = registry.fetch(champion, place.folder / "copy")
    verify(folder, champion.tags[registry.FILES])
    (stored,) = (path for path in (place.folder / "mlruns").rglob("model.json") if _version_of(path) == champion.source)
    stored.write_text(stored.read_text().replace("1.3", "1.2"))
    done = register(place, "--run", good)
    assert done.code == 1
    assert "is not what was registered" in done.last
    (failed,) = [run for run in place.runs("register") if "is not what" in run.data.tags.get("dermonas.error", "")]
    assert failed.info.status == "FAILED"
    assert files_digest(folder) == champion.tags[registry.FILES]


def _version_of(path):
    return f"models:/{next(part for part in path.parts if part.startswith('m-'))}"


@pytest.mark.parametrize(
    ("tags", "arguments", "code", "message"),
    [
        ({"dermonas.stage": "search"}, [], 2, "is of stage search: give one of train or benchmark"),
        ({}, ["--name", "a/b"], 2, "no name of a registered model"),
        ({}, ["--force", "true"], 2, "say why with --reason"),
        ({}, ["--reason", "because"], 2, "without --force true"),
        ({}, ["--coverage", "0"], 2, "coverage 0"),
    ],
)
def test_what_cannot_be_registered_is_told_in_one_line(place, tags, arguments, code, message):
    run, _ = trained(place, fitted=False, tags=tags)
    done = register(place, "--run", run, *arguments)
    assert done.code == code, done.err
    assert message in done.last
    assert not place.client.search_registered_models()


def test_a_run_that_was_not_evaluated_or_of_other_data_is_not_registered(place):
    run, _ = trained(place, fitted=False)
    place.client.delete_tag(run, "dermonas.temperature")
    done = register(place, "--run", run)
    assert done.code == 2
    assert f"was not evaluated: run evaluate with --run {run} first" in done.last
    done = register(place, "--run", "latest", "--data", str(place.data))
    assert done.code == 2
    assert "no evaluated train or benchmark run of the data" in done.last
    record = json.loads((place.folder / "made" / "record.json").read_text())
    (place.folder / "made" / "record.json").write_text(json.dumps({**record, "dataset_digest": "1" * 64}))
    place.client.log_artifact(run, str(place.folder / "made" / "record.json"), "model")
    place.client.set_tag(run, "dermonas.temperature", "1.0")
    done = register(place, "--run", run)
    assert done.code == 2
    assert "prepare was run again since; give --data" in done.last
