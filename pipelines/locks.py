"""A lock file around what one process alone may write."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from dermonas.errors import ConfigError, StorageError

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def alone(path: Path, doing: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock file, so that no two processes write the same; what the body raises is left as it is.

    Args:
        path: The lock file; its folder is made.
        doing: What another process that holds it does, as "trains the same into outputs/training".
        wait: Whether to wait for that process, after a line that says so; else it is an error.

    Raises:
        ConfigError: If another process holds it, and `wait` is false.
        StorageError: If the folder or the file cannot be made.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            if not wait:
                raise ConfigError(f"another process {doing}: wait for it") from error
            _log.info("another process %s: waiting for it", doing)
            lock.acquire()
    except OSError as error:  # Timeout is one too, and is dealt with above
        raise StorageError(f"cannot write to {path.parent}: {error.strerror or error}; choose another --out") from error
    try:
        yield
    finally:
        lock.release()
