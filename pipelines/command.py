"""What all entry points share: logging to standard error, one-line errors, exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from dermonas.errors import ConfigError, DermonasError
from dermonas.tracking.runs import note_failure

INTERRUPTED = 130  # the shell's code for Ctrl-C


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
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)
    sys.unraisablehook = _dropped


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _dropped(what: sys.UnraisableHookArgs) -> None:
    """Interrupt again soon where Python dropped it: inside a weak reference's callback or a `__del__`."""
    if what.exc_type is KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    else:
        sys.__unraisablehook__(what)
