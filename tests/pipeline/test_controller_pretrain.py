"""`controller-pretrain` from cells to a tracked controller, after a kill, once more."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from workplace import PATIENCE, TINY

from dermonas.controller.anchors import anchors_of
from dermonas.controller.model import ControllerSettings
from dermonas.controller.pretrain import CHECKPOINT, pretrain
from dermonas.controller.storage import load_controller, weights_digest
from pipelines.controller_pretrain_config import ControllerPretrainConfig, settings_of
from pipelines.recipe import read_recipe

ITERATIONS = 12
REPORTED = ["reconstruction", "metric", "token_accuracy", "masked_accuracy", "learning_rate", "unedited"]
FIGURES = {"pretraining.png", "pretraining.svg"}
FILES = {"controller.pt", "history.json", "config.yaml", "deviations.json", *FIGURES}

# Figures take longer than all the rest.
NO_DRAWING = """
import pipelines.controller_pretrain as entry
entry.write_figure = lambda *_: None
"""

# Stops having told of iteration 10 and kept 8.
STOPS = f"""{NO_DRAWING}
import os, signal
from dermonas.tracking.runs import Run
log = Run.metrics
def stops(self, values, step=0):
    log(self, values, step)
    if step == 10:
        os.kill(os.getpid(), signal.SIGNAL)
Run.metrics = stops
"""

# Becomes a process that needs a controller, in place of the entry point's own work.
FIRST_USE = f"""{NO_DRAWING}
from pathlib import Path
from dermonas.space.darts import DartsSpace
from pipelines.controllers import controller_of
from pipelines.recipe import read_recipe
def main(argv):
    found = controller_of("", DartsSpace(4), read_recipe(Path({str(TINY)!r})))
    print(found.run_id, found.identity)
