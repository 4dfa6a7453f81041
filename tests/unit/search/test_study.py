"""Opening a study: who may, and under which settings."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dermonas.errors import ConfigError, StorageError, StudyBusy, StudyMismatch
from dermonas.search.config import SearchConfig, deviations, identity, study_name
from dermonas.search.owner import GRACE_SECONDS, alive, is_me, me
from dermonas.search.study import database_file, file_name, storage_errors, without_password


def test_a_shown_url_has_no_password():
    assert "secret" not in without_password("postgresql://me:secret@host:5432/studies")
    assert without_password("sqlite:///studies.db") == "sqlite:///studies.db"


def test_this_process_lives_and_is_me():
    assert alive(me())
    assert is_me(me())


def test_another_process_is_alive_until_it_ends():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        owner = {**me(), "pid": other.pid, "started": psutil.Process(other.pid).create_time()}
        assert alive(owner)
        assert not is_me(owner)
        other.kill()
        while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.005)
        assert not alive(owner)  # dead, though nobody has waited for it
    assert not alive(owner)


def test_a_pid_used_again_is_another_process():
    assert not alive({**me(), "started": me()["started"] - 60})
    assert not is_me({**me(), "started": me()["started"] - 60})


def test_elsewhere_the_heartbeat_decides():
    far = {**me(), "host": "elsewhere"}
    assert alive(far)
    assert not is_me(far)
    assert alive({**far, "heartbeat": time.time() - GRACE_SECONDS + 60})
    assert not alive({**far, "heartbeat": time.time() - GRACE_SECONDS - 1})
    assert not alive({"host": "elsewhere"})


@pytest.mark.parametrize("broken", [{}, {"pid": os.getpid()}, {"pid": "x", "started": 0.0}, {"pid": -1, "started": 0}])
def test_a_broken_owner_is_dead(broken):
    assert not alive({"host": socket.gethostname(), **broken})


def test_a_study_is_held_by_one(bench):
    with bench.opened(), pytest.raises(StudyBusy, match=f"process {os.getpid()} on {socket.gethostname()}"):
        bench.opened().__enter__()
    with bench.opened(), bench.opened(name="another"):
        pass


def test_a_live_trial_of_another_process_closes_the_study(bench, monkeypatch):
    monkeypatch.setattr("dermonas.search.study._ENDING_SECONDS", 0.5)  # how long one that ends is waited for
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        owner = {**me(), "pid": other.pid, "started": psutil.Process(other.pid).create_time()}
        with bench.opened() as study:
            study.ask().set_user_attr("owner", owner)
        with pytest.raises(StudyBusy, match=f"process {other.pid} "):
            bench.opened().__enter__()
        other.kill()
    with bench.opened() as study:
        assert len(study.trials) == 1


def test_other_settings_are_named_and_refused(bench):
    with bench.opened(identity={"epochs": 2, "root": Path("a"), "old": 1}) as study:
        uid = study.user_attrs["uid"]
    with pytest.raises(StudyMismatch) as caught:
        bench.opened(identity={"epochs": 3, "root": Path("a"), "new": None, "newer": 1}).__enter__()
    message = str(caught.value)
    assert "epochs was 2, is 3" in message
    assert "old was 1, is None" in message
    assert "newer was None, is 1" in message
    assert "root" not in message
    with bench.opened(identity={"epochs": 2, "root": Path("a"), "old": 1}) as study:
        assert study.user_attrs["uid"] == uid


CONFIG = SearchConfig()


@pytest.mark.parametrize(
    "free", [{"trials": 3}, {"max_failures": 1}, {"threads": 4}, {"storage": "sqlite:///x.db"}, {"data": Path("d")}]
)
def test_what_does_not_change_a_score_is_no_identity(free):
    assert identity(replace(CONFIG, **free), "d", "cpu") == identity(CONFIG, "d", "cpu")


@pytest.mark.parametrize(
    "bound",
    [
        {"epochs": 3}, {"seed": 1}, {"nodes": 4}, {"sampler": "random"}, {"tpe": "code"}, {"encoding": "all"},
        {"pruner": "none"}, {"batch_size": 9}, {"learning_rate": 0.1}, {"images": 9}, {"views": "code"},
        {"zero_start": True}, {"mode": "paper"}, {"precision": "float32"}, {"width": 9}, {"channels": 8},
    ],
)  # fmt: skip
def test_what_changes_a_score_or_proposal_is_identity(bound):
    assert identity(replace(CONFIG, **bound), "d", "cpu") != identity(CONFIG, "d", "cpu")


@pytest.mark.parametrize("bound", [{"nao_count": 3}, {"nao_epochs": 7}, {"nao_constrained": True}])
def test_what_nao_is_set_to_is_identity_for_nao_alone(bound):
    nao = replace(CONFIG, sampler="nao", trials=21)
    assert identity(replace(nao, **bound), "d", "cpu", "a") != identity(nao, "d", "cpu", "a")
    assert identity(nao, "d", "cpu", "a") != identity(nao, "d", "cpu", "b")
    # How its controller was named is nothing to a study; which one it is, is.
    assert identity(replace(nao, controller="x.pt"), "d", "cpu", "a") == identity(nao, "d", "cpu", "a")
    assert identity(replace(CONFIG, **bound), "d", "cpu") == identity(CONFIG, "d", "cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nao_count": 0}, "nao_count: 0 is not possible"),
        ({"nao_learning_rate": 0.0}, "nao_learning_rate: 0.0 is not possible"),
        ({"nao_initial": 1}, "nao_initial is 1: use 2 or more"),
        ({"encoding": "all"}, "no controller speaks of"),
        ({"trials": 20}, r"trials is 20, no more than nao_initial \(20\)"),
    ],
)
def test_what_nao_cannot_do_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **{"sampler": "nao", "trials": 21, **changes})
    with pytest.raises(ConfigError, match="which tpe does not read"):
        replace(CONFIG, controller="x.pt")


def test_data_and_device_are_identity():
    assert identity(CONFIG, "d", "cpu") != identity(CONFIG, "e", "cpu")
    assert identity(CONFIG, "d", "cpu") != identity(CONFIG, "d", "cuda")


def test_the_default_study_name_tells_recipe_data_nodes_sampler_and_seed():
    config = replace(CONFIG, nodes=4, sampler="random", seed=7)
    assert study_name(config, "isic2019", "0123456789abcdef") == "isic2019-01234567-n4-random-s7"
    assert study_name(replace(config, study="mine"), "isic2019", "0123456789abcdef") == "mine"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", "a b", "plain-1_2.3", ""])
def test_a_studys_files_stay_in_their_folder(name, tmp_path):
    place = (tmp_path / file_name(name)).resolve()
    assert place.parent == tmp_path.resolve()
    assert file_name("plain-1_2.3") == "plain-1_2.3"


def test_an_evolutions_numbers_are_part_of_its_study_alone():
    def numbers(config: SearchConfig) -> set[str]:
        return {"population", "tournament"} & identity(config, "d", "cpu").keys()

    assert numbers(CONFIG) == set()
    assert numbers(replace(CONFIG, sampler="evolution")) == {"population", "tournament"}
    with pytest.raises(ConfigError, match="population is 0, must be at least 1"):
        replace(CONFIG, population=0)


def test_mode_decides_what_the_recipe_leaves_open_and_no_more():
    assert (SearchConfig(mode="paper").encoding, SearchConfig(mode="paper").pruner) == ("first2", "none")
    assert (SearchConfig(mode="modern").encoding, SearchConfig(mode="modern").pruner) == ("pairs", "median")
    assert SearchConfig(mode="paper", encoding="all").encoding == "all"


def test_deviations_name_the_papers_value():
    config = replace(CONFIG, mode="paper", encoding="first2", pruner="none", trials=30, temperature=0.1)
    assert deviations(config, "isic2019") == {
        "trials": {"paper": 120, "here": 30},
        "channels": {"paper": 16, "here": 32},
        "temperature": {"paper": 0.07, "here": 0.1},
    }
    assert set(deviations(config, "moles")) == {"temperature"}


def test_a_database_refusal_is_one_line_without_the_password():
    from sqlalchemy.exc import OperationalError

    with pytest.raises(StorageError) as caught, storage_errors("postgresql://me:secret@here/studies"):
        raise OperationalError("select", {}, Exception("server\nis gone"))
    assert "\n" not in str(caught.value)
    assert "server is gone" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_only_an_sqlite_url_names_a_file():
    assert database_file("sqlite:///a/b.db") == Path("a/b.db")
    assert database_file("sqlite:////a/b.db") == Path("/a/b.db")
    assert database_file("sqlite://") is None
    assert database_file("sqlite:///:memory:") is None
    for url in ("no url", "nosuch://here"):
        with pytest.raises(ConfigError, match="must be a database URL"):
            database_file(url)
