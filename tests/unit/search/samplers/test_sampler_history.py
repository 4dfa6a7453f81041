from __future__ import annotations

import json
import math

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial
from sampler_fakes import Product, new_study, record

from dermonas.errors import ConfigError, SearchError, StudyMismatch
from dermonas.search.samplers.history import (
    History,
    distributions,
    duplicates_in_a_row,
    history,
    names,
    ranked,
)

DOMAIN = Product((3, 2))


def put(study: optuna.Study, theta: object = (1, 1), **trial: object) -> None:
    attrs = {"theta": list(theta) if isinstance(theta, tuple) else theta, **trial.pop("attrs", {})}  # type: ignore[dict-item]
    study.add_trial(create_trial(user_attrs=attrs, **trial))  # type: ignore[arg-type]


def mixed_study() -> optuna.Study:
    study = new_study()
    put(study, value=2.0)
    put(study, state=TrialState.PRUNED, intermediate_values={0: 9.0, 1: 0.5})
    put(study, state=TrialState.FAIL)
    put(study, value=math.inf)
    put(study, json.dumps([2, 0]), value=1.0, attrs={"duplicate": True})
    put(study, state=TrialState.PRUNED, intermediate_values={0: 0.1})
    put(study, state=TrialState.PRUNED)
    put(study, state=TrialState.PRUNED, intermediate_values={0: 1.0, 1: 0.4})
    put(study, state=TrialState.PRUNED, intermediate_values={1: math.nan})
    put(study, state=TrialState.RUNNING)
    put(study, value=1.0)
    return study


def test_paper_mode_reads_finite_complete_trials_only():
    records = history(mixed_study(), DOMAIN, "paper")
    assert [r.number for r in records] == [0, 4, 10]
    assert [r.value for r in records] == [2.0, 1.0, 1.0]
    assert [r.theta for r in records] == [(1, 1), (2, 0), (1, 1)]
    assert [r.duplicate for r in records] == [False, True, False]
    assert [r.digest for r in records] == ["1.1", "2.0", "1.1"]
    assert {r.state for r in records} == {"complete"}


def test_modern_mode_ranks_pruned_trials_behind_by_epoch_then_value():
    records = history(mixed_study(), DOMAIN, "modern")
    assert [r.number for r in records] == [0, 1, 4, 5, 6, 7, 8, 10]
    # Complete by value (earlier first where equal), then furthest epoch, then value there; nan is worst at its epoch.
    assert [records[i].number for i in ranked(records)] == [4, 10, 0, 7, 1, 8, 5, 6]
    assert {r.number for r in records if r.state == "pruned"} == {1, 5, 6, 7, 8}


def test_before_leaves_out_the_asking_trial_and_later_ones():
    assert [r.number for r in history(mixed_study(), DOMAIN, "paper", before=4)] == [0]


def test_maximised_studies_rank_large_values_first():
    study = new_study(direction="maximize")
    for value in (1.0, 3.0, 2.0):
        put(study, value=value)
    assert ranked(history(study, DOMAIN, "paper")) == [1, 2, 0]


def test_theta_is_read_from_parameters_too():
    study = new_study()
    study.add_trial(
        create_trial(value=1.0, params={"theta_00": 2, "theta_01": 0}, distributions=distributions(DOMAIN.choices))  # type: ignore[arg-type]
    )
    assert [r.theta for r in history(study, DOMAIN, "paper")] == [(2, 0)]


@pytest.mark.parametrize("theta", [(1,), (1, 2), (-1, 0), (1, 1, 1), "no json", "{}", (1.0, 1), (True, 1), 3])
def test_a_theta_of_another_space_is_refused(theta):
    study = new_study()
    put(study, theta, value=1.0)
    with pytest.raises(StudyMismatch, match=r"trial 0.*product"):
        history(study, DOMAIN, "paper")


def test_a_trial_without_theta_is_refused():
    study = new_study()
    study.add_trial(
        create_trial(value=1.0, params={"theta_00": 1}, distributions={"theta_00": CategoricalDistribution((0, 1, 2))})
    )
    with pytest.raises(SearchError, match=r"trial 0.*theta_01"):
        history(study, DOMAIN, "paper")


def test_several_objectives_and_unknown_modes_are_refused():
    with pytest.raises(ConfigError, match="2 objectives"):
        history(optuna.create_study(directions=["minimize", "minimize"]), DOMAIN, "paper")
    with pytest.raises(ConfigError, match="paper or modern"):
        history(new_study(), DOMAIN, "classic")


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_a_finished_trial_is_parsed_once(backend, tmp_path):
    class Counting(Product):
        calls = 0

        def digest(self, theta):
            Counting.calls += 1
            return super().digest(theta)

    storage = f"sqlite:///{tmp_path}/s.db" if backend == "sqlite" else None
    study = new_study(storage)
    reader = History(Counting((3, 2)), "paper")
    for expected in range(1, 5):
        put(study, value=1.0)
        assert len(reader.records(study)) == expected
        reader.records(study)
        assert Counting.calls == expected


def test_names_sort_by_position():
    assert names((2,) * 40)[:2] == ("theta_00", "theta_01")
    wide = names((2,) * 101)
    assert wide[-1] == "theta_100"
    assert sorted(wide) == list(wide)


def test_duplicates_in_a_row_are_counted_from_the_tail():
    flags = [True, False, True, True]
    records = [record(i, (0, 0), 0.0, duplicate=flag) for i, flag in enumerate(flags)]
    assert duplicates_in_a_row(records) == 2
    assert duplicates_in_a_row(records[:2]) == 0
    assert duplicates_in_a_row([]) == 0
