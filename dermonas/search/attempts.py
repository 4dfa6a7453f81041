"""One attempt at a trial: what the pruner sees of it, and of the others."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


class Attempt:
    """Asks the pruner about a trial as if no earlier attempt at it had been.

    A killed attempt leaves its values, and with halving the rungs that it reached, under the trial's number. Seen
    by the pruner, its last epoch would stand for the one just trained, a rung that it reached would not be judged
    again though the verdict was lost with the process, and its own value would compete with itself.

    Args:
        trial: The trial, taken up again or new.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial
        self.storage = trial.study._storage
        left = self.storage.get_trial(trial._trial_id)
        self.resumed = bool(left.intermediate_values)
        self.reported = frozenset(left.intermediate_values)
        self._hidden = set(left.system_attrs)
        self._study: optuna.Study | None = None

    def prune(self, values: Sequence[float]) -> bool:
        """Tell whether to stop the trial.

        Args:
            values: This attempt's scores, one an epoch so far.
        """
        if not self.resumed:
            return self.trial.should_prune()
        study = self.trial.study
        if self._study is None:
            self._study = optuna.Study(
                study.study_name, cast("BaseStorage", _Others(self)), sampler=study.sampler, pruner=study.pruner
            )
        return study.pruner.prune(self._study, self.seen(values))

    def seen(self, values: Sequence[float]) -> FrozenTrial:
        """Return the trial with this attempt's values and what this attempt wrote."""
        frozen = copy.copy(self.storage.get_trial(self.trial._trial_id))
        frozen.intermediate_values = dict(enumerate(values))
        frozen.system_attrs = {key: value for key, value in frozen.system_attrs.items() if key not in self._hidden}
        return frozen

    def wrote(self, key: str) -> None:
        """Note an attribute that the pruner wrote: it is this attempt's now."""
        self._hidden.discard(key)


class _Others:
    """A study's storage without the trial of an attempt among its trials."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attempt.storage, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._attempt.storage.get_all_trials(study_id, deepcopy=deepcopy, states=states)
        return [trial for trial in trials if trial._trial_id != self._attempt.trial._trial_id]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Mapping[str, Any] | float) -> None:
        self._attempt.storage.set_trial_system_attr(trial_id, key, value)
        self._attempt.wrote(key)
