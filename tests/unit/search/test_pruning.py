"""Who is pruned, and who is not."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from dermonas.errors import ConfigError
from dermonas.search import samplers
from dermonas.search.config import SearchConfig, identity
from dermonas.search.pruning import MedianPruner, make_pruner
from dermonas.search.samplers.history import ranked
from dermonas.space.darts import DartsSpace


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


def asha(scores, epochs, factor, least):
    """The epochs trained of each candidate by asynchronous successive halving, written again from the paper.

    A value goes on past a rung when it is among the best 1/factor of those seen there (the best one while they are
    fewer than factor).
    """
    rungs = [least * factor**k for k in range(epochs) if least * factor**k < epochs]
    seen = {rung: [] for rung in rungs}
    trained = []
    for curve in scores:
        for done in range(1, epochs + 1):
            if done in seen:
                seen[done].append(curve[done - 1])
                kept = sorted(seen[done])[: max(1, len(seen[done]) // factor)]
                if curve[done - 1] > kept[-1]:
                    break
        trained.append(done)
    return trained


@pytest.mark.parametrize(("epochs", "factor", "least"), [(9, 3, 1), (10, 2, 2), (12, 4, 2), (3, 3, 1), (10, 3, 9)])
def test_halving_judges_at_its_rungs_and_keeps_one_in_factor(study, epochs, factor, least):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(80, 1)) + 0.3 * rng.normal(size=(80, epochs))
    pruner = make_pruner("halving", epochs, factor, least)
    ends = [run(study, curve.tolist(), pruner) for curve in scores]
    trained = [epochs if end is None else end + 1 for end in ends]
    assert trained == asha(scores, epochs, factor, least)
    assert 0 < trained.count(epochs) < 80


def test_hyperband_halves_in_brackets_that_begin_at_different_rungs():
    scores = np.random.default_rng(2).normal(size=120)
    ends = []
    for _ in range(2):
        study = optuna.create_study(study_name="brackets")
        pruner = make_pruner("hyperband", 9, 3, 1)
        ends.append([run(study, [score] * 9, pruner) for score in scores])
    assert ends[0] == ends[1]  # the bracket follows from the study's name and the number
    assert set(ends[0]) == {0, 2, None}  # rungs at 1, 3 and 9 epochs, of which the last leaves nothing to save
    halving = optuna.create_study()
    once = [run(halving, [score] * 9, make_pruner("halving", 9, 3, 1)) for score in scores]
    assert ends[0].count(None) > once.count(None)  # the bracket of unpruned trials is in it


@pytest.mark.parametrize("name", ["halving", "hyperband"])
def test_no_rung_at_the_last_epoch_is_judged(name, study):
    pruner = make_pruner(name, 3, 3, 1)
    for score in range(1, 30):
        assert run(study, [0.0, 0.0, float(score)], pruner) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pruner": "halving", "reduction_factor": 1}, "reduction_factor is 1, must be at least 2"),
        ({"pruner": "halving", "least_epochs": 0}, "least_epochs is 0, must be at least 1"),
        ({"pruner": "hyperband", "least_epochs": 4, "epochs": 4}, "least_epochs is 4, must be below epochs (4)"),
        (
            {"pruner": "median", "reduction_factor": 4},
            "reduction_factor is 4, which median does not read: leave it out",
        ),
        ({"mode": "paper", "least_epochs": 2}, "least_epochs is 2, which none does not read: leave it out"),
        ({"pruner": "asha"}, "pruner is 'asha', must be one of none, median, halving, hyperband"),
    ],
)
def test_an_impossible_or_unread_setting_of_a_pruner_is_refused(keys, message):
    with pytest.raises(ConfigError) as caught:
        SearchConfig(**keys)
    assert str(caught.value).startswith(message)


def test_the_rungs_are_identity_where_they_are_read():
    def of(**keys):
        return identity(SearchConfig(**keys), "d", "cpu")

    assert SearchConfig(pruner="halving", epochs=1).least_epochs == 1  # nothing to prune, as with any pruner
    for pruner in ("halving", "hyperband"):
        assert of(pruner=pruner) != of(pruner=pruner, reduction_factor=4)
        assert of(pruner=pruner) != of(pruner=pruner, least_epochs=2)
    assert "least_epochs" not in of(pruner="median")  # a study made before these keys were goes on


def test_a_sampler_ranks_what_halving_pruned_by_how_far_it_came():
    space = DartsSpace(4, "pairs")
    sampler = samplers.make("tpe", space, 0)
    study = optuna.create_study(sampler=sampler, pruner=make_pruner("halving", 9, 3, 1))
    rng = np.random.default_rng(0)
    for score in rng.normal(size=40):
        trial = study.ask()
        trial.set_user_attr("theta", list(space.sample(rng)))
        for epoch in range(9):
            trial.report(score - epoch, epoch)  # a later epoch's score is lower: values alone would mislead
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, score - 8)
    records = sampler.records(study)
    order = [records[index] for index in ranked(records)]
    told = [study.trials[record.number] for record in order]
    epochs = [len(trial.intermediate_values) for trial in told]
    assert epochs == sorted(epochs, reverse=True)
    assert set(epochs) == {1, 3, 9}
    for reached in set(epochs):
        values = [record.value for record, one in zip(order, epochs, strict=True) if one == reached]
        assert values == sorted(values)
