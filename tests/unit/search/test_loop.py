"""The loop: what counts, what is known, what is left behind and taken up again."""

from __future__ import annotations

import json
import sqlite3

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy.engine import make_url

from dermonas.errors import SearchError, TooManyFailures
from dermonas.objective.score import NotFinite
from dermonas.search.ledger import Ledger
from dermonas.search.loop import result_of
from dermonas.search.owner import me
from dermonas.search.study import orphan


def theta_of(trial):
    return tuple(json.loads(trial.user_attrs["theta"]))


def test_a_duplicate_gets_the_known_value_and_costs_no_scoring(bench, objective, scripted, recorder):
    a, b, c = bench.thetas(3)
    scorer = objective()
    search, result, trials = bench.search(scripted([a, b, a, a, c]), scorer, 3, observer=recorder)
    assert scorer.scored == [bench.space.digest(theta) for theta in (a, b, c)]
    assert [theta_of(trial) for trial in trials] == [a, b, a, a, c]
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert [trial.user_attrs.get("duplicate", False) for trial in trials] == [False, False, True, True, False]
    assert trials[2].value == trials[3].value == trials[0].value
    assert result.counts == {"distinct": 3, "duplicate": 2, "pruned": 0, "failed": 0}
    assert result.value == min(trial.value for trial in trials)
    assert result.digest == bench.space.digest(result.theta) == result.genotype.digest
    assert search.device_seconds == 1.5
    assert [(event.number, event.state) for event in recorder.trials] == [
        (0, "running"), (0, "complete"), (1, "running"), (1, "complete"), (2, "duplicate"), (3, "duplicate"),
        (4, "running"), (4, "complete"),
    ]  # fmt: skip
    assert recorder.trials[-1].info["total/duplicate"] == 2
    assert recorder.trials[-1].info["best"] == result.value


def test_another_writing_of_a_known_network_is_a_duplicate(bench, objective, scripted):
    theta = next(t for t in bench.thetas(200) if bench.space.canonical(t) != t)
    scorer = objective()
    _, result, trials = bench.search(
        scripted([theta, bench.space.canonical(theta), *bench.thetas(1, seed=9)]), scorer, 2
    )
    assert len(scorer.scored) == 2
    assert trials[1].user_attrs["duplicate"] is True
    assert result.counts["duplicate"] == 1


def test_trials_counts_over_all_resumptions_and_asks_for_no_more(bench, objective, scripted):
    thetas = bench.thetas(5)
    bench.search(scripted(thetas), objective(), 2)
    scorer = objective()
    _, result, trials = bench.search(scripted(thetas), scorer, 4)
    assert len(scorer.scored) == 2
    assert len(trials) == result.counts["distinct"] == 4
    scorer = objective()
    _, again, trials = bench.search(scripted(thetas), scorer, 3)
    assert scorer.scored == []
    assert len(trials) == 4
    assert (again.value, again.number) == (result.value, result.number)


def test_a_pruned_trial_is_counted_beside_and_is_no_duplicate_later(bench, objective, scripted):
    low, high = sorted(bench.thetas(2), key=bench.space.digest)
    middle = (int(bench.space.digest(low), 16) + int(bench.space.digest(high), 16)) / 2 / 16**16
    pruner = optuna.pruners.ThresholdPruner(upper=1 + middle)  # of the first epoch's score, value + 1
    scorer = objective()
    search, result, trials = bench.search(scripted([high, high, low]), scorer, 1, pruner=pruner)
    assert [trial.state.name for trial in trials] == ["PRUNED", "PRUNED", "COMPLETE"]
    assert result.counts == {"distinct": 1, "duplicate": 0, "pruned": 2, "failed": 0}
    results = [trial.user_attrs["result"] for trial in trials]
    assert results[0]["epochs"] == [trials[0].intermediate_values[0]]
    spent = results[0]["seconds"] + results[1]["seconds"] + results[2]["device_seconds"]
    assert search.device_seconds == pytest.approx(spent)  # what was pruned was paid for too
    assert results[0]["seconds"] > 0
    assert len(scorer.scored) == 3


