"""Finding the controller that a search is told to use: by run, by file, pretrained on first use, from scratch."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from workplace import TINY

from dermonas.controller.model import Controller
from dermonas.controller.storage import weights_digest
from dermonas.errors import ConfigError, StorageError
from dermonas.space.darts import DartsSpace
from dermonas.space.nasbench201 import NasBench201Space
from pipelines import controller_pretrain
from pipelines.controller_pretrain_config import ControllerPretrainConfig
from pipelines.controllers import controller_of, identity_of
from pipelines.recipe import read_recipe


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def recipe():
    return read_recipe(TINY)


@pytest.fixture
def here(place, monkeypatch):
    """A place that this process works in."""
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place.folder}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # as `command` does
    monkeypatch.setattr(controller_pretrain, "write_figure", lambda *_: None)
    return place


def test_a_controller_is_found_by_run_by_file_and_by_being_the_recipes(here, recipe, capsys):
    space = DartsSpace(4, "pairs")
    assert identity_of("", space, recipe) is None
    first = controller_of("", space, recipe)
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "no controller given: pretraining one first (MarginLoss on darts4, 12 iterations)"
    (run,) = here.runs("controller")
    assert run.data.params["domain"] == "darts4"
    assert (first.run_id, first.metric, first.source) == (run.info.run_id, "MarginLoss", f"run {run.info.run_id}")
    assert first.identity == run.data.tags["dermonas.weights"] == weights_digest(first.controller)
    assert not first.controller.training
    assert {value.device.type for value in first.controller.parameters()} == {"cpu"}

    again = controller_of("", space, recipe)
    assert capsys.readouterr().err == f"no controller given: using that of run {run.info.run_id}\n"
    named = controller_of(run.info.run_id, DartsSpace(4), recipe)
    shutil.copy(here.artifacts(run) / "controller.pt", "mine.pt")
    file = controller_of("mine.pt", space, recipe)
    assert capsys.readouterr().err == ""
    assert (file.run_id, file.metric, file.source) == ("", "MarginLoss", "mine.pt")
    assert again[1:] == named[1:] == first[1:]
    for found in (again, named, file):
        assert found.identity == first.identity
        assert equal(found.controller.state_dict(), first.controller.state_dict())
    assert {identity_of(one, space, recipe) for one in ("", run.info.run_id, "mine.pt")} == {first.identity}
    assert len(here.runs("controller")) == 1

    (here.artifacts(run) / "controller.pt").unlink()
    with pytest.raises(StorageError, match=f"{run.info.run_id} has no artifact controller.pt"):
        controller_of(run.info.run_id, space, recipe)
    assert identity_of("", space, recipe) is None
    assert controller_of("", space, recipe).identity == first.identity
    assert len(here.runs("controller")) == 2


def test_a_recipe_for_our_space_is_told_when_a_table_is_searched(recipe, monkeypatch, caplog):
    class Pretrains(Exception):
        pass

    def run(*_, **__):
        raise Pretrains

    monkeypatch.setattr(controller_pretrain, "run", run)
    monkeypatch.setattr(controller_pretrain, "finished_run", lambda config: None)
    section = {"domain": "darts5", "batch_size": 64}
    ours = dataclasses.replace(recipe, stages={"controller-pretrain": section})
    told = {DartsSpace(4): "", NasBench201Space(): "is for darts5, and nasbench201 takes batch_size from it"}
    for space, says in told.items():
        caplog.clear()
        with pytest.raises(Pretrains):
            controller_of("", space, ours)
        assert len(caplog.messages) == bool(says)
        assert says in "".join(caplog.messages)
    caplog.clear()
    controller_of("scratch", NasBench201Space(), ours)
    assert caplog.messages == []


def test_a_controller_from_scratch_is_keyed_by_seed_and_width(recipe):
    found = controller_of("scratch", NasBench201Space(), recipe)
    assert (found.identity, found.metric, found.run_id) == ("scratch-s0-h8-m8", "none", "")
    assert equal(found.controller.state_dict(), Controller(found.controller.settings, 0).state_dict())
    assert identity_of("scratch", DartsSpace(5), recipe) == "scratch-s0-h8-m8"
    plain = dataclasses.replace(recipe, stages={"controller-pretrain": {"seed": 3}})
    other = controller_of("scratch", NasBench201Space(), plain)
    assert other.identity == "scratch-s3-h16"
    assert identity_of("scratch", DartsSpace(5), plain) == "scratch-s3-h32"


def test_a_wrong_reference_says_what_is_wrong_in_one_line(here, recipe):
    space = DartsSpace(4)
    config = ControllerPretrainConfig(**{**recipe.stages["controller-pretrain"], "domain": "nasbench201"})
    theirs, file = controller_pretrain.run(config, recipe)
    client, experiment = here.client, here.runs("controller")[0].info.experiment_id

    def made(status, **tags):
        run_id = client.create_run(experiment, tags=tags).info.run_id
        client.log_param(run_id, "domain", "darts4")
        client.set_terminated(run_id, status)
        return run_id

    ours = {"dermonas.stage": "controller", "dermonas.controller": "pretrain"}
    damaged = made("FINISHED", **ours)
    Path("controller.pt").write_bytes(file.read_bytes()[:200])
    client.log_artifact(damaged, "controller.pt")
    torch.save({"weights": {}}, "other.pt")
    faults = {
        "nowhere.pt": (ConfigError, "'nowhere.pt' is not possible; give the run id"),
        "f" * 32: (ConfigError, f"run {'f' * 32} is not in"),
        theirs: (ConfigError, f"run {theirs} was pretrained on nasbench201, not on darts4"),
        str(file): (ConfigError, f"{file} was trained on nasbench201, not on darts4-first2"),
        (one := made("FAILED", **ours)): (ConfigError, f"run {one} is failed: the same controller-pretrain command"),
        (one := made("FINISHED", **{"dermonas.stage": "train"})): (ConfigError, f"run {one} is of stage train"),
        (one := made("FINISHED", **ours)): (StorageError, f"run {one} has no artifact controller.pt"),
        damaged: (StorageError, f"run {damaged}: controller.pt is damaged"),
        "controller.pt": (StorageError, "controller.pt is damaged"),
        "other.pt": (StorageError, "other.pt is no controller"),
    }
    for reference, (kind, says) in faults.items():
        for look in (controller_of, identity_of):
            with pytest.raises(kind) as caught:
                look(reference, space, recipe)
            assert says in str(caught.value)
            assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="no controller speaks of darts4-all"):
        controller_of("", DartsSpace(4, "all"), recipe)
