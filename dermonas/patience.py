"""Repeating what a lost connection broke, for a bounded time."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)

RECONNECT_SECONDS = 120.0
"""How long a server may be away: a restart of PostgreSQL takes seconds, its recovery after a crash a minute or two."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between two tries; doubled each time


@contextlib.contextmanager
def interrupts_first() -> Iterator[None]:
    """Raise an interrupt in place of the error that it ended in: a database session that one breaks off may refuse.

    An interrupt that is being handled on entry, as by what ends a run after one, makes no error an interrupt.
    """
    handled = sys.exception()
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and cause is not handled:
            if isinstance(cause, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            cause = cause.__cause__ or cause.__context__
        raise


class Patience:
    """Calls actions again while a server is away. All actions of one object share its bound.

    Args:
        server: What is called, for the one line that is logged when it goes away.
        lost: Tells whether an error says that the connection is lost; any other is raised at once.
        seconds: How long the server may be away before its error is raised.
    """

    def __init__(self, server: str, lost: Callable[[Exception], bool], seconds: float = RECONNECT_SECONDS) -> None:
        self.server, self.lost, self.seconds = server, lost, seconds
        self._away: float | None = None

    def __call__(self, action: Callable[[], T]) -> T:
        """Return what `action` returns; it must be safe to repeat after it was done and not answered."""
        pause = _FIRST_PAUSE
        while True:
            try:
                with interrupts_first():
                    value = action()
            except Exception as error:
                if not self.lost(error):
                    raise
                if self._away is None:
                    self._away = time.monotonic()
                    reason = " ".join(str(error.__cause__ or error).split())[:160]
                    _log.warning("%s is away, trying for %.0f s: %s", self.server, self.seconds, reason)
                if time.monotonic() - self._away + pause > self.seconds:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._away = None
                return value
