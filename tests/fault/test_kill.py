"""A search that is killed, interrupted or doubled ends as if nothing had happened."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.fault

EPOCHS = ("--epochs", "6")


def wait_for(path: Path, process) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, process.err.read_text()
        time.sleep(0.005)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return a function that remembers what an uninterrupted search in another folder came to."""
    known: dict[str, object] = {}

    def get(key, make_place, *arguments, patch):
        if key not in known:
            place = make_place("uninterrupted")
            done = place.search(*arguments, patch=patch)
            assert done.code == 0, done.err
            known[key] = (place.trials(), done.out.split()[3])
        return known[key]

    return get


def test_two_kills_in_the_middle_of_trials_change_nothing(make_place, uninterrupted, plain, check_complete):
    trials, digest = uninterrupted("real", make_place, *EPOCHS, patch=plain)
    place = make_place()
    for number in (0, 1):
        process = place.start("search", *place.small(*EPOCHS), patch=plain)
        place.stop_mid_trial(process, number)
        process.send(signal.SIGKILL)
        assert process.wait().code == -signal.SIGKILL
        assert [trial["state"] for trial in place.trials()] == ["COMPLETE"] * number + ["RUNNING"]
    done = place.search(*EPOCHS, patch=plain)
    assert done.code == 0, done.err
    assert place.trials() == trials
    assert len(trials) == 3
    assert done.out.split()[3] == digest
    check_complete(place, done.run_id, starts=3)
    attempts = [trial.user_attrs.get("attempts", {}) for trial in place.study().get_trials()]
    assert [len(tried) for tried in attempts] == [1, 1, 0]
    for trial, tried in zip(trials[:2], attempts, strict=False):
        assert tried["0"]
        assert tried["0"] == trial["epochs"][: len(tried["0"])]


