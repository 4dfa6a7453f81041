"""Several processes at one study: each trial is one worker's, on SQLite and on PostgreSQL."""

from __future__ import annotations

import multiprocessing
import os
from contextlib import contextmanager

import pytest
from optuna.trial import TrialState
from scripted import Scripted
from sqlalchemy import text

from dermonas.search.claims import Claims
from dermonas.search.leader import LEADER, Leadership, Seconds, seconds_since
from dermonas.search.ledger import Ledger
from dermonas.search.owner import alive, me
from dermonas.search.pulse import trial_pulse
from dermonas.search.samplers import base
from dermonas.search.study import OWNER, WAITS, orphans
from dermonas.search.trials import kind_of

FORK = multiprocessing.get_context("fork")


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(request, bench):
    """A bench whose studies are in a file, or on a server."""
    if request.param == "postgresql":
        studies, _ = request.getfixturevalue("ready_databases")
        bench.url = request.getfixturevalue("postgres").database(studies)
    return bench


@contextmanager
def claims(bench, thetas, *, trials=9, max_failures=0, max_attempts=3):
    sampler = Scripted(bench.space, thetas)
    with bench.opened(sampler, inside=True) as study:
        yield Claims(
            study, sampler, Ledger(bench.space), trials=trials, max_failures=max_failures, max_attempts=max_attempts
        )


class Worker:
    """A process that takes one turn, when all are ready, and lives until it is told to end."""

    def __init__(self, ready, bench, thetas, **settings):
        self.here, there = FORK.Pipe()
        self.process = FORK.Process(target=self._work, args=(there, ready, bench, thetas, settings), daemon=True)
        self.process.start()

    @staticmethod
    def _work(pipe, ready, bench, thetas, settings):
        with claims(bench, thetas, **settings) as mine:
            ready.wait(60)
            turn = mine.turn()
            pipe.send((turn.kind, turn.claim and turn.claim.trial.number))
            while value := pipe.recv():
                pipe.send(mine.end(turn.claim, TrialState.COMPLETE, value, {"digest": turn.claim.digest, "epochs": []}))
        os._exit(0)

    def turn(self):
        assert self.here.poll(60)
        return self.here.recv()

    def end(self):
        self.process.kill()
        self.process.join()


@pytest.fixture
def race():
    """Return a function that has four processes take a turn at once, and gives their turns."""
    started = []

    def run(bench, thetas, **settings):
        ready = FORK.Barrier(4)
        workers = [Worker(ready, bench, thetas, **settings) for _ in range(4)]
        started.extend(workers)
        return workers, [worker.turn() for worker in workers]

    yield run
    for worker in started:
        worker.end()


def test_of_four_processes_one_takes_up_what_was_lost(anywhere, race):
    thetas = anywhere.thetas(3)
    with claims(anywhere, thetas) as mine:
        mine.turn()
        mine.release()
    _, turns = race(anywhere, thetas, trials=1)
    assert sorted(turns, key=str) == [("evaluate", 0), *[("wait", None)] * 3]


def test_a_network_that_four_propose_at_once_is_evaluated_once(anywhere, race):
    theta = anywhere.thetas(1)[0]
    workers, turns = race(anywhere, [theta] * 9)
    assert sorted(kind for kind, _ in turns) == ["evaluate", "waiting", "waiting", "waiting"]
    assert sorted(number for _, number in turns) == [0, 1, 2, 3]
    first = next(worker for worker, (kind, _) in zip(workers, turns, strict=True) if kind == "evaluate")
    number = turns[workers.index(first)][1]
    for worker in workers:
        if worker is not first:
            worker.end()  # what waits needs no process
    with claims(anywhere, [theta] * 9, trials=1) as mine:
        assert mine.turn().kind == "wait"
        first.here.send(0.5)
        assert first.turn() is True
        assert mine.turn().kind == "done"
        trials = mine.study.get_trials()
        assert {trial.value for trial in trials} == {0.5}
        assert sorted(map(kind_of, trials)) == ["complete", "duplicate", "duplicate", "duplicate"]
        assert kind_of(trials[number]) == "complete"
        assert mine.ledger.totals() == {"distinct": 1, "duplicate": 3, "pruned": 0, "failed": 0}


def test_no_more_is_begun_than_is_asked_for(anywhere, race):
    _, turns = race(anywhere, anywhere.thetas(9), trials=3)
    assert sorted(kind for kind, _ in turns) == ["evaluate", "evaluate", "evaluate", "wait"]


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL])
def test_what_waits_for_a_trial_that_does_not_complete_ends_like_it_and_counts_beside(state, bench):
    a, b = bench.thetas(2)
    with claims(bench, [a, a, b], max_failures=1) as mine:
        first = mine.turn().claim
        first.trial.set_user_attr(OWNER, {**me(), "host": "elsewhere"})
        assert mine.turn().kind == "waiting"
        first.trial.set_user_attr(OWNER, me())
        first.trial.report(3.0, 0)
        assert mine.end(first, state, None, {"digest": first.digest, "epochs": [3.0]})
        assert mine.turn().claim.theta == b
        trials = mine.study.get_trials()
        assert [trial.state for trial in trials] == [state, state, TrialState.RUNNING]
        assert [kind_of(trial) for trial in trials][1] == "duplicate"
        name = {TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}[state]
        assert mine.ledger.totals() == {**dict.fromkeys(("distinct", "pruned", "failed"), 0), name: 1, "duplicate": 1}
        assert len(mine.sampler.records(mine.study)) == (state == TrialState.PRUNED)