entry.main = main
"""


def small(*arguments, domain="darts4"):
    return ["--config", str(TINY), "--domain", domain, *arguments]


def stopping(signal_name):
    return STOPS.replace("SIGNAL", signal_name)


def done_in(place, *arguments, patch=NO_DRAWING, environment=None, domain="darts4"):
    """Pretrain to the end; return the process and its run."""
    done = place.run("controller_pretrain", *small(*arguments, domain=domain), patch=patch, environment=environment)
    assert done.code == 0, done.err
    words = done.out.split()
    assert words[::2] == ["run", "controller"], done.out
    return done, place.client.get_run(words[1])


def weights(place, run):
    return load_controller(place.artifacts(run) / "controller.pt").controller.state_dict()


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def history(place, run):
    return json.loads((place.artifacts(run) / "history.json").read_text())


@pytest.mark.parametrize(("domain", "metric"), [("darts4", "MarginLoss"), ("nasbench101", "NoMetricLoss")])
def test_a_pretraining_is_tracked_whole(place, domain, metric):
    drawn = domain == "darts4"
    done, run = done_in(place, "--metric", metric, patch="" if drawn else NO_DRAWING, domain=domain)
    assert (run.info.status, run.info.run_name) == ("FINISHED", f"pretrain-{domain}-{metric}-s0")
    assert place.client.get_experiment(run.info.experiment_id).name == f"dermonas/controller/{domain}"
    tags, params = run.data.tags, run.data.params
    assert (tags["dermonas.stage"], tags["dermonas.controller"], tags["dermonas.metric"]) == (
        "controller", "pretrain", metric,
    )  # fmt: skip
    assert {"domain": domain, "metric": metric, "seed": "0", "iterations": "12", "batch_size": "32",
            "hidden": "8", "recipe": "tiny", "device": "cpu"}.items() <= params.items()  # fmt: skip
    assert ("anchors" in params, "vertices" in params) == (domain == "darts4", domain == "nasbench101")
    assert float(params["weight"]) == (metric == "MarginLoss")  # the metric's own, where the recipe is silent

    folder = place.artifacts(run)
    assert {path.name for path in folder.iterdir()} == (FILES if drawn else FILES - FIGURES)
    assert yaml.safe_load((folder / "config.yaml").read_text())["milestones"] == [8]
    found = json.loads((folder / "deviations.json").read_text())
    assert found["iterations"] == {"paper": 13238, "here": 12}
    assert found["fallback"] == {"paper": "paper", "here": "redraw"}
    assert ("domain" in found, "vertices" in found) == (domain == "darts4", domain == "nasbench101")

    # As the library does it.
    config = ControllerPretrainConfig(**{**read_recipe(TINY).stages["controller-pretrain"], "domain": domain,
                                         "metric": metric})  # fmt: skip
    language, anchors = anchors_of(domain, 0, 400, 4)
    sizes = ControllerSettings(language.vocabulary, language.length, hidden=8, mlp_hidden=8)
    expected = pretrain(language, anchors, settings_of(config), sizes)
    stored = load_controller(folder / "controller.pt", language)
    assert equal(stored.controller.state_dict(), expected.controller.state_dict())
    assert history(place, run) == expected.history
    last = {key: value for key, value in expected.history[-1].items() if key != "iterations"}
    assert stored.info == {"metric": metric, "seed": 0, "domain": domain, "iterations": 12, **last}
    check_curves(place, run)
    assert run.data.metrics["pretrain/anchors"] == len(anchors)
    assert run.data.metrics["pretrain/seconds"] > 0
    assert done.out.split()[3] == tags["dermonas.weights"] == weights_digest(expected.controller)
    assert done.err.count("\n") == ITERATIONS // 2
    assert "[12/12]" in done.last


def check_curves(place, run):
    """Every report once, by iteration."""
    reports = history(place, run)
    assert [report["iterations"] for report in reports] == list(range(2, ITERATIONS + 1, 2))
    for key in REPORTED:
        curve = place.curve(run, f"pretrain/{key}")
        assert curve == [(report["iterations"], report[f"pretrain/{key}"]) for report in reports]


def test_an_equal_pretraining_is_reused_and_a_fresh_one_is_equal(place):
    done, run = done_in(place)
    (folder,) = (place.folder / "outputs" / "controllers").glob("darts4-MarginLoss-s0-*")
    shutil.rmtree(folder)  # as on another machine with the same store
    started = place.client.create_run(run.info.experiment_id)
    again, _ = done_in(place, "--log_every", "4", "--threads", "2", environment={"MLFLOW_RUN_ID": started.info.run_id})
    assert again.out == done.out
    assert again.err.count("\n") == 1
    assert "was pretrained on the same inputs" in again.err
    (launcher,) = place.runs("launcher")
    assert (launcher.info.run_id, launcher.data.tags["dermonas.run_id"]) == (started.info.run_id, run.info.run_id)
    assert [one.info.run_id for one in place.runs("controller")] == [run.info.run_id]
    assert equal(load_controller(folder / "controller.pt").controller.state_dict(), weights(place, run))

    # The metric's own values, written out, are the same pretraining.
    assert done_in(place, "--weight", "1.0", "--learning_rate", "1")[0].out == done.out
    fresh = done_in(place, "--fresh", "true")[1]
    assert fresh.info.run_id != run.info.run_id
    assert equal(weights(place, fresh), weights(place, run))
    assert not equal(weights(place, done_in(place, "--seed", "1")[1]), weights(place, run))

    for one in (run, fresh):
        (place.artifacts(one) / "controller.pt").write_bytes(b"damaged")
    mended, third = done_in(place)
    assert "controller.pt is damaged" in mended.err
    assert third.info.run_id not in (run.info.run_id, fresh.info.run_id)
    assert mended.out.split()[3] == done.out.split()[3]


@pytest.mark.fault
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_a_stopped_pretraining_goes_on_and_ends_as_if_it_had_not_been(place, make_place, how):
    stopped = place.run("controller_pretrain", *small(), patch=stopping(how))
    assert stopped.code == (-signal.SIGKILL if how == "SIGKILL" else 130)
    (dead,) = place.runs("controller")
    assert dead.info.status == ("RUNNING" if how == "SIGKILL" else "KILLED")
    assert [step for step, _ in place.curve(dead, "pretrain/metric")] == [2, 4, 6, 8, 10]

    done, run = done_in(place)
    assert "8 of 12 iterations are done" in done.err
    dead = place.client.get_run(dead.info.run_id)
    assert dead.info.status == "KILLED"
    if how == "SIGKILL":
        assert dead.data.tags["dermonas.continued_by"] == run.info.run_id
    whole = make_place("whole")
    expected = done_in(whole)[1]
    assert equal(weights(place, run), weights(whole, expected))
    assert history(place, run) == history(whole, expected)
    check_curves(place, run)
    assert run.data.metrics["pretrain/resumed_at"] == 8


@pytest.mark.fault
def test_two_processes_do_not_write_one_folder(place):
    first = place.start("controller_pretrain", *small(), patch=stopping("SIGSTOP"))
    wait_until_stopped(first)
    second = place.run("controller_pretrain", *small(), patch=NO_DRAWING)
    assert second.code == 2, second.err
    assert second.err == "error: another process pretrains the same into outputs/controllers: wait for it\n"
    first.send(signal.SIGCONT)
    assert first.wait().code == 0
    (run,) = place.runs("controller")
    assert run.info.status == "FINISHED"
    check_curves(place, run)


def wait_until_stopped(process):
    end = time.monotonic() + PATIENCE
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < end, process.err.read_text()
        time.sleep(0.005)


@pytest.mark.fault
def test_who_pretrains_on_first_use_waits_for_another_that_does(place):
    first = place.start("controller_pretrain", *small(), patch=stopping("SIGSTOP"))
    wait_until_stopped(first)
    second = place.start("controller_pretrain", patch=FIRST_USE)
    end = time.monotonic() + PATIENCE
    while not second.err.exists() or "waiting for it" not in second.err.read_text():
        assert time.monotonic() < end
        time.sleep(0.005)
    first.send(signal.SIGCONT)
    done = first.wait()
    assert done.code == 0, done.err
    found = second.wait()
    assert found.code == 0, found.err
    (run,) = place.runs("controller")
    assert found.out.split() == [run.info.run_id, run.data.tags["dermonas.weights"]]


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--metric", "Margin"], "metric: 'Margin' is unknown"), (["--device", "cuda"], "use auto")]
)
def test_a_refused_command_leaves_nothing(arguments, says, place):
    absent = "import torch; torch.cuda.is_available = lambda: False"
    done = place.run("controller_pretrain", *small(*arguments), patch=absent)
    assert (done.code, done.out) == (2, ""), done.err
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: ")
    assert says in done.err
    assert place.runs("controller") == []
    assert not (place.folder / "outputs").exists()


def test_too_few_graphs_for_a_batch_fail_the_run(place):
    done = place.run("controller_pretrain", *small("--vertices", "2", domain="nasbench101"))
    assert done.code == 2, done.err
    assert done.last.startswith("error: 1 anchors are too few for a batch of 4")
    (run,) = place.runs("controller")
    assert run.info.status == "FAILED"
    assert run.data.tags["dermonas.error"] == done.last.removeprefix("error: ")


@pytest.mark.fault
def test_a_damaged_checkpoint_says_what_to_do(place):
    place.run("controller_pretrain", *small(), patch=stopping("SIGKILL"))
    (file,) = (place.folder / "outputs").rglob(CHECKPOINT)
    file.write_bytes(file.read_bytes()[:100])
    done = place.run("controller_pretrain", *small())
    assert done.code == 1
    assert f"{file.relative_to(place.folder)} is damaged" in done.last
    assert "delete it to pretrain anew" in done.last
    file.unlink()
    done_in(place)
