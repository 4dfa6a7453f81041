"""What all entry points share: logging to standard error, one-line errors, exit codes."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from dermonas.errors import ConfigError, DermonasError
from dermonas.tracking.runs import note_failure

INTERRUPTED = 130  # the shell's code for Ctrl-C
_asked: list[int] = []  # signals that told this process to end; no lock, which a second one would wait for


def command(stage: str, work: Callable[[Sequence[str]], None]) -> int:
    """Run an entry point on the process's arguments and return its exit code.

    0 done; 1 an error, told in one line; 2 a wrong configuration, told in one line; 130 interrupted
    (Ctrl-C or SIGTERM).
    """
    quiet()
    try:
        work(sys.argv[1:])
    except DermonasError as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        note_failure(stage, message)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print("interrupted: nothing finished is lost; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return 0


def quiet() -> None:
    """Log to standard error what is ours, have SIGTERM interrupt as Ctrl-C does, and keep libraries quiet."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    for name in ("alembic", "mlflow", "optuna", "matplotlib", "PIL"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Prints a traceback of each refused write, which `store_errors` tells in one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # a machine without git still works
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it counts to 1 of 1
    _asked.clear()
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell has it ignored
        signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)
    sys.unraisablehook = _dropped
    # What was imported is never garbage, and nothing need be searched for at the end: a fourth of a small search.
    gc.freeze()
    atexit.register(gc.freeze)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _asked.append(number)
    raise KeyboardInterrupt


def check_interrupt() -> None:
    """Interrupt this process again if it was told to end and goes on: a library may swallow the first interrupt.

    Raises:
        KeyboardInterrupt: It was told to end.
    """
    if _asked:
        raise KeyboardInterrupt


def _dropped(what: sys.UnraisableHookArgs) -> None:
    """Interrupt again soon where Python dropped it: inside a weak reference's callback or a `__del__`."""
    if what.exc_type is KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    else:
        sys.__unraisablehook__(what)
