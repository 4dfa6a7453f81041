"""The Optuna study of a search: opened, checked, locked, and read.

Attributes of a study: `identity` (what its scores depend on), `uid`, `owner`. Attributes of a trial:
`theta`, `owner`, `duplicate`, `attempts` (epoch values by attempt) and `result`. One attribute each,
because every insert costs a transaction (docs/decisions/sqlite-stores.md).
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from dermonas.errors import ConfigError, StorageError, StudyBusy, StudyMismatch
from dermonas.search.owner import alive, is_me, me
from dermonas.search.samplers.base import DomainSampler

IDENTITY, UID, OWNER, ATTEMPTS, RESULT = "identity", "uid", "owner", "attempts", "result"


@contextlib.contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn a database's refusal into one line that says what to do."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split())
        raise StorageError(
            f"study storage {without_password(url)} refused: {reason}; finished trials are kept, "
            "mend it (free space, permissions, server) and repeat the same command"
        ) from error


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
        raise ConfigError(f"storage is {without_password(url)!r}, but its driver is not installed: {error}") from error
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


@contextlib.contextmanager
def opened(
    url: str, name: str, identity: Mapping[str, Any], sampler: DomainSampler, pruner: BasePruner
) -> Iterator[optuna.Study]:
    """Open or create a study and hold it: on SQLite no second live search may enter.

    Args:
        url: Storage URL.
        name: Study name.
        identity: What the study's scores depend on (JSON values).
        sampler: The sampler.
        pruner: The pruner.

    Raises:
        StudyBusy: Another live process searches the study.
        StudyMismatch: The study was made under another identity; the keys are named.
        StorageError: The database refuses.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with storage_errors(url), contextlib.ExitStack() as stack:
        file = database_file(url)
        if file is not None:
            _enter_lock(stack, file, url, name)
        with FileLock(file.with_name(f".{file.name}.lock")) if file is not None else contextlib.nullcontext():
            # Optuna makes a new database's tables without a lock: two searches that start together would clash.
            study = optuna.create_study(
                study_name=name, storage=url, sampler=sampler, pruner=pruner, direction="minimize", load_if_exists=True
            )
        _check_identity(study, json.loads(json.dumps(dict(identity), default=str)))
        if file is not None:
            _refuse_live_trials(study)
        study.set_user_attr(OWNER, me())
        yield study


def file_name(study: str) -> str:
    """Return a study's name as part of a file's name, or as a folder's: no separators, no dots alone."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in study).replace("..", "__").strip(".") or "_"


def _enter_lock(stack: contextlib.ExitStack, file: Path, url: str, name: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(FileLock(file.with_name(f".{file.name}.{file_name(name)}.lock"), timeout=0))
    except Timeout as error:
        raise StudyBusy(_busy(name, _recorded_owner(url, name))) from error
    except OSError as error:
        raise StorageError(f"cannot lock {file}: {error.strerror or error}; check permissions and space") from error


def _recorded_owner(url: str, name: str) -> Mapping[str, Any]:
    try:
        return optuna.load_study(study_name=name, storage=url).user_attrs.get(OWNER, {})
    except KeyError:  # the other process has not created it yet
        return {}


def _busy(name: str, owner: Mapping[str, Any]) -> str:
    who = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
    return f"study {name!r} is being searched by {who}; wait for it, stop it, or choose another --study"


def _check_identity(study: optuna.Study, identity: dict[str, Any]) -> None:
    known = study.user_attrs.get(IDENTITY)
    if known is None:
        study.set_user_attr(UID, uuid.uuid4().hex)
        study.set_user_attr(IDENTITY, identity)
        return
    changed = [
        f"{key} was {known.get(key)!r}, is {identity.get(key)!r}"
        for key in sorted({*known, *identity})
        if known.get(key) != identity.get(key)
    ]
    if changed:
        raise StudyMismatch(
            f"study {study.study_name!r} was made with other settings ({'; '.join(changed)}); "
            "repeat them, or choose another --study"
        )


def _refuse_live_trials(study: optuna.Study) -> None:
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get(OWNER)
        if owner and alive(owner) and not is_me(owner):
            raise StudyBusy(_busy(study.study_name, owner))


def orphan(study: optuna.Study) -> FrozenTrial | None:
    """Return the first running trial whose process is gone, or was this one, if any."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get(OWNER)
        if owner is None or is_me(owner) or not alive(owner):
            return trial
    return None


def without_password(url: str) -> str:
    """Return a storage URL as it may be shown and logged."""
    return make_url(url).render_as_string(hide_password=True)
