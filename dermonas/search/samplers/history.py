"""What a sampler may learn from: the finished trials of a study, as plain records.

A theta is one user attribute of its trial, not one Optuna parameter a position: 40 parameter inserts
cost hundreds of milliseconds in SQLite, one attribute costs one insert. Trials that carry their
theta as parameters (a plain `study.optimize` with `suggest_categorical`) are read too.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dermonas.errors import ConfigError, SearchError, StudyMismatch
from dermonas.space.domain import Domain, Theta

THETA = "theta"  # user attribute: JSON list of choice indices
DUPLICATE = "duplicate"  # user attribute: true when another trial evaluates the network, or did before

Mode = Literal["paper", "modern"]


@dataclass(frozen=True)
class Record:
    """One finished trial, as samplers see it.

    Attributes:
        number: The trial's number in its study.
        theta: The theta that was proposed, one choice index a position.
        value: The score as told; for a pruned trial its last intermediate value, or nan if it has none: it lies
            beyond a bound, or waited for one that was pruned.
        key: Orders records from best to worst (smaller is better): every complete trial before every
            pruned one, complete ones by value, pruned ones by the last epoch they reached (further is
            better), then by the value there.
        state: "complete" or "pruned".
        digest: The functional digest of theta.
        duplicate: Whether the trial repeats a network evaluated before it.
    """

    number: int
    theta: Theta
    value: float
    key: tuple[int, int, float]
    state: Literal["complete", "pruned"]
    digest: str
    duplicate: bool


def check_mode(mode: str) -> Mode:
    """Return `mode`, narrowed.

    Raises:
        ConfigError: If it is neither "paper" nor "modern".
    """
    for allowed in get_args(Mode):
        if mode == allowed:
            return allowed
    raise ConfigError(f"mode is {mode!r}: use paper or modern")


def names(choices: Sequence[int]) -> tuple[str, ...]:
    """Return the Optuna parameter name of each position: theta_00, theta_01, ... (sorted by position)."""
    width = max(2, len(str(len(choices) - 1)))
    return tuple(f"theta_{index:0{width}d}" for index in range(len(choices)))


def distributions(choices: Sequence[int]) -> dict[str, CategoricalDistribution]:
    """Return the Optuna distribution of each position, by parameter name, in position order."""
    return {
        name: CategoricalDistribution(tuple(range(count))) for name, count in zip(names(choices), choices, strict=True)
    }


class History:
    """Reads a study into records, parsing each finished trial once.

    Optuna hands out the same object for a finished trial every time and refuses to change it, so a
    record stays valid as long as its trial is that very object; nothing has to be invalidated, and
    two studies read through one History cannot mix.

    Args:
        domain: The searched space.
        mode: "paper" reads COMPLETE trials only; "modern" reads PRUNED ones too (DESIGN 5).

    Raises:
        ConfigError: If the mode is unknown.
    """

    def __init__(self, domain: Domain, mode: str) -> None:
        self.domain = domain
        self.mode: Mode = check_mode(mode)
        self._names = names(domain.choices)
        self._parsed: dict[int, tuple[FrozenTrial, Record]] = {}

    def records(self, study: optuna.Study, before: int | None = None) -> list[Record]:
        """Return the records of `study` in trial-number order.

        Args:
            study: A study of one objective.
            before: Only trials with a smaller number are read; None reads all.

        Returns:
            Complete trials with a finite value (duplicates among them, with the value they were told),
            and in modern mode pruned ones but for their duplicates. Failed and running trials leave no record.

        Raises:
            ConfigError: If the study has several objectives.
            SearchError: If a finished trial holds no theta.
            StudyMismatch: If a theta does not fit the domain.
        """
        if len(study.directions) > 1:
            raise ConfigError(f"study {study.study_name} has {len(study.directions)} objectives: use one")
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        wanted = (TrialState.COMPLETE, TrialState.PRUNED) if self.mode == "modern" else (TrialState.COMPLETE,)
        trials = study.get_trials(deepcopy=False, states=wanted)
        return [
            record
            for trial in sorted(trials, key=lambda trial: trial.number)
            if (before is None or trial.number < before) and (record := self._record(trial, sign)) is not None
        ]

    def running(self, study: optuna.Study, before: int) -> list[str]:
        """Return the digests of the running trials below number `before`, in order; one that has none is left out."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [
            self.domain.digest(self._theta(trial))
            for trial in trials
            if trial.number < before and THETA in trial.user_attrs
        ]

    def _record(self, trial: FrozenTrial, sign: float) -> Record | None:
        known = self._parsed.get(trial.number)
        if known is not None and known[0] is trial:
            return known[1]
        if trial.state == TrialState.COMPLETE and not math.isfinite(trial.values[0]):
            return None
        if trial.state == TrialState.PRUNED and trial.user_attrs.get(DUPLICATE) is True:
            return None  # it waited for the one that was pruned, which has the record
        theta = self._theta(trial)
        if trial.state == TrialState.COMPLETE:
            value = float(trial.values[0])
            key = (0, 0, sign * value)
        else:
            epoch, value = max(trial.intermediate_values.items(), default=(-1, math.nan))
            key = (1, -epoch, math.inf if math.isnan(value) else sign * value)
        record = Record(
            number=trial.number,
            theta=theta,
            value=value,
            key=key,
            state="complete" if trial.state == TrialState.COMPLETE else "pruned",
            digest=self.domain.digest(theta),
            duplicate=trial.user_attrs.get(DUPLICATE) is True,
        )
        self._parsed[trial.number] = (trial, record)
        return record

    def _theta(self, trial: FrozenTrial) -> Theta:
        stored: Any = trial.user_attrs.get(THETA)
        if stored is None:
            stored = [trial.params.get(name) for name in self._names]
            if None in stored:
                raise SearchError(
                    f"trial {trial.number}: no user attribute {THETA!r} and no {self._names[stored.index(None)]}: "
                    "the study was not made by dermonas, use another study name"
                )
        elif isinstance(stored, str):
            with contextlib.suppress(ValueError):  # what is no JSON stays a string and does not fit
                stored = json.loads(stored)
        choices = self.domain.choices
        fits = (
            isinstance(stored, list)
            and len(stored) == len(choices)
            and all(type(v) is int and 0 <= v < count for v, count in zip(stored, choices, strict=True))
        )
        if not fits:
            raise StudyMismatch(
                f"trial {trial.number}: its theta does not fit {self.domain.name} ({len(choices)} positions): "
                "the study searched another space, use another study name"
            )
        return tuple(stored)


def history(study: optuna.Study, domain: Domain, mode: str, before: int | None = None) -> list[Record]:
    """Return the records of `study` once; see `History.records` (which keeps what it parsed)."""
    return History(domain, mode).records(study, before)


def ranked(records: Sequence[Record]) -> list[int]:
    """Return the indices of `records` from best to worst, equal keys in the order given."""
    return sorted(range(len(records)), key=lambda index: records[index].key)


def scored(records: Sequence[Record]) -> list[Record]:
    """Return the records of what was trained, an epoch at least: none beyond a bound."""
    return [record for record in records if not math.isnan(record.value)]


def duplicates_in_a_row(records: Sequence[Record]) -> int:
    """Count the duplicates at the tail of `records`."""
    count = 0
    for record in reversed(records):
        if not record.duplicate:
            break
        count += 1
    return count


def digests(records: Iterable[Record]) -> frozenset[str]:
    """Return the functional digests of all records, pruned ones included."""
    return frozenset(record.digest for record in records)
