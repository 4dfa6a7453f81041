from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest

from dermonas.events import Fanout, Observer, Silent, TrialEvent

EVENT = TrialEvent(3, "complete", "abc", 1.5, (2.0, 1.5), 0.1, {"parameters": 7})
CALLS = {
    "started": ("search", 5, {"samples": 1}),
    "epoch": (3, 0, {"score": 1.0}),
    "trial": (EVENT,),
    "artifact": (Path("a.json"), "cells"),
    "finished": ("search", {"best": 1.5}),
}
METHODS = sorted(CALLS)


class Recorder:
    """Notes every event under its own name in a shared list; fails on one of them."""

    def __init__(self, name: str, seen: list[tuple[object, ...]], fails_on: str = "") -> None:
        self._name, self._seen, self._fails_on = name, seen, fails_on

    def __getattr__(self, method: str):
        def note(*arguments: object) -> None:
            self._seen.append((self._name, method, *arguments))
            if method == self._fails_on:
                raise RuntimeError(f"{self._name} stops")

        return note


def test_the_protocol_has_these_events():
    assert sorted(name for name in vars(Observer) if not name.startswith("_")) == METHODS


@pytest.mark.parametrize("kind", [Silent, Fanout])
@pytest.mark.parametrize("method", METHODS)
def test_signatures_are_the_protocols(kind, method):
    assert inspect.signature(getattr(kind, method)) == inspect.signature(getattr(Observer, method))


@pytest.mark.parametrize("method", METHODS)
def test_fanout_tells_every_observer_in_order_with_the_same_arguments(method):
    seen: list[tuple[object, ...]] = []
    fanout = Fanout([Recorder(name, seen) for name in "abc"])
    getattr(fanout, method)(*CALLS[method])
    assert seen == [(name, method, *CALLS[method]) for name in "abc"]


@pytest.mark.parametrize("method", METHODS)
def test_an_observers_exception_passes_through_and_stops_the_rest(method):
    seen: list[tuple[object, ...]] = []
    fanout = Fanout([Recorder("a", seen), Recorder("b", seen, fails_on=method), Recorder("c", seen)])
    with pytest.raises(RuntimeError, match="b stops"):
        getattr(fanout, method)(*CALLS[method])
    assert [name for name, *_ in seen] == ["a", "b"]


def test_a_fanout_is_an_observer_of_a_fanout_and_of_nobody():
    seen: list[tuple[object, ...]] = []
    Fanout([Fanout([]), Fanout([Recorder("a", seen)]), Recorder("b", seen)]).trial(EVENT)
    assert [name for name, *_ in seen] == ["a", "b"]


def test_fanout_keeps_the_observers_it_was_given():
    seen: list[tuple[object, ...]] = []
    observers = [Recorder("a", seen)]
    fanout = Fanout(observers)
    observers.append(Recorder("b", seen))
    fanout.trial(EVENT)
    assert len(seen) == 1


@pytest.mark.parametrize("method", METHODS)
def test_silent_ignores_everything(method):
    assert getattr(Silent(), method)(*CALLS[method]) is None


def test_a_trial_event_cannot_be_changed_and_shares_nothing_by_default():
    with pytest.raises(dataclasses.FrozenInstanceError):
        EVENT.value = 0.0  # type: ignore[misc]
    one, other = TrialEvent(0, "running"), TrialEvent(1, "running")
    assert (one.value, one.digest, one.epochs, one.seconds) == (None, "", (), 0.0)
    assert one.info is not other.info
