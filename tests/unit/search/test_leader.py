"""Who leads a study when real processes ask for it and die; the rest is in test_claims."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest

from dermonas.search.leader import Leadership

# Takes the lead with a run, says whether it got it, and lives until it is killed.
LEADS = """
import sys, optuna
from dermonas.search.leader import Leadership
study = optuna.load_study(study_name="s", storage=sys.argv[1])
print(Leadership(study, sys.argv[2]).take(anew=True), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def storage(tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    optuna.create_study(study_name="s", storage=url)
    return url


def started(storage, run):
    return subprocess.Popen(
        [sys.executable, "-c", LEADS, storage, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def here(storage, run="here"):
    return Leadership(optuna.load_study(study_name="s", storage=storage), run)


def test_another_process_leads_only_when_the_leader_is_dead(storage):
    with started(storage, "there") as leader:
        assert leader.stdout.readline() == "True\n"
        mine = here(storage)
        assert not mine.take(anew=True)
        assert mine.leader() == "there"
        os.kill(leader.pid, signal.SIGKILL)
        leader.wait()
        assert mine.leader() is None
        assert mine.take(anew=False)
        assert here(storage, "other").leader() is None  # a search of this very process that failed leads no more
        assert mine.leader() == "here"


def test_of_several_that_ask_one_gets_the_lead(storage):
    with ThreadPoolExecutor(3) as pool:
        several = [started(storage, f"run{number}") for number in range(3)]
        said = list(pool.map(lambda process: process.stdout.readline(), several))
    for process in several:
        process.kill()
        process.communicate()
    assert sorted(said) == ["False\n", "False\n", "True\n"]
