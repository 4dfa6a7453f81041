"""The database behind a study: how it is connected to, repeated after an outage, and locked among workers.

Source: DESIGN 5; docs/decisions/many-workers.md.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import random
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError

from dermonas.errors import ConfigError
from dermonas.patience import Patience

T = TypeVar("T")

HEARTBEAT_SECONDS = 30
"""A worker says this often that it lives; another host learns it from the database alone."""
GRACE_SECONDS = 300
"""A trial whose worker on another host is silent for so long is taken up: twice the longest outage that a worker
waits for (`patience.RECONNECT_SECONDS`), and some."""
_BUSY_SECONDS = 30.0  # SQLite: another worker may be writing
_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 6}  # seconds, seconds, probes
# A host that vanishes with the lock must not keep it for the two hours of Linux's default.
_SERVER_KEEPALIVES = "; ".join(f"set local tcp_{key} = {value}" for key, value in _KEEPALIVES.items())
_LOCK = sqlalchemy.text("select pg_try_advisory_xact_lock(:key)")
_LIBPQ = ("psycopg2", "psycopg")


def without_password(url: str) -> str:
    """Return a storage URL as it may be shown and logged."""
    return make_url(url).render_as_string(hide_password=True)


def database_file(url: str) -> Path | None:
    """Return the file of an SQLite URL, None for a server or an in-memory database.

    Raises:
        ConfigError: If `url` is no database URL, or its driver is not installed.
    """
    try:
        parsed = make_url(url)
        parsed.get_dialect().import_dbapi()
    except SQLAlchemyError as error:
        raise ConfigError(f"storage is {url!r}, must be a database URL such as sqlite:///studies.db") from error
    except ImportError as error:
        mend = ': pip install "dermonas[postgres]"' if parsed.get_backend_name() == "postgresql" else ""
        raise ConfigError(
            f"storage is {without_password(url)!r}, but its driver is not installed ({error}){mend}"
        ) from error
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def lost(error: BaseException | None) -> bool:
    """Tell whether an error says that the server is away: restarting, unreachable, or it closed the connection.

    What Optuna and MLflow raise wraps the database's error.
    """
    while error is not None and not isinstance(error, SQLAlchemyError):
        error = error.__cause__
    # The last is what a session raises that is used after it lost its connection; psycopg2 calls some losses
    # nothing more than a DatabaseError.
    known = isinstance(error, OperationalError | InterfaceError | PendingRollbackError)
    return known or (isinstance(error, DBAPIError) and error.connection_invalidated)


def let_go(error: BaseException) -> None:
    """Drop what an interrupted call left open: its frames keep a read's lock on SQLite, which no write gets past."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()


class ServerStorage(RDBStorage):
    """Optuna's storage on a server, whose calls outlive a restart of the server.

    Each call is a transaction that may be repeated: attributes and values are written over, and a new trial that
    was made twice leaves one without an owner, which the next worker takes up.

    Args:
        url: Of the database.

    Attributes:
        patience: How long a call is repeated; of no length until the study is open, so that a wrong host or
            password is told at once.
    """

    def __init__(self, url: str) -> None:
        self.patience = Patience(f"study storage {without_password(url)}", lost, seconds=0.0)
        connect = {**_KEEPALIVES, "connect_timeout": 10} if make_url(url).get_driver_name() in _LIBPQ else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of heartbeat_interval
            super().__init__(
                url,
                engine_kwargs={"pool_pre_ping": True, "connect_args": connect},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
            )

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        """Set a trial's end; not an error when a call that was not answered has done so (Optuna's interface)."""
        tries = 0

        def once() -> bool:
            nonlocal tries
            tries += 1
            try:
                return RDBStorage.set_trial_state_values(self, trial_id, state, values)
            except UpdateFinishedTrialError:
                if tries == 1:
                    raise
                return True

        return self.patience(once)


def _repeated(name: str) -> Callable[..., Any]:
    method = getattr(RDBStorage, name)

    @functools.wraps(method)
    def call(self: ServerStorage, *arguments: Any, **more: Any) -> Any:
        return self.patience(lambda: method(self, *arguments, **more))

    return call


# `record_heartbeat` is left out: the next beat is its repetition.
for _name in (
    "create_new_trial", "get_trial", "get_all_trials", "_get_trials", "get_trial_id_from_study_id_trial_number",
    "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr", "_get_stale_trial_ids",
    "set_study_user_attr", "set_study_system_attr", "get_study_user_attrs", "get_study_system_attrs",
    "get_study_id_from_name", "get_study_name_from_id", "get_study_directions",
):  # fmt: skip
    setattr(ServerStorage, _name, _repeated(_name))


def connect(url: str) -> RDBStorage:
    """Connect to a study database, and make its tables where they are missing, one process at a time."""
    file = database_file(url)
    if file is not None:
        # Optuna makes a new database's tables without a lock: two searches that start together would clash.
        with FileLock(file.with_name(f".{file.name}.lock")):
            return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": _BUSY_SECONDS}})
    if make_url(url).get_backend_name() != "postgresql":
        return RDBStorage(url)
    engine = sqlalchemy.create_engine(url)
    try:
        with advisory_lock(engine, "dermonas"):
            return ServerStorage(url)
    finally:
        engine.dispose()


class Exclusive:
    """The lock of a study: under it its workers propose, take up what was lost, and tell results.

    A file lock on SQLite, an advisory lock on PostgreSQL; none for another database, whose study one worker searches.

    Args:
        study: The study.
    """

    def __init__(self, study: optuna.Study) -> None:
        backend = getattr(study._storage, "_backend", None)
        self._storage = backend
        self._name = study.study_name
        self._file = database_file(backend.url) if isinstance(backend, RDBStorage) else None

    def __call__(self, section: Callable[[], T]) -> T:
        """Run a section that no other worker's overlaps, and return what it returns.

        On PostgreSQL the lock is a transaction's, so its commit proves that it was held to the end. Where the server
        went away in between, the section runs again: it must begin with what is in the study.
        """
        if isinstance(self._storage, ServerStorage):
            return self._storage.patience(functools.partial(self._on_server, self._storage.engine, section))
        if self._file is not None:
            with FileLock(self._file.with_name(f".{self._file.name}.{file_name(self._name)}.claims.lock")):
                return section()
        return section()

    def _on_server(self, engine: Engine, section: Callable[[], T]) -> T:
        with advisory_lock(engine, f"dermonas {self._name}"):
            return section()


@contextlib.contextmanager
def advisory_lock(engine: Engine, name: str) -> Iterator[None]:
    """Hold an advisory lock of PostgreSQL; the error of its commit says that it was lost."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(_SERVER_KEEPALIVES))
        # Asked for again and again: a signal would not end a call that waits in the driver.
        while not connection.execute(_LOCK, {"key": key}).scalar():
            time.sleep(random.uniform(0.01, 0.1))
        yield


def file_name(study: str) -> str:
    """Return a study's name as part of a file's name, or as a folder's: no separators, no dots alone."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in study).replace("..", "__").strip(".") or "_"
