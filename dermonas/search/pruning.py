"""Pruning: stop a candidate early when the others say that it will not be the best."""

from __future__ import annotations

import copy
import math
import statistics

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
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


class RungPruner(BasePruner):
    """Optuna's successive halving or Hyperband, told how many epochs a trial has had.

    Optuna counts a resource of 1 as step 1, which is our second epoch (epochs count from 0), so a trial is shown
    to it with its values one step later. A rung at the last epoch is left out: nothing is left to save.
    As the study's pruner is no HyperbandPruner, a sampler learns from all brackets and not from its trial's alone:
    our records compare what reached different epochs.

    Args:
        engine: The pruner that decides.
        epochs: Epochs of a trial.
    """

    def __init__(self, engine: SuccessiveHalvingPruner | HyperbandPruner, epochs: int) -> None:
        self.engine, self.epochs = engine, epochs

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether to stop the trial after its last reported epoch (Optuna's interface)."""
        if trial.last_step is None or trial.last_step >= self.epochs - 1:
            return False
        shown = copy.copy(trial)
        shown.intermediate_values = {epoch + 1: value for epoch, value in trial.intermediate_values.items()}
        return self.engine.prune(study, shown)


def make_pruner(name: str, epochs: int, reduction_factor: int = 3, least_epochs: int = 1) -> BasePruner:
    """Build a pruner.

    Args:
        name: "none"; "median", which judges from a third of the epochs on; "halving": of those that reach
            `least_epochs` epochs one in `reduction_factor` goes on to `reduction_factor` times as many, and so on;
            "hyperband": the same with brackets that begin at later rungs.
        epochs: Epochs of a trial.
        reduction_factor: Of halving and hyperband, at least 2.
        least_epochs: Of halving and hyperband: epochs before the first rung, 1 to `epochs`.
    """
    if name == "halving":
        halving = SuccessiveHalvingPruner(min_resource=least_epochs, reduction_factor=reduction_factor)
        return RungPruner(halving, epochs)
    if name == "hyperband":
        hyperband = HyperbandPruner(min_resource=least_epochs, max_resource=epochs, reduction_factor=reduction_factor)
        return RungPruner(hyperband, epochs)
    return NopPruner() if name == "none" else MedianPruner(epochs, warmup=max(1, epochs // 3))
