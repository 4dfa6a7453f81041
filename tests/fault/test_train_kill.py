"""A training that is killed, interrupted or doubled ends as if nothing had happened. Synthetic phantoms."""

from __future__ import annotations

import signal
import time

import pytest
import torch
from workplace import PATIENCE, TINY

pytestmark = pytest.mark.fault

EPOCHS = 4


def small(place, *arguments):
    return [
        *("--config", str(TINY), "--data", str(place.data), "--genotype", "DARTS_V2", "--epochs", str(EPOCHS)),
        *("--size", "16", "--channels", "2", "--threads", "1", "--drop_path", "0.2", "--ema_decay", "0.5", *arguments),
    ]


def best(place, run):
    return torch.load(place.artifacts(run) / "model" / "best.pt", weights_only=True)


def curves(place, run):
    return {name: place.curve(run, name) for name in ("train/loss", "validation/loss", "drop_path", "learning_rate")}


@pytest.fixture(scope="module")
def uninterrupted():
    """Return a function that remembers what an uninterrupted training came to: weights, curves, best epoch."""
    known = []

    def get(make_place):
        if not known:
            place = make_place("uninterrupted")
            done = place.run("train", *small(place))
            assert done.code == 0, done.err
            run = place.run_of(done)
            known.append((best(place, run), curves(place, run), run.data.metrics["best/epoch"]))
        return known[0]

    return get


def check_complete(place, done, expected, starts):
    """Check one finished run like the uninterrupted one, and the others killed and led on from."""
    assert done.code == 0, done.err
    run = place.run_of(done)
    weights, drawn, epoch = expected
    found = best(place, run)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[key], weights[key]) for key in weights)
    assert curves(place, run) == drawn
    assert [step for step, _ in drawn["train/loss"]] == list(range(EPOCHS))
    assert run.data.metrics["best/epoch"] == epoch
    assert run.info.status == "FINISHED"
    runs = place.runs("train")
    assert len(runs) == starts
    for earlier in runs:
        if earlier.info.run_id != run.info.run_id:
            assert earlier.info.status == "KILLED"


def stop_after_an_epoch(place, process, skipped=()):
    """Stop a process (SIGSTOP) once its newest run shows an epoch and before it has shown them all."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        live = [run for run in place.runs("train") if run.info.status == "RUNNING" and run.info.run_id not in skipped]
        shown = [run for run in live if run.data.metrics.get("train/loss")]
        if shown:
            process.send(signal.SIGSTOP)
            if 0 < len(place.curve(shown[-1], "train/loss")) < EPOCHS:
                return shown[-1]
            process.send(signal.SIGCONT)
        time.sleep(0.005)
    pytest.fail(f"no epoch was ever shown: {process.err.read_text()}")


def test_two_kills_in_the_middle_change_nothing(make_place, uninterrupted):
    place = make_place()
    first = place.start("train", *small(place))
    one = stop_after_an_epoch(place, first)
    first.send(signal.SIGKILL)
    assert first.wait().code == -signal.SIGKILL
    assert [run.info.status for run in place.runs("train")] == ["RUNNING"]
    second = place.start("train", *small(place))
    two = stop_after_an_epoch(place, second, {one.info.run_id})
    second.send(signal.SIGKILL)
    assert second.wait().code == -signal.SIGKILL
    done = place.run("train", *small(place))
    check_complete(place, done, uninterrupted(make_place), starts=3)
    continued = [place.client.get_run(run.info.run_id).data.tags["dermonas.continued_by"] for run in (one, two)]
    assert continued == [two.info.run_id, done.out.split()[1]]


DEATHS = {
    "in the middle of an epoch": """
from dermonas.data.augmentation import Augment
view = Augment.__call__
def die(self, image, epoch, index):
    if (epoch, index % 7) == (1, 3): os._exit(9)
    return view(self, image, epoch, index)
Augment.__call__ = die
""",
    "between an epoch's figures and its weights": """
import dermonas.training.checkpoints as checkpoints
real = checkpoints.atomically
def die(path, write):
    if len(told) == 2: os._exit(9)
    real(path, write)
checkpoints.atomically = die
""",
    "between the best weights and the last ones": """
import dermonas.training.checkpoints as checkpoints
real = checkpoints.atomically
def die(path, write):
    if path.name == "last.ckpt" and len(told) == 2: os._exit(9)
    real(path, write)
checkpoints.atomically = die
""",
    "while MLflow gets the model": """
