"""The tracking store: reached, made where it is missing, and waited for where it is away or busy.

Source: DESIGN 4. The tracking URI is MLflow's own (MLFLOW_TRACKING_URI, else sqlite:///mlflow.db with
artifacts under mlruns/ in the working folder).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient, get_tracking_uri
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from dermonas.errors import StorageError
from dermonas.patience import Patience, interrupts_first
from dermonas.search.storage import advisory_lock, lost

_BUSY_SECONDS = 20.0  # another process may be writing; as long as MLflow waits


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """Turn a refusal of the tracking store or the artifact folder into one line."""
    try:
        with interrupts_first():
            yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise StorageError(
            f"MLflow tracking store {get_tracking_uri()} refused: {reason}; what was finished is kept, "
            "mend it (free space, permissions, server) and repeat the same command"
        ) from error


def _away(error: Exception) -> bool:
    """Tell whether a call failed because the store's server is away, or its file was written by others all the time.

    MLflow waits 20 seconds for an SQLite file; on a slow disk that several processes write to that can be too short.
    """
    if not get_tracking_uri().startswith("sqlite:"):
        return lost(error)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, sqlite3.OperationalError):
        cause = cause.__cause__
    return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


patiently = Patience("MLflow tracking store", _away)


def connected() -> MlflowClient:
    """Return a client of the tracking store.

    Raises:
        StorageError: The store refuses. An SQLite file or a PostgreSQL server is tried first, and its tables are made
            by one process at a time: where it cannot be opened MLflow makes ten attempts in two minutes.
    """
    uri = get_tracking_uri()
    with store_errors():
        if uri.startswith("sqlite:") and (file := make_url(uri).database):
            _make(Path(file))
        elif uri.startswith("postgresql"):
            engine = create_engine(uri)
            try:
                with advisory_lock(engine, "mlflow"):
                    MlflowClient().search_experiments(max_results=1)
            finally:
                engine.dispose()
        return patiently(MlflowClient)


def _make(file: Path) -> None:
    """Try an SQLite store, and make its tables where they are missing, one process at a time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):
        try:
            tables = patiently(lambda: _tables(file))
        except sqlite3.Error as error:
            raise OSError(f"{file}: {error}") from error
        if not tables:
            MlflowClient().search_experiments(max_results=1)


def _tables(file: Path) -> int:
    with contextlib.closing(sqlite3.connect(file, timeout=_BUSY_SECONDS)) as database:
        return int(database.execute("select count(*) from sqlite_master").fetchone()[0])