DEATHS = {
    "before the theta is stored": """
import dermonas.search.claims as loop
proposal = loop.proposal
def die(trial):
    if trial.number == 1: os._exit(9)
    return proposal(trial)
loop.proposal = die
""",
    "in the middle of a trial": """
def at(number, epoch):
    if (number, epoch) == (1, 1): os._exit(9)
""",
    "before the result is told": """
import optuna
tell = optuna.Study.tell
def die(self, trial, *values, **more):
    if trial.number == 1: os._exit(9)
    return tell(self, trial, *values, **more)
optuna.Study.tell = die
""",
    "before MLflow hears of the result": """
from dermonas.search.loop import Search
ended = Search._ended
def die(self, event):
    if event.number == 1: os._exit(9)
    ended(self, event)
Search._ended = die
""",
    "half-way through what MLflow hears": """
from dermonas.tracking.search import SearchTracker
from dermonas.tracking.runs import Run
finish = SearchTracker._finish_child
def die(self, event):
    if event.number == 1: Run.params = lambda *_: os._exit(9)
    finish(self, event)
SearchTracker._finish_child = die
""",
    "in the report": """
search.write_report = lambda *_: os._exit(9)
""",
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_search_that_died_goes_on_as_if_it_had_not(death, make_place, uninterrupted, fake, check_complete):
    trials, digest = uninterrupted("fake", make_place, patch=fake)
    place = make_place()
    assert place.search(patch=fake + DEATHS[death]).code == 9
    done = place.search(patch=fake)
    assert done.code == 0, done.err
    assert place.trials() == trials
    assert done.out.split()[3] == digest
    check_complete(place, done.run_id, starts=2)


LOST = """
import optuna
tell = optuna.Study.tell
def die(self, trial, *values, **more):
    if more.get("state") == optuna.trial.TrialState.PRUNED: os._exit(9)
    return tell(self, trial, *values, **more)
optuna.Study.tell = die
"""


def test_a_trial_whose_pruning_was_lost_is_pruned_again(make_place, uninterrupted, fake):
    halving = ("--pruner", "halving", "--epochs", "4", "--reduction_factor", "2")
    trials, digest = uninterrupted("halving", make_place, *halving, patch=fake)
    assert "PRUNED" in {trial["state"] for trial in trials}
    place = make_place()
    assert place.search(*halving, patch=fake + LOST).code == 9
    done = place.search(*halving, patch=fake)
    assert done.code == 0, done.err
    assert place.trials() == trials
    assert done.out.split()[3] == digest


def test_a_restart_that_died_while_taking_over_is_taken_over(make_place, uninterrupted, fake, check_complete):
    trials, _ = uninterrupted("fake", make_place, patch=fake)
    place = make_place()
    assert place.search(patch=fake + DEATHS["before MLflow hears of the result"]).code == 9
    dying = """
from dermonas.tracking.runs import Run
tags = Run.tags
def die(self, values):
    tags(self, values)
    if "mlflow.parentRunId" in values: os._exit(9)
Run.tags = die
"""
    assert place.search(patch=fake + dying).code == 9
    done = place.search(patch=fake)
    assert done.code == 0, done.err
    assert place.trials() == trials
    check_complete(place, done.run_id, starts=3)


BLOCK = """
def at(number, epoch):
    if (number, epoch) == (1, 1):
        pathlib.Path("reached").touch()
        while not pathlib.Path("go").exists():
            time.sleep(.005)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_run_and_the_same_command_goes_on(
    number, make_place, uninterrupted, fake, check_complete
):
    trials, _ = uninterrupted("fake", make_place, patch=fake)
    place = make_place()
    process = place.start("search", *place.small(), patch=fake + BLOCK)
    wait_for(place.folder / "reached", process)
    process.send(number)
    done = process.wait()
    assert done.code == 130
    assert done.out == ""
    assert done.last == "interrupted: nothing finished is lost; the same command goes on"
    assert "Traceback" not in done.err
    (run,) = place.runs("search")
    assert run.info.status == "KILLED"
    assert run.data.tags["dermonas.error"].startswith("interrupted")
    done = place.search(patch=fake)
    assert done.code == 0, done.err
    assert place.trials() == trials
    check_complete(place, done.run_id, starts=2)


SWALLOWED = """
def at(number, epoch):
    if (number, epoch) == (1, 0):
        try:
            signal.raise_signal(signal.{name})
        except BaseException: pass
import signal
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_that_a_library_swallows_ends_the_search_all_the_same(name, make_place, fake):
    place = make_place()
    done = place.search(patch=fake + SWALLOWED.format(name=name))
    assert done.code == 130
    assert done.last == "interrupted: nothing finished is lost; the same command goes on"
    assert [trial["state"] for trial in place.trials()] == ["COMPLETE", "RUNNING"]
    assert [run.info.status for run in place.runs("search")] == ["KILLED"]


def test_a_second_live_search_stops_and_names_the_first(make_place, uninterrupted, fake):
    trials, _ = uninterrupted("fake", make_place, patch=fake)
    place = make_place()
    first = place.start("search", *place.small(), patch=fake + BLOCK)
    wait_for(place.folder / "reached", first)
    second = place.search(patch=fake)
    assert second.code == 1
    assert second.out == ""
    assert second.err.count("\n") == 1
    assert f"is being searched by process {first.pid} on " in second.err
    assert place.running_epochs() == (1, 1)
    other = place.search("--study", "another", "--trials", "1", patch=fake)
    assert other.code == 0, other.err
    (place.folder / "go").touch()
    done = first.wait()
    assert done.code == 0, done.err
    runs = {run.info.run_id: run for run in place.runs("search")}
    assert runs.pop(done.run_id).info.status == "FINISHED"
    assert sorted(run.info.status for run in runs.values()) == ["FAILED", "FINISHED"]
    (failed,) = (run for run in runs.values() if run.info.status == "FAILED")
    assert failed.data.tags["dermonas.error"] == second.last.removeprefix("error: ")
    assert place.trials(without="another") == trials


def test_two_searches_that_start_together_make_the_databases_once(make_place, fake):
    place = make_place()
    for name in ("mlflow.db", "studies.db"):
        (place.folder / name).unlink(missing_ok=True)
    started = [
        place.start("search", *place.small(), "--study", name, "--trials", "1", patch=fake) for name in ("one", "two")
    ]
    ends = [process.wait() for process in started]
    assert [done.code for done in ends] == [0, 0], "\n".join(done.err for done in ends)
    assert {run.info.run_id: run.info.status for run in place.runs("search")} == {
        done.run_id: "FINISHED" for done in ends
    }