from dermonas.tracking.runs import Run
keep = Run.artifact
def die(self, path, folder=""):
    if path.name == "best.pt": os._exit(9)
    keep(self, path, folder)
Run.artifact = die
""",
    "before the run ends": """
from dermonas.tracking.runs import Run
Run.end = lambda *_: os._exit(9)
""",
}
TOLD = """
import os
from dermonas.tracking.training import TrainTracker
told = []
epoch = TrainTracker.epoch
def tell(self, number, at, metrics):
    told.append(at)
    epoch(self, number, at, metrics)
TrainTracker.epoch = tell
"""


@pytest.mark.parametrize("death", DEATHS)
def test_a_training_that_died_goes_on_as_if_it_had_not(death, make_place, uninterrupted):
    place = make_place()
    assert place.run("train", *small(place), patch=TOLD + DEATHS[death]).code == 9
    done = place.run("train", *small(place))
    check_complete(place, done, uninterrupted(make_place), starts=2)
    (dead, _) = place.runs("train")
    assert dead.data.tags["dermonas.continued_by"] == done.out.split()[1]


BLOCK = (
    TOLD
    + """
import pathlib, time
def tell(self, number, at, metrics):
    epoch(self, number, at, metrics)
    if at == 1:
        pathlib.Path("reached").touch()
        while not pathlib.Path("go").exists(): time.sleep(.005)
TrainTracker.epoch = tell
"""
)


def wait_for(path, process):
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end, process.err.read_text()
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_run_and_the_same_command_goes_on(number, make_place, uninterrupted):
    place = make_place()
    process = place.start("train", *small(place), patch=BLOCK)
    wait_for(place.folder / "reached", process)
    process.send(number)
    done = process.wait()
    assert done.code == 130, done.err
    assert done.out == ""
    assert done.last == "interrupted: nothing finished is lost; the same command goes on"
    assert "Traceback" not in done.err
    (run,) = place.runs("train")
    assert run.info.status == "KILLED"
    assert run.data.tags["dermonas.error"].startswith("interrupted")
    check_complete(place, place.run("train", *small(place)), uninterrupted(make_place), starts=2)


def test_a_second_process_that_trains_the_same_stops_at_once(make_place, uninterrupted):
    place = make_place()
    first = place.start("train", *small(place), patch=BLOCK)
    wait_for(place.folder / "reached", first)
    second = place.run("train", *small(place))
    assert (second.code, second.out) == (2, ""), second.err
    assert second.last.startswith("error: another process trains the same into outputs/training")
    other = place.run("train", *small(place, "--epochs", "1"))
    assert other.code == 0, other.err
    (place.folder / "go").touch()
    done = first.wait()
    place.client.delete_run(place.run_of(other).info.run_id)
    check_complete(place, done, uninterrupted(make_place), starts=1)


SEEDS = ("--epochs", "2", "--runs", "2")


def test_a_seed_that_was_done_is_not_trained_again(make_place):
    place = make_place()
    dying = TOLD.replace("told.append(at)", "told.append(at)\n    if len(told) == 4: os._exit(9)")
    assert place.run("train", *small(place, *SEEDS), patch=dying).code == 9
    old = {run.info.run_name: run for run in place.runs("train")}
    assert {name: run.info.status for name, run in old.items()} == {
        "DARTS_V2": "RUNNING", "DARTS_V2-s0": "FINISHED", "DARTS_V2-s1": "RUNNING",
    }  # fmt: skip
    done = place.run("train", *small(place, *SEEDS))
    assert done.code == 0, done.err
    assert "DARTS_V2-s0" not in done.err
    parent = place.run_of(done)
    runs = {run.info.run_id: run for run in place.runs("train")}
    children = [run for run in runs.values() if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.data.tags["dermonas.seed"]: run.info.status for run in children} == {"0": "FINISHED", "1": "FINISHED"}
    assert old["DARTS_V2-s0"].info.run_id in {run.info.run_id for run in children}
    for name, successor in (("DARTS_V2", parent.info.run_id), ("DARTS_V2-s1", children[-1].info.run_id)):
        dead = runs[old[name].info.run_id]
        assert (dead.info.status, dead.data.tags["dermonas.continued_by"]) == ("KILLED", successor)
    assert [step for step, _ in place.curve(children[-1], "train/loss")] == [0, 1]
    again = place.run("train", *small(place, *SEEDS))
    assert (again.code, again.out) == (0, done.out)
