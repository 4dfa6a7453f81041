"""A robustness study that is killed goes on with the same command, and comes to what an uninterrupted one does."""

from __future__ import annotations

import json

import pytest
from workplace import TINY

pytestmark = pytest.mark.fault

# Pictures take longer than all the rest.
PLAIN = """
import dermonas.search.report as report
report.draw = lambda *_: []
report.write_history = lambda events, path, chance: path.touch()
report.write_importance = lambda *_: False
import pipelines.evaluate as evaluate
evaluate.write_figures = lambda *_: None
import dermonas.audit.robustness_report as study
study.write_figure = lambda *_: []
"""
# kill -9 while the second arm's first search has scored one of its two candidates.
DIES = (
    PLAIN
    + """
import os, signal
from dermonas.objective.contrastive import ContrastiveObjective
score = ContrastiveObjective.score
def die(self, genotype, observer, number=0):
    if number == 1: os.kill(os.getpid(), signal.SIGKILL)
    return score(self, genotype, observer, number)
ContrastiveObjective.score = die
"""
)


def small(place):
    return ["--config", str(TINY), "--search.data", str(place.data), "--search.channels", "2", "--search.width", "8"]


def content(place, done):
    run = place.run_of(done)
    return run, json.loads((place.artifacts(run) / "robustness.json").read_text())


def facts(outcomes):
    """What must not depend on a kill: all but run ids and seconds."""
    left = ("search_run", "train_run", "evaluate_run", "device_seconds", "cpu_seconds")
    return [{key: value for key, value in one.items() if key not in left} for one in outcomes]


def test_a_killed_study_reuses_what_was_finished_and_ends_as_if_nothing_had_happened(make_place):
    whole = make_place("whole")
    done = whole.run("robustness", *small(whole), patch=PLAIN)
    assert done.code == 0, done.err
    _, expected = content(whole, done)

    place = make_place("killed")
    assert place.run("robustness", *small(place), patch=DIES).code == -9
    finished = {run.info.run_id for run in place.runs("search") if run.info.status == "FINISHED"}
    trained = {run.info.run_id for run in place.runs("train")}
    assert (len(finished), len(trained), len(place.runs("search"))) == (2, 2, 3)
    done = place.run("robustness", *small(place), patch=PLAIN)
    assert done.code == 0, done.err
    parent, found = content(place, done)
    assert facts(found["outcomes"]) == facts(expected["outcomes"])

    # Equal cost of the samplers in each arm: trials x images x epochs.
    outcomes = found["outcomes"]
    assert [(one["arm"], one["sampler"]) for one in outcomes] == [
        ("SL-100", "random"), ("SL-100", "tpe"), ("CSSL-10", "random"), ("CSSL-10", "tpe"),
    ]  # fmt: skip
    for one in outcomes:
        assert one["image_epochs"] == one["distinct"] * one["images"] * one["epochs"] > 0
        assert one["distinct"] == 2
        assert one["cpu_seconds"] > 0
    assert len({one["image_epochs"] for one in outcomes[:2]}) == len({one["image_epochs"] for one in outcomes[2:]}) == 1

    # One parent over all that counts; what was finished before the kill was not made again.
    killed, _ = place.runs("robustness")
    assert (killed.info.status, killed.data.tags["dermonas.continued_by"]) == ("KILLED", parent.info.run_id)
    used = {one[key] for one in outcomes for key in ("search_run", "train_run", "evaluate_run")}
    assert finished | trained <= used
    for run_id in used:
        run = place.client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert len(place.runs("trial")) == 8
    reads = {run.data.tags["dermonas.test_reads"] for run in place.runs("train")}
    assert reads == {"1"}

    before = len(place.runs("search"))
    again = place.run("robustness", *small(place), patch=PLAIN)
    assert (again.code, again.out) == (0, done.out), again.err
    assert (len(place.runs("robustness")), len(place.runs("search"))) == (2, before)

    # None of it is what `latest` means: not the newest search, above all not one by labels.
    latest = place.run("train", "--config", str(TINY), "--data", str(place.data), "--genotype", "latest")
    assert latest.code == 2
    assert "no finished search run" in latest.last
    latest = place.run("register", "--config", str(TINY), "--data", str(place.data), "--run", "latest")
    assert latest.code == 2
    assert "no evaluated train or benchmark run" in latest.last
