"""Who is pruned, and who is not."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from dermonas.search.pruning import MedianPruner, make_pruner


def run(study, scores, pruner):
    """Report a candidate's scores epoch by epoch; return the epoch after which it was pruned, or None."""
    trial = study.ask()
    for epoch, score in enumerate(scores):
        trial.report(score, epoch)
        if pruner.prune(study, study._storage.get_trial(trial._trial_id)):
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return epoch
    study.tell(trial, scores[-1])
    return None


@pytest.fixture
def study():
    return optuna.create_study()


def test_none_never_prunes(study):
    pruner = make_pruner("none", 4)
    assert [run(study, [float(k)] * 4, pruner) for k in range(20)] == [None] * 20


def test_a_candidate_is_judged_by_the_median_from_a_third_of_the_epochs_on(study):
    pruner = make_pruner("median", 6)
    for k in range(10):
        assert run(study, [float(k)] * 6, pruner) is None  # ten must have reached an epoch first
    assert run(study, [9, 9, 4.6, 0, 0, 0], pruner) == 2  # the median of 0..9 is 4.5; epochs 0 and 1 are not judged
    assert run(study, [9, 9, 4.6, 5.1, 0, 0], pruner) == 3  # 5 there: the one pruned counts as worse than 9


def test_the_last_epoch_is_never_pruned(study):
    pruner = MedianPruner(epochs=3, warmup=1)
    for _ in range(10):
        run(study, [1.0, 1.0, 1.0], pruner)
    assert run(study, [1.0, 1.0, 99.0], pruner) is None
    assert run(study, [1.0, 99.0, 0.0], pruner) == 1


@pytest.mark.parametrize("epochs", [3, 10])
def test_pruned_trials_count_so_that_half_of_a_random_search_completes(study, epochs):
    """A median of completed trials alone would tighten with every pruning until nearly nothing completes."""
    pruner = make_pruner("median", epochs)
    scores = np.random.default_rng(0).normal(size=150)
    ends = [run(study, [score] * epochs, pruner) for score in scores]
    completed = ends[50:].count(None) / 100
    assert 0.4 < completed < 0.6
