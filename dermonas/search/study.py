"""The Optuna study of a search: opened, checked, locked, and read.

Attributes of a study: `identity` (what its scores depend on), `uid`, `owner`. Attributes of a trial: `theta`,
`owner`, `duplicate`, `waits_for` (number of the trial that evaluates the same network), `attempts` (epoch values
by attempt) and `result`. One attribute each, because every insert costs a transaction
(docs/decisions/sqlite-stores.md).
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.pruners import BasePruner
from optuna.storages._heartbeat import BaseHeartbeat, is_heartbeat_enabled
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from dermonas.errors import StorageError, StudyBusy, StudyMismatch
from dermonas.patience import RECONNECT_SECONDS, interrupts_first
from dermonas.search.owner import alive, here, is_me, me, parent_gone
from dermonas.search.samplers.base import DomainSampler
from dermonas.search.storage import Exclusive, ServerStorage, connect, database_file, file_name, without_password

IDENTITY, UID, OWNER, ATTEMPTS, RESULT = "identity", "uid", "owner", "attempts", "result"
WAITS = "waits_for"
_ENDING_SECONDS = 40.0  # a worker whose parent was killed notices, and ends
Study = optuna.Study
"""What `opened` gives, for those that may not import optuna."""


@contextlib.contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn a database's refusal into one line that says what to do."""
    try:
        with interrupts_first():
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


@contextlib.contextmanager
def opened(
    url: str,
    name: str,
    identity: Mapping[str, Any],
    sampler: DomainSampler,
    pruner: BasePruner,
    *,
    inside: bool = False,
) -> Iterator[optuna.Study]:
    """Open or create a study and hold it: on SQLite no second live search may enter, on a server it joins.

    Args:
        url: Storage URL.
        name: Study name.
        identity: What the study's scores depend on (JSON values).
        sampler: The sampler.
        pruner: The pruner.
        inside: Whether a process that holds the study started this one to work on it.

    Raises:
        StudyBusy: Another live process searches the study.
        StudyMismatch: The study was made under another identity; the keys are named.
        StorageError: The database refuses.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with storage_errors(url), contextlib.ExitStack() as stack:
        file = database_file(url)
        if file is not None and not inside:
            _enter_lock(stack, file, url, name)
        storage = connect(url)
        study = optuna.create_study(
            study_name=name, storage=storage, sampler=sampler, pruner=pruner, direction="minimize", load_if_exists=True
        )
        stack.callback(storage.engine.dispose)
        Exclusive(study)(lambda: _check_identity(study, json.loads(json.dumps(dict(identity), default=str))))
        if isinstance(storage, ServerStorage):
            storage.patience.seconds = RECONNECT_SECONDS
        if not inside:
            if file is not None:
                _refuse_live_trials(study)
            study.set_user_attr(OWNER, me())
        yield study


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
    end = time.monotonic() + _ENDING_SECONDS
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get(OWNER)
        while owner and alive(owner) and not is_me(owner):
            if not parent_gone(owner) or time.monotonic() > end:
                raise StudyBusy(_busy(study.study_name, owner))
            time.sleep(0.05)


def orphan(study: optuna.Study) -> FrozenTrial | None:
    """Return the first running trial whose process is gone, or was this one, if any."""
    found = orphans(study, study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
    return found[0] if found else None


def orphans(study: optuna.Study, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return those of the running trials whose process is gone, or was this one.

    A trial that waits for another one of its network needs no process. On this host a process is seen; of another
    host the server's heartbeats tell, where there is a server.
    """
    owned = [(trial, trial.user_attrs.get(OWNER)) for trial in running if WAITS not in trial.user_attrs]
    silent: Collection[int] | None = None
    if is_heartbeat_enabled(study._storage) and any(owner and not here(owner) for _, owner in owned):
        assert isinstance(study._storage, BaseHeartbeat)
        silent = study._storage._get_stale_trial_ids(study._study_id)
    found = []
    for trial, owner in owned:
        if owner and "pid" in owner and silent is not None and not here(owner):
            gone = trial._trial_id in silent
        else:
            gone = owner is None or is_me(owner) or not alive(owner)
        if gone:
            found.append(trial)
    return found
