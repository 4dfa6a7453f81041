"""The sign of life of a worker, for those on other hosts."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from types import TracebackType

import optuna
from optuna.storages._heartbeat import BaseHeartbeat, is_heartbeat_enabled

from dermonas.search.storage import HEARTBEAT_SECONDS


class Pulse:
    """Calls `beat` at once and again and again, in a thread, while its body runs.

    Optuna's own thread ends at the first refusal, and the trial would be taken for lost after a restart of the
    server; this one goes on.

    Args:
        beat: Says that this process lives; None where nobody listens.
        seconds: Between two beats.
    """

    def __init__(self, beat: Callable[[], object] | None, seconds: float = HEARTBEAT_SECONDS) -> None:
        self._beat, self._seconds = beat, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="pulse", daemon=True)

    def __enter__(self) -> None:
        if self._beat is not None:
            self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        if self._beat is not None:
            self._thread.join()

    def _go_on(self) -> None:
        assert self._beat is not None
        while True:
            with contextlib.suppress(Exception):  # the next one may pass; the worker's own calls tell of an outage
                self._beat()
            if self._stop.wait(self._seconds):
                return


def trial_pulse(study: optuna.Study, trial_id: int) -> Pulse:
    """Return the pulse of a trial that this process holds: Optuna's heartbeats, where the storage takes any."""
    if not is_heartbeat_enabled(study._storage):
        return Pulse(None)
    assert isinstance(study._storage, BaseHeartbeat)
    return Pulse(functools.partial(study._storage.record_heartbeat, trial_id))
