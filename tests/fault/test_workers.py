"""Several processes on one study, on a real PostgreSQL that is restarted under them. Synthetic phantoms."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from workplace import PATIENCE

pytestmark = pytest.mark.fault

TRIALS = 16
# Each scoring leaves a line: which trial, by whom. An epoch takes long enough to be killed in.
SLOW = """
def at(number, epoch):
    if not epoch:
        with open("scored", "a") as file: file.write(f"{number} {os.getpid()}\\n")
    time.sleep(.1)
"""


@pytest.fixture
def wide(make_place, postgres, ready_databases):
    """A place whose studies and runs are in PostgreSQL."""
    place = make_place()
    place.storage, place.tracking = (postgres.database(like) for like in ready_databases)
    return place


def start(place, *arguments, patch):
    environment = {"MLFLOW_TRACKING_URI": place.tracking}
    return place.start(
        "search", *place.small("--storage", place.storage, *arguments), patch=patch, environment=environment
    )


def wait_for(condition: Callable[[], object], *processes) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        late = time.monotonic() > end or any(process.poll() for process in processes)
        assert not late, [process.err.read_text()[-2000:] for process in processes]
        time.sleep(0.01)


def scored(place) -> list[tuple[int, int]]:
    file = Path(place.folder / "scored")
    return [tuple(map(int, line.split())) for line in file.read_text().splitlines()] if file.exists() else []


def check_whole(place, run_id, trials=TRIALS, refused=0):
    """Check that no trial is lost or counted twice, and that MLflow shows each once."""
    found = place.trials()
    assert [trial["number"] for trial in found] == list(range(len(found)))
    assert {trial["state"] for trial in found} == {"COMPLETE"}
    distinct = [trial for trial in found if not trial["duplicate"]]
    assert len({trial["digest"] for trial in distinct}) == len(distinct) == trials
    values = {trial["digest"]: trial["value"] for trial in distinct}
    for trial in distinct:
        assert trial["told"] == trial["epochs"]
        assert trial["value"] == values[trial["digest"]] == trial["told"][-1]
    parents = place.runs("search")
    (parent,) = [run for run in parents if run.info.status == "FINISHED"]
    assert parent.info.run_id == run_id
    others = Counter(run.info.status for run in parents if run is not parent)
    assert others.pop("FAILED", 0) == refused
    assert set(others) <= {"KILLED"}
    assert parent.data.metrics["search/distinct"] == trials
    assert parent.data.metrics["search/best_score"] == min(values.values())
    children = place.runs("trial")
    assert Counter(int(run.data.tags["dermonas.trial"]) for run in children) == Counter(t["number"] for t in distinct)
    for run in children:
        trial = found[int(run.data.tags["dermonas.trial"])]
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == run_id
        assert run.data.tags["dermonas.state"] == "complete"
        assert run.data.tags["dermonas.genotype"] == trial["digest"]
        assert {value for _, value in place.curve(run, "search/score")} == set(trial["told"])
    assert all(run.info.status != "RUNNING" for run in place.runs("worker"))
    assert {"genotype.json", "trials.parquet"} <= {file.path for file in place.client.list_artifacts(run_id)}


def alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def children(process):
    return [child for child in psutil.Process(process.pid).children() if alive(child)]


def begun(place):
    """Whether a trial of a study in a file is being scored."""
    return place.running_epochs() is not None


def test_workers_of_one_command_are_replaced_and_end_with_it(place):
    """On SQLite, each a process of its own: one is killed, then all by the death of their parent."""
    small = place.small("--workers", "2", "--epochs", "3", "--pruner", "none")
    first = place.start("search", *small, "--trials", "500")
    wait_for(lambda: begun(place), first)
    workers = children(first)
    assert len(workers) == 2
    workers[0].kill()
    wait_for(lambda: workers[0] not in children(first) and len(children(first)) == 2, first)
    assert "worker 0 died by SIGKILL: starting another" in first.err.read_text()
    second = place.run("search", *small, "--trials", "500")
    assert second.code == 1
    assert f"is being searched by process {first.pid} on " in second.err
    left = children(first)
    first.send(signal.SIGKILL)
    assert first.wait().code == -signal.SIGKILL
    wait_for(lambda: not any(child.is_running() for child in left))  # also one that was still starting
    trials = sum(trial["state"] == "COMPLETE" for trial in place.trials()) + 3
    done = place.run("search", *small, "--workers", "1", "--trials", str(trials))
    assert done.code == 0, done.err
    check_whole(place, done.run_id, trials, refused=1)


def test_an_interrupt_ends_all_workers(place):
    process = place.start("search", *place.small("--trials", "50", "--workers", "2"))
    wait_for(lambda: begun(place), process)
    workers = children(process)
    process.send(signal.SIGTERM)
    done = process.wait()
    assert done.code == 130, done.err
    assert done.last == "interrupted: nothing finished is lost; the same command goes on"
    assert "Traceback" not in done.err
    assert not any(worker.is_running() for worker in workers)
    (run,) = place.runs("search")
    assert run.info.status == "KILLED"
    # Each worker gave its trial back.
    running = [trial for trial in place.study().get_trials() if trial.state.name == "RUNNING"]
    assert all("pid" not in trial.user_attrs.get("owner", {}) for trial in running)


def test_an_error_of_a_worker_is_the_commands(place):
    done = place.search("--workers", "2", "--learning_rate", "1e30", "--max_failures", "0")
    assert done.code == 1
    assert done.last.startswith("error: ")
    assert "failed, more than max_failures 0; the last: loss is" in done.last
    assert done.err.count("error: ") == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_four_workers_two_kills_and_a_restart_lose_nothing(seed, wide, postgres, fake):
    rng = random.Random(seed)
    moments = sorted(rng.sample(range(3, TRIALS - 3), 3))
    acts = rng.sample(["kill", "kill", "restart"], 3)
    workers = [start(wide, "--trials", str(TRIALS), patch=fake + SLOW) for _ in range(4)]
    alive, killed = list(workers), []
    for moment, act in zip(moments, acts, strict=True):
        wait_for(lambda moment=moment: len(scored(wide)) > moment, *alive)
        time.sleep(rng.uniform(0, 0.1))  # any point of an epoch will do
        if act == "kill":
            killed.append(alive.pop(rng.randrange(len(alive))))
            killed[-1].send(signal.SIGKILL)
            assert killed[-1].wait().code == -signal.SIGKILL
        else:
            postgres.stop()
            time.sleep(0.3)
            postgres.start()
    ends = [worker.wait() for worker in alive]
    assert [done.code for done in ends] == [0, 0], [done.err for done in ends]
    (run_id,) = {done.run_id for done in ends}
    check_whole(wide, run_id)
    # Nobody scored twice but what a killed worker had begun.
    again = {number for number, times in Counter(number for number, _ in scored(wide)).items() if times > 1}
    assert again <= {number for number, pid in scored(wide) if pid in {process.pid for process in killed}}