def test_failed_trials_are_kept_with_their_reason_and_bounded(bench, objective, scripted, recorder):
    def at(number, epoch):
        if number == 0:
            raise ValueError("two\nlines")
        if number in (1, 2):
            raise NotFinite("loss is nan in epoch 0")

    thetas = bench.thetas(5)
    with pytest.raises(TooManyFailures, match="2 trials failed, more than max_failures 1; the last: loss is nan"):
        bench.search(scripted(thetas), objective(at=at), 2, max_failures=1, observer=recorder)
    _, result, trials = bench.search(scripted(thetas), objective(at=at), 2, max_failures=3, observer=recorder)
    assert [trial.state.name for trial in trials] == ["FAIL"] * 3 + ["COMPLETE"] * 2
    assert trials[0].user_attrs["result"]["error"] == "ValueError: two lines"
    assert result.counts == {"distinct": 2, "duplicate": 0, "pruned": 0, "failed": 3}
    assert [event.state for event in recorder.trials if event.state != "running"] == ["failed"] * 3 + ["complete"] * 2


def test_a_study_without_a_complete_trial_has_no_result(bench, objective, scripted):
    with bench.opened() as study, pytest.raises(SearchError, match="no complete trial"):
        result_of(study, bench.space, Ledger(bench.space), {})


class Gone(BaseException):
    """Stands for a kill."""


@pytest.mark.parametrize("owned", [False, True], ids=["no owner", "own process"])
def test_an_orphan_is_taken_under_its_own_number_and_theta(owned, bench, objective, scripted):
    def at(number, epoch):
        if (number, epoch) == (1, 1):
            raise Gone

    thetas = bench.thetas(3)
    with pytest.raises(Gone):
        bench.search(scripted(thetas), objective(at=at), 3)
    with bench.opened() as study:
        left = orphan(study)
        assert left.number == 1
        if not owned:
            study._storage.set_trial_user_attr(left._trial_id, "owner", None)
        first = left.intermediate_values[0]
    # Even another sampler leaves a stored theta as it is.
    _, _, trials = bench.search(scripted(thetas[::-1]), objective(), 3)
    assert [trial.number for trial in trials[:3]] == [0, 1, 2]
    assert theta_of(trials[1]) == thetas[1]
    assert trials[1].user_attrs["attempts"] == {"0": [first]}
    assert trials[1].user_attrs["result"]["epochs"] == list(trials[1].intermediate_values.values())
    assert trials[1].state == TrialState.COMPLETE
    assert "attempts" not in trials[0].user_attrs


def test_an_interrupted_read_does_not_keep_a_trial_from_being_left(bench, objective, scripted):
    """Its lock, kept by the frames of the interrupt, is one that no write to SQLite gets past."""

    def at(number, epoch):
        database = sqlite3.connect(make_url(bench.url).database)
        rows = database.execute(
            "with recursive n(i) as (select 1 union select i + 1 from n where i < 9) select * from n, trials"
        )
        assert next(rows)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.search(scripted(bench.thetas(2)), objective(at=at), 2)
    with bench.opened() as study:
        assert study.get_trials()[0].user_attrs["owner"] == {"losses": 0}


def test_every_attempt_at_a_trial_is_recorded(bench, objective, scripted):
    def dying(number, epoch):
        if epoch == 1:
            raise Gone

    (theta,) = bench.thetas(1)
    for _ in range(2):
        with pytest.raises(Gone):
            bench.search(scripted([theta]), objective(at=dying), 1)
    _, _, (trial,) = bench.search(scripted([theta]), objective(), 1)
    first = trial.intermediate_values[0]
    assert trial.user_attrs["attempts"] == {"0": [first], "1": [first]}


def test_a_live_trial_of_another_process_is_no_orphan(bench):
    with bench.opened() as study:
        trial = study.ask()
        trial.set_user_attr("owner", {**me(), "host": "elsewhere"})
        assert orphan(study) is None
        trial.set_user_attr("owner", {**me(), "host": "elsewhere", "heartbeat": 0.0})
        assert orphan(study).number == trial.number


def test_theta_is_one_attribute_and_no_parameter(bench, objective, scripted):
    _, _, trials = bench.search(scripted(bench.thetas(2)), objective(), 2)
    for trial in trials:
        assert trial.params == {}
        assert trial.distributions == {}
        assert len(json.loads(trial.user_attrs["theta"])) == len(bench.space.choices)
        assert set(trial.user_attrs) == {"theta", "owner", "result"}
