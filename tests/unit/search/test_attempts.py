"""A trial that was killed and taken up again is judged as if it had never been killed."""

from __future__ import annotations

import json

import optuna
import pytest
from optuna.trial import TrialState

from dermonas.events import Silent
from dermonas.objective.score import Score
from dermonas.search import pruning, samplers
from dermonas.search.loop import Search
from dermonas.search.pruning import make_pruner
from dermonas.space.darts import DartsSpace

EPOCHS, TRIALS = 5, 6


class Gone(BaseException):
    """Stands for a kill."""


class Curves:
    """Scores that fall by different curves; may be killed before an epoch is reported."""

    def __init__(self, kill=None) -> None:
        self.kill = kill

    def score(self, genotype, observer, number=0):
        digest = int(genotype.digest, 16)
        values = []
        for epoch in range(EPOCHS):
            values.append(digest / 16**16 + (digest >> 7 * epoch) % 100 / 100 / (epoch + 1))
            if self.kill == (number, epoch):
                self.kill = None
                raise Gone
            observer.epoch(number, epoch, {"score": values[-1]})
        return Score(values[-1], tuple(values), 0.0, 0.0, 0, 0, 0)


class Killer(Silent):
    """Kills after an epoch is stored and judged, before the verdict is told."""

    def __init__(self, kill) -> None:
        self.kill = kill

    def epoch(self, number, epoch, metrics):
        if self.kill == (number, epoch):
            self.kill = None
            raise Gone


def state(trials):
    return [
        (
            trial.number, trial.state.name, json.loads(trial.user_attrs["theta"]), trial.value,
            trial.intermediate_values, trial.system_attrs, trial.user_attrs["result"]["epochs"],
        )
        for trial in trials
    ]  # fmt: skip


def sampler_of(space):
    return samplers.make("random", space, 3)


def pruner_of(name):
    return make_pruner(name, EPOCHS, 2, 1)


def memory(space, name):
    return optuna.create_study(study_name="study", sampler=sampler_of(space), pruner=pruner_of(name))


def search(study, space, objective, observer=None):
    Search(study, space, study.sampler, objective, trials=TRIALS, max_failures=0, observer=observer or Silent()).run()
    return study.get_trials()


@pytest.fixture(params=["median", "halving", "hyperband"])
def pruner(request, monkeypatch):
    monkeypatch.setattr(pruning, "_STARTUP", 2)  # the median's ten are too many here
    return request.param


@pytest.fixture
def space():
    return DartsSpace(4, "first2")


def verdicts(whole):
    """Where verdicts fell: the last trial of each end, at an early epoch and at its last two."""
    pruned = [one for one in whole if one[1] == "PRUNED"][-1]
    through = [one for one in whole if one[1] == "COMPLETE"][-1]
    return [(pruned[0], len(pruned[6]) - 1), *((through[0], epoch) for epoch in (0, EPOCHS - 2, EPOCHS - 1))]


def kills(place):
    """Kill before the epoch is stored, and after it was judged but before that was told."""
    return {"before": (Curves(place), None), "after": (Curves(), Killer(place))}


def test_a_kill_before_or_after_any_verdict_changes_nothing(space, pruner):
    whole = state(search(memory(space, pruner), space, Curves()))
    for place in verdicts(whole):
        for kind, (objective, observer) in kills(place).items():
            study = memory(space, pruner)
            with pytest.raises(Gone):
                search(study, space, objective, observer)
            trials = search(study, space, Curves())
            assert state(trials) == whole, (place, kind)
            assert [trial.number for trial in trials if "attempts" in trial.user_attrs] == [place[0]]


def test_a_rung_whose_verdict_was_lost_is_judged_again_in_a_database(bench, pruner):
    """The rung is in the store, the verdict died with the process: Optuna alone would let the trial pass."""
    whole = state(search(memory(bench.space, pruner), bench.space, Curves()))
    place = verdicts(whole)[0]
    with pytest.raises(Gone), bench.opened(sampler_of(bench.space), pruner=pruner_of(pruner)) as study:
        search(study, bench.space, *kills(place)["after"])
    with bench.opened(sampler_of(bench.space), pruner=pruner_of(pruner)) as study:
        assert study.get_trials()[place[0]].state == TrialState.RUNNING
        assert state(search(study, bench.space, Curves())) == whole


def test_a_duplicate_disturbs_no_rung(space, scripted, bench):
    """It was not trained, so it does not compete."""
    first, *others = bench.thetas(40)
    alone = search(
        optuna.create_study(sampler=scripted([first, *others]), pruner=pruner_of("halving")), space, Curves()
    )
    repeated = [theta for other in others for theta in (first, other)]
    study = optuna.create_study(sampler=scripted(repeated), pruner=pruner_of("halving"))
    trials = search(study, space, Curves())
    known = [trial for trial in trials if trial.user_attrs.get("duplicate")]
    trained = [trial for trial in trials if trial not in known]
    assert len(known) > 3
    assert not any(trial.system_attrs for trial in known)
    assert [one[1:] for one in state(trained)] == [one[1:] for one in state(alone)]
