"""Pruning: stop a candidate early when the others say that it will not be the best."""

from __future__ import annotations

import math
import statistics

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.trial import FrozenTrial, TrialState

_STARTUP = 10  # trials that must have reached the first judged epoch before any is judged


class MedianPruner(BasePruner):
    """Prunes a trial whose score at an epoch is worse than the median of all trials, pruned ones included.

    One pruned earlier counts as worse than any score. Of equally distributed candidates half complete,
    whatever the number of epochs; the median of completed trials alone (Optuna's pruner of this name)
    tightens with every pruning, until nearly nothing completes (docs/results/search-on-real-images.md).
    The last epoch is never judged: the score is known then and nothing is left to save.

    Args:
        epochs: Epochs of a trial.
        warmup: Epochs (from 0) that are never judged.
    """

    def __init__(self, epochs: int, warmup: int) -> None:
        self.epochs, self.warmup = epochs, warmup

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether to stop the trial after its last reported epoch (Optuna's interface)."""
        epoch = trial.last_step
        if epoch is None or epoch < self.warmup or epoch >= self.epochs - 1:
            return False
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        judged = [other.intermediate_values for other in ended if self.warmup in other.intermediate_values]
        scores = [values.get(epoch, math.inf) for values in judged]
        return len(scores) >= _STARTUP and trial.intermediate_values[epoch] > statistics.median(scores)


def make_pruner(name: str, epochs: int) -> BasePruner:
    """Build a pruner: "none", or "median", which judges from a third of the epochs on."""
    return NopPruner() if name == "none" else MedianPruner(epochs, warmup=max(1, epochs // 3))
