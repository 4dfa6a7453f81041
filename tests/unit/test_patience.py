"""Waiting for a server that is away: for so long, with one line, and for nothing else."""

from __future__ import annotations

import logging

import pytest

from dermonas import patience
from dermonas.patience import Patience


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves."""
    now = [1000.0]
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(patience.time, "sleep", sleep)
    return pauses


def away(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


def failing(times: int):
    left = [times]

    def action() -> str:
        if left[0]:
            left[0] -= 1
            raise ConnectionError("the server\nis gone")
        return "done"

    return action


def test_an_outage_is_waited_for_with_one_line(clock, caplog):
    wait = Patience("the store", away)
    with caplog.at_level(logging.WARNING):
        assert wait(failing(5)) == "done"
        assert wait(failing(0)) == "done"
    assert [record.getMessage() for record in caplog.records] == [
        "the store is away, trying for 120 s: the server is gone"
    ]
    assert clock == [0.1, 0.2, 0.4, 0.8, 1.6]


def test_an_outage_that_lasts_ends_in_its_error_within_the_bound(clock):
    wait = Patience("the store", away, seconds=30.0)
    for _ in range(2):  # what is called while it is still away does not wait again
        with pytest.raises(ConnectionError):
            wait(failing(10**6))
        assert 25 < sum(clock) < 30.1


def test_actions_within_actions_share_the_bound(clock):
    wait = Patience("the store", away, seconds=30.0)
    with pytest.raises(ConnectionError):
        wait(lambda: wait(failing(10**6)))
    assert sum(clock) < 30.1


def test_any_other_error_is_raised_at_once(clock):
    with pytest.raises(ZeroDivisionError):
        Patience("the store", away)(lambda: 1 // 0)
    assert clock == []


def test_an_interrupt_that_ends_as_an_outage_is_an_interrupt(clock, broken_off):
    with pytest.raises(KeyboardInterrupt):
        Patience("the store", away)(lambda: broken_off(ConnectionError("a transaction was not rolled back")))
    assert clock == []


def test_an_outage_while_an_interrupt_is_handled_is_waited_for(clock):
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert Patience("the store", away)(failing(3)) == "done"
    assert clock == [0.1, 0.2, 0.4]
