"""Runs, errors and the search's observer, on a store in a temporary folder."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import Engine

from dermonas import patience
from dermonas.errors import ConfigError, SearchError, StorageError
from dermonas.events import TrialEvent
from dermonas.tracking import runs, store
from dermonas.tracking.lookup import by_id
from dermonas.tracking.observers import RunObserver
from dermonas.tracking.runs import Run, experiment_id, note_failure, tracked
from dermonas.tracking.search import SearchTracker
from dermonas.tracking.store import connected, store_errors


@pytest.fixture
def client(tmp_path, run_tables, monkeypatch):
    shutil.copy(run_tables, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return MlflowClient()


def event(number, state="complete", value=None, epochs=(), **info):
    return TrialEvent(number, state, f"digest{number}", value, tuple(epochs), 1.5, info)


def children(client, run, uid="uid"):
    query = f"tags.`dermonas.stage` = 'trial' and tags.`dermonas.study_id` = '{uid}'"
    found = client.search_runs([run.experiment_id], query)
    return {int(child.data.tags["dermonas.trial"]): child for child in found}


def test_a_store_that_others_write_to_all_the_time_is_asked_again(client, tmp_path, monkeypatch):
    connected()
    with tracked("dermonas/x", "search", "before", {}):
        pass
    others = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    waits = []

    def at_once(connection, cursor, statement, parameters, context, many):  # MLflow itself waits for 20 seconds
        return statement.replace("busy_timeout = 20000", "busy_timeout = 0"), parameters

    def sleep(seconds):
        waits.append(seconds)
        others.rollback()

    def held(call):
        others.execute("begin exclusive")
        return call()

    monkeypatch.setattr(patience.time, "sleep", sleep)
    monkeypatch.setattr(store, "_BUSY_SECONDS", 0.0)
    event_of_all = (Engine, "before_cursor_execute", at_once)
    sqlalchemy.event.listen(*event_of_all, retval=True)
    try:
        where = held(lambda: experiment_id(client, "dermonas/new"))
        run = held(lambda: Run(client, "", where).beside("name", {"a": "b", "c": None}))
        held(lambda: run.metrics({"x": 1.0}))
        tables = held(connected)
    finally:
        sqlalchemy.event.remove(*event_of_all)
        others.close()
    found = by_id(run.id)
    assert (found.info.run_name, found.data.tags["a"], found.data.metrics) == ("name", "b", {"x": 1.0})
    assert len(tables.search_runs([where])) == 1
    assert len(waits) == 4


def test_a_database_that_is_no_database_is_not_asked_again(tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(StorageError, match="not a database"):
        connected()


def test_parameters_that_are_there_stay_as_they_are(client):
    with tracked("dermonas/x", "search", "name", {}) as run:
        client.log_param(run.id, "learning_rate", "1e-3")
        run.params({"learning_rate": 0.001, "trials": 3, "long": "x" * 7000, **{f"key{i}": i for i in range(150)}})
    params = client.get_run(run.id).data.params
    assert params["learning_rate"] == "1e-3"
    assert params["trials"] == "3"
    assert len(params["long"]) == 6000
    assert len(params) == 153


def test_a_run_ends_as_its_work_did(client):
    with tracked("dermonas/x", "search", "good", {"dermonas.mode": "paper"}) as good:
        assert client.get_run(good.id).info.status == "RUNNING"
    found = client.get_run(good.id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "good")
    assert (found.data.tags["dermonas.stage"], found.data.tags["dermonas.mode"]) == ("search", "paper")
    for error, status, message in (
        (SearchError("what went wrong"), "FAILED", "what went wrong"),
        (ZeroDivisionError("by zero"), "FAILED", "ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), "KILLED", "interrupted; the same command goes on where it stopped"),
    ):
        with pytest.raises(type(error)), tracked("dermonas/x", "search", "bad", {}) as bad:
            raise error
        found = client.get_run(bad.id)
        assert (found.info.status, found.data.tags["dermonas.error"]) == (status, message)
        assert found.info.experiment_id == good.experiment_id


def test_a_store_that_fails_too_does_not_hide_the_first_error(client, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise MlflowException("no")

    def work():
        with tracked("dermonas/x", "search", "bad", {}) as run:
            monkeypatch.setattr(run.client, "log_batch", refuse)
            monkeypatch.setattr(run.client, "set_terminated", refuse)
            raise ConfigError("first")

    with pytest.raises(ConfigError, match="first"):
        work()


def test_the_run_of_mlflow_run_is_used_in_its_experiment_and_a_launcher_elsewhere(client, monkeypatch):
    mine = client.create_run(client.create_experiment("dermonas/x"))
    other = client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", mine.info.run_id)
    with tracked("dermonas/x", "search", "name", {}) as run:
        assert run.id == mine.info.run_id
    with tracked("dermonas/x", "prepare", "name", {}, adopt=False) as run:
        assert run.id != mine.info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", other.info.run_id)
    with tracked("dermonas/x", "search", "name", {}) as run:
        assert run.experiment_id == mine.info.experiment_id
    tags = client.get_run(other.info.run_id).data.tags
    assert tags["dermonas.stage"] == "launcher"
    assert tags["dermonas.run_id"] == run.id
    note_failure("search", "later")
    tags = client.get_run(other.info.run_id).data.tags
    assert (tags["dermonas.error"], tags["dermonas.stage"]) == ("later", "launcher")


def test_a_deleted_experiment_says_how_to_mend_it(client):
    client.delete_experiment(client.create_experiment("dermonas/x"))
    with pytest.raises(StorageError, match="'dermonas/x' is deleted; restore it"), tracked("dermonas/x", "s", "n", {}):
        pass


@pytest.mark.parametrize("error", [OSError(28, "No space left"), MlflowException("two\nlines"), PermissionError("x")])
def test_a_refusal_is_one_line_with_the_store_and_the_mend(error, client):
    with pytest.raises(StorageError) as caught, store_errors():
        raise error
    message = str(caught.value)
    assert "\n" not in message
    assert "mlflow.db refused" in message
    assert "repeat the same command" in message
    with pytest.raises(ZeroDivisionError), store_errors():
        raise ZeroDivisionError


def test_a_refusal_that_an_interrupt_left_behind_is_an_interrupt(client, broken_off):
    with pytest.raises(KeyboardInterrupt), store_errors():
        broken_off(MlflowException("Can't reconnect until invalid transaction is rolled back"))


def test_a_run_is_ended_after_an_interrupt_though_its_tags_are_refused(client, monkeypatch):
    def refuse(*_, **__):
        raise MlflowException("no")

    def work():
        with tracked("dermonas/x", "search", "stopped", {}) as run:
            monkeypatch.setattr(run.client, "log_batch", refuse)
            kept.append(run.id)
            raise KeyboardInterrupt

    kept = []
    with pytest.raises(KeyboardInterrupt):
        work()
    assert client.get_run(kept[0]).info.status == "KILLED"


def test_a_damaged_store_is_refused_at_once(client, tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    monkeypatch.setattr(runs, "MlflowClient", lambda: pytest.fail("MLflow would retry for two minutes"))
    with pytest.raises(StorageError, match="not a database"):
        connected()


def test_artifacts_documents_and_figures_reach_their_run(client, tmp_path):
    with tracked("dermonas/x", "prepare", "name", {}) as run:
        file = tmp_path / "file.txt"
        file.write_text("text")
        observer = RunObserver(run)
        observer.artifact(file, "folder")
        observer.finished("prepare", {"images": 3.0})
        run.document("a.json", {"key": 1})
        run.document("b.yaml", "key: 1\n")
    assert {item.path for item in client.list_artifacts(run.id)} == {"folder", "a.json", "b.yaml"}
    assert client.get_run(run.id).data.metrics == {"prepare/images": 3.0}
    got = runs.download(run.id, "b.yaml", tmp_path)
    assert got.read_text() == "key: 1\n"
    for missing in ((run.id, "c.json"), ("0" * 32, "a.json")):
        with pytest.raises(StorageError, match="has no artifact"):
            runs.download(*missing, tmp_path)


def test_a_trial_is_a_child_with_each_epoch_once(client):
    with tracked("dermonas/x", "search", "name", {}) as run:
        tracker = SearchTracker(run, "study", "uid", {"dermonas.mode": "paper"})
        tracker.lead([])
        tracker.trial(event(0, "running"))
        assert children(client, run)[0].info.status == "RUNNING"
        for epoch, score in enumerate((3.0, 2.0)):
            tracker.epoch(0, epoch, {"score": score})
        tracker.trial(event(0, value=2.0, epochs=(3.0, 2.0), theta=[1, 2], parameters=2_000_000, best=2.0))
        tracker.trial(event(1, "duplicate", value=2.0, best=2.0, **{"total/duplicate": 1}))
        tracker.trial(event(2, "failed", error="loss is nan", best=2.0))
        tracker.trial(event(3, "bounded", best=2.0, **{"total/bounded": 1}))
        tracker.finished("search", {"search/best_score": 2.0, "search/duplicate": 1})
    found = children(client, run)
    assert sorted(found) == [0, 2]
    assert (found[0].info.status, found[2].info.status) == ("FINISHED", "FAILED")
    tags = found[0].data.tags
    assert tags["mlflow.parentRunId"] == run.id
    assert (tags["dermonas.genotype"], tags["dermonas.mode"], tags["dermonas.study"]) == ("digest0", "paper", "study")
    assert found[0].data.params == {"theta": "1 2"}
    assert found[0].data.metrics["model/params_m"] == 2.0
    assert found[2].data.tags["dermonas.error"] == "loss is nan"
    history = client.get_metric_history(found[0].info.run_id, "search/score")
    assert [(metric.step, metric.value) for metric in history] == [(0, 3.0), (1, 2.0)]
    best = client.get_metric_history(run.id, "search/best_score")
    assert {metric.step for metric in best} == {0, 1, 2, 3}
    assert client.get_run(run.id).data.metrics["search/duplicate"] == 1
    assert client.get_run(run.id).data.metrics["search/bounded"] == 1


def test_a_restart_takes_over_parents_and_children_of_its_own_study_alone(client):
    told = [event(0, value=3.0, epochs=(3.0,)), event(1, value=2.0, epochs=(2.0,)), event(2, "duplicate", value=2.0)]
    with tracked("dermonas/x", "search", "other", {}) as other:
        stranger = SearchTracker(other, "study", "another uid", {})
        stranger.lead([])
        stranger.trial(told[0])
    with tracked("dermonas/x", "search", "first", {}) as first:
        tracker = SearchTracker(first, "study", "uid", {})
        tracker.lead([])
        tracker.trial(event(0, "running"))
        tracker.trial(told[0])
        tracker.trial(event(1, "running"))  # died here: the study knows its end, MLflow does not
        tracker.trial(event(4, "running"))  # died here: the study does not know its end either
    with tracked("dermonas/x", "search", "second", {}) as second:
        tracker = SearchTracker(second, "study", "uid", {})
        tracker.lead([*told, event(3, value=1.0, epochs=(1.0,)), event(4, "running"), event(5, "bounded")])
        mine = children(client, second)
        assert sorted(mine) == [0, 1, 3, 4]
        assert {child.data.tags["mlflow.parentRunId"] for child in mine.values()} == {second.id}
        assert [mine[number].info.status for number in (0, 1, 3, 4)] == ["FINISHED"] * 3 + ["RUNNING"]
        best = client.get_metric_history(second.id, "search/best_score")
        assert [(metric.step, metric.value) for metric in best] == [(0, 3.0), (1, 2.0), (3, 1.0)]
        tracker.trial(event(4, "running"))  # taken up again: the same child
        tracker.trial(event(4, value=5.0, epochs=(5.0,), best=1.0))
    ended = client.get_run(first.id)
    assert ended.info.status == "KILLED"
    assert ended.data.tags["dermonas.continued_by"] == second.id
    runs_of = client.search_runs([second.experiment_id], "tags.`dermonas.study_id` = 'uid'")
    assert len(runs_of) == 2 + 4
    untouched = client.get_run(other.id)
    assert untouched.info.status == "FINISHED"
    assert "dermonas.continued_by" not in untouched.data.tags
    (stray,) = client.search_runs([second.experiment_id], f"tags.`mlflow.parentRunId` = '{other.id}'")
    assert stray.info.status == "FINISHED"