def dead(**more):
    """The record of a process of this host that is no more."""
    process = FORK.Process(target=os._exit, args=(0,))
    process.start()
    owner = {**me(), "pid": process.pid, **more}
    process.join()
    return owner


def test_a_trial_whose_workers_die_is_tried_so_often_and_then_has_failed(bench):
    thetas = bench.thetas(2)
    with claims(bench, thetas, max_failures=1, max_attempts=2) as mine:
        numbers = []
        for _ in range(2):
            claim = mine.turn().claim
            numbers.append((claim.trial.number, claim.losses, claim.again))
            claim.trial.set_user_attr(OWNER, {**dead(), "losses": claim.losses})
        assert numbers == [(0, 0, False), (0, 1, True)]
        assert mine.turn().claim.trial.number == 1
        (failed,) = mine.study.get_trials(states=(TrialState.FAIL,))
        assert failed.user_attrs["result"]["error"].startswith("lost 2 times, last with process ")
        assert len(failed.user_attrs["attempts"]) == 1
        assert mine.ledger.counts["failed"] == 1
    with claims(bench, thetas) as other:
        assert other.turn().kind == "failed"


def test_a_trial_that_was_left_orderly_is_not_lost(bench):
    with claims(bench, bench.thetas(1), max_attempts=1) as mine:
        for _ in range(4):
            claim = mine.turn().claim
            assert (claim.trial.number, claim.losses) == (0, 0)
            mine.release()


def test_a_worker_that_was_given_up_stores_nothing(bench):
    with claims(bench, bench.thetas(1)) as mine:
        claim = mine.turn().claim
        claim.trial.set_user_attr(OWNER, {**me(), "host": "elsewhere"})
        assert not mine.end(claim, TrialState.COMPLETE, 1.0, {})
        mine.release()
        (trial,) = mine.study.get_trials()
        assert (trial.state, "result" in trial.user_attrs) == (TrialState.RUNNING, False)
        assert trial.user_attrs[OWNER]["host"] == "elsewhere"


def test_of_another_host_the_servers_heartbeats_tell(bench, postgres, ready_databases):
    bench.url = postgres.database(ready_databases[0])
    with claims(bench, bench.thetas(2)) as mine:
        claim = mine.turn().claim
        # Its clock is wrong: the server's counts.
        claim.trial.set_user_attr(OWNER, {**me(), "host": "elsewhere", "heartbeat": 0.0})
        assert orphans(mine.study, mine.study.get_trials()) == []
        backend = mine.study._storage._backend
        with backend.engine.begin() as connection:
            connection.execute(text("update trial_heartbeats set heartbeat = now() - interval '301 seconds'"))
        assert [trial.number for trial in orphans(mine.study, mine.study.get_trials())] == [0]
        with trial_pulse(mine.study, claim.trial._trial_id):
            pass
        assert orphans(mine.study, mine.study.get_trials()) == []


def test_one_process_leads_until_it_is_gone_or_done(bench):
    with bench.opened() as study:
        one, other = Leadership(study, "one"), Leadership(study, "other")
        assert one.leader() is None
        assert one.take(anew=True)
        study.set_user_attr(LEADER, {**me(), "run": "one", "host": "elsewhere"})
        assert not other.take(anew=True)
        assert other.leader() == "one"
        other.resign(ended=True)  # it has nothing to leave
        assert other.leader() == "one"
        study.set_user_attr(LEADER, {**dead(), "run": "one"})
        assert other.take(anew=False)
        other.resign(ended=True)
        assert (one.leader(), one.ended()) == (None, "other")
        assert not one.take(anew=False)
        assert one.take(anew=True)
        one.resign(ended=False)
        assert other.take(anew=False)


def test_seconds_of_workers_are_summed_from_a_time_on(bench):
    with bench.opened() as study:
        for _ in range(2):
            Seconds(study).keep({"score": 2.0, "store": 0.5})
        assert seconds_since(study, 0.0) == {"score": 4.0, "store": 1.0}
        assert seconds_since(study, me()["heartbeat"] + 60) == {}


def test_after_many_that_wait_the_sampler_is_helped_to_what_nobody_is_at(bench, monkeypatch):
    monkeypatch.setattr(base, "STALL", 5)
    theta = bench.thetas(1)[0]
    with claims(bench, [theta] * 9) as mine:
        first = mine.turn().claim
        first.trial.set_user_attr(OWNER, {**me(), "host": "elsewhere"})
        for number in range(1, 6):
            turn = mine.turn()
            assert (turn.kind, turn.claim.trial.number) == ("waiting", number)
        turn = mine.turn()
        assert turn.kind == "evaluate"
        assert turn.claim.digest != first.digest
        trials = mine.study.get_trials()
        assert trials[6].user_attrs["stalled"] is True
        assert {trial.user_attrs.get(WAITS) for trial in trials[1:6]} == {0}
        assert all(alive(trial.user_attrs[OWNER]) for trial in trials)
