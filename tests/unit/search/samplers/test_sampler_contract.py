"""What every sampler promises, over every sampler, mode and small domain."""

from __future__ import annotations

import math
import pickle
import random
from dataclasses import replace

import numpy as np
import optuna
import pytest
from sampler_fakes import Folded, Product, add, drive, every, new_study, random_records, separable

from dermonas.controller.languages import language_of
from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.pool import PoolSettings
from dermonas.search import samplers
from dermonas.search.samplers.base import STALL, DomainSampler, proposal, stalled
from dermonas.search.samplers.history import THETA, names
from dermonas.search.samplers.nao import NaoSettings
from dermonas.space.darts import DartsSpace
from dermonas.space.domain import Domain
from dermonas.space.nasbench101 import NasBench101Space
from dermonas.space.nasbench201 import NasBench201Space

DOMAINS = {
    "tiny": Product((2, 3)),
    "single": Product((1, 4, 1)),
    "long": Product((8,) * 12),
    "folded": Folded((2, 3, 3, 4)),
    "darts": DartsSpace(nodes=4, encoding="pairs"),
    "nasbench101": NasBench101Space(),
    "nasbench201": NasBench201Space(),
}


SPOKEN = ("darts", "nasbench101", "nasbench201")  # a controller has a language for these

# Every sampler on every domain, and the TPE in both presets.
CASES = [
    (name, preset, domain)
    for name, preset in [*((name, "paper") for name in samplers.NAMES), ("tpe", "code")]
    for domain in DOMAINS
    if name != "nao" or domain in SPOKEN
]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    return request.param


@pytest.fixture
def domain(case: tuple[str, str, str]) -> Domain:
    return DOMAINS[case[2]]


@pytest.fixture(params=["paper", "modern"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def build(case: tuple[str, str, str], domain: Domain, mode: str):
    name, preset, _ = case
    nao = small_nao(domain) if name == "nao" else {}
    return lambda seed=1, **settings: samplers.make(name, domain, seed, mode, preset, **nao, **settings)


def small_nao(domain: Domain) -> dict[str, object]:
    """A small controller for the domain. Its weights are drawn, so few of its sequences are cells."""
    language = language_of(domain)
    controller = Controller(ControllerSettings(language.vocabulary, language.length, hidden=4, mlp_hidden=4)).eval()
    training = PoolSettings(epochs=1, learning_rate=1.0)
    settings = NaoSettings(count=12, steps=2, constrained=True, at_least=12, pool=training)
    return {"controller": controller, "nao": settings}


def legal(theta: tuple[int, ...], domain: Domain) -> bool:
    return len(theta) == len(domain.choices) and all(
        type(choice) is int and 0 <= choice < count for choice, count in zip(theta, domain.choices, strict=True)
    )


def test_thetas_are_legal_and_a_resumed_search_equals_an_uninterrupted_one(build, domain):
    objective = separable(domain, 0)
    whole = drive(new_study(), build(), objective, 45)
    assert all(legal(theta, domain) for theta in whole)

    storage = optuna.storages.InMemoryStorage()
    parts = []
    for stop in (7, 23, 24, 45):
        # A new sampler and a new study object, as a restarted process has them.
        parts += drive(new_study(storage), build(), objective, stop)
    assert parts == whole


def test_other_seeds_propose_otherwise(build, domain):
    objective = separable(domain, 0)
    assert len({tuple(drive(new_study(), build(seed), objective, 25)) for seed in range(3)}) == 3


def test_an_unrelated_study_read_through_the_same_sampler_changes_nothing(build, domain):
    rng = np.random.default_rng(3)
    here, there = new_study(), new_study()
    add(here, random_records(domain, 40, rng))
    add(there, random_records(domain, 60, rng))
    expected = [build().theta(build().records(study), 40) for study in (here, there)]
    shared = build()
    for study, theta in [(here, 0), (there, 1), (here, 0), (there, 1), (there, 1), (here, 0)]:
        assert shared.theta(shared.records(study), 40) == expected[theta]


def test_what_a_sampler_saw_before_does_not_show(build, domain):
    records = random_records(domain, 90, np.random.default_rng(2), distinct=30)
    others = random_records(domain, 70, np.random.default_rng(3))
    warm = build()
    for count in (30, 31, 70, 40, 90):
        # Longer, shorter and unrelated histories, and one that differs in its middle alone.
        amended = [
            *records[: count // 2],
            replace(records[count // 2], key=(0, 0, -9.0)),
            *records[count // 2 + 1 : count],
        ]
        for history in (others[: count // 2], records[:count], amended):
            assert warm.theta(history, count) == build().theta(history, count)


def test_only_trials_before_the_asking_one_count(build, domain):
    records = random_records(domain, 40, np.random.default_rng(5))
    study = new_study(sampler=build())
    add(study, records[:30])
    late = study.ask()  # number 30
    add(study, records[30:])
    assert proposal(late) == build().theta(records[:30], 30)


def test_parallel_asks_differ_and_do_not_depend_on_who_ends_first(build, domain):
    records = random_records(domain, 40, np.random.default_rng(6))
    study = new_study(sampler=build())
    add(study, records)
    asked = [study.ask() for _ in range(4)]
    thetas = [proposal(trial) for trial in asked]
    assert thetas == [build().theta(records, 40 + k) for k in range(4)]
    # The TPE may propose its best theta to all: it does not know what runs.
    if math.prod(domain.choices) > 100 and study.sampler.name != "tpe":
        assert len(set(thetas)) > 1
    # Trials 43 and 41 end, in that order; 40 and 42 still run when the next one is asked for.
    for trial in (asked[3], asked[1]):
        trial.set_user_attr(THETA, list(thetas[trial.number - 40]))
        study.tell(trial, 0.5)
    sampler = build()
    seen = sampler.records(study)
    assert [r.number for r in seen[40:]] == [41, 43]
    assert proposal(study.ask()) == sampler.theta(seen, 44) == study.sampler.theta(seen, 44)


def test_failed_trials_teach_nothing_and_hold_nothing(build, domain):
    objective = separable(domain, 0)
    study = new_study(sampler=build())
    values = []
    for number in range(60):
        trial = study.ask()
        theta = proposal(trial)
        assert legal(theta, domain)
        trial.set_user_attr(THETA, list(theta))
        if number % 3:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            values.append(objective(domain.canonical(theta)))
            study.tell(trial, values[-1])
    records = build().records(study)
    assert [r.value for r in records] == values
    assert all(r.number % 3 == 0 for r in records)


def test_pruned_trials_count_in_modern_mode_alone_and_lose_to_complete_ones(build, domain, mode):
    rng = np.random.default_rng(11)
    study = new_study(sampler=build())
    thetas = [domain.sample(rng) for _ in range(30)]
    for number, theta in enumerate(thetas):
        trial = study.ask()
        trial.set_user_attr(THETA, list(theta))
        if number % 2:
            # The values that pruned trials stopped at are the best of all: they must not look it.
            trial.report(-100.0 - number, 1)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, float(number))
    sampler = build()
    records = sampler.records(study)
    assert len(records) == (30 if mode == "modern" else 15)
    assert min(records, key=lambda r: r.key).number == 0
    # What they were pruned at says nothing beyond their order.
    kept = [r if r.state == "complete" else replace(r, value=7.0) for r in records]
    assert sampler.theta(records, 30) == build().theta(kept, 30)


def test_no_global_generator_is_touched(build, domain):
    records = random_records(domain, 40, np.random.default_rng(5))
    stuck = [replace(records[0], number=number, duplicate=True) for number in range(STALL)]
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    for history in ([], records, stuck):
        build().theta(history, len(history))
    assert random.getstate() == python
    assert all(np.array_equal(a, b) for a, b in zip(legacy, np.random.get_state(), strict=True))  # noqa: NPY002


def test_a_sampler_survives_pickling(build, domain):
    sampler = build()
    study = new_study()
    add(study, random_records(domain, 30, np.random.default_rng(8)))
    theta = sampler.theta(sampler.records(study), 30)
    assert pickle.loads(pickle.dumps(sampler)).theta(build().records(study), 30) == theta


def test_plain_optuna_drives_it_too(build, domain):
    objective = separable(domain, 0)

    def by_parameters(trial: optuna.Trial) -> float:
        theta = tuple(
            trial.suggest_categorical(name, range(count))
            for name, count in zip(names(domain.choices), domain.choices, strict=True)
        )
        assert 0 <= trial.suggest_float("other", 0, 1) <= 1
        return objective(domain.canonical(theta))

    study = new_study(sampler=build())
    study.optimize(by_parameters, n_trials=24)
    # The same proposals as through the attribute, as long as no duplicate has been flagged there.
    thetas = drive(new_study(), build(), objective, 20)
    assert [r.theta for r in build().records(study)][:20] == thetas
    assert len(build().records(study)) == 24


def test_parameters_outside_the_domain_are_drawn_from_their_prior_and_repeatably(build):
    def draws() -> list[tuple[object, ...]]:
        study = new_study(sampler=build())
        rows = []
        for _ in range(3):
            trial = study.ask()
            x, n = trial.suggest_float("x", -1, 1), trial.suggest_int("n", 0, 9)
            rows.append((x, n, trial.suggest_categorical("c", "ab")))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return rows

    assert draws() == draws()
    assert len(set(draws())) == 3


def test_a_bracketed_study_is_read(build, domain):
    study = new_study(sampler=build(), pruner=optuna.pruners.HyperbandPruner(max_resource=9))
    for _ in range(25):
        trial = study.ask()
        theta = proposal(trial)
        assert legal(theta, domain)
        trial.set_user_attr(THETA, list(theta))
        trial.report(1.0, 1)
        study.tell(trial, 1.0)


def test_zero_start_is_trial_zero_only(build, domain):
    zeros = (0,) * len(domain.choices)
    assert build(zero_start=True).theta([], 0) == zeros
    assert build(zero_start=True).theta([], 1) == build().theta([], 1)
    assert len({build(seed).theta([], 0) for seed in range(12)}) > 1


def test_stall_rule_ends_fifty_duplicates_in_a_row(build, domain, mode, caplog):
    # 25 networks, then duplicates of the best of them.
    known = random_records(domain, 25, np.random.default_rng(9))
    best = min(known, key=lambda r: r.value)
    row = [replace(best, number=25 + i, duplicate=True) for i in range(STALL)]
    sampler: DomainSampler = build()
    before, at = [*known, *row[:-1]], [*known, *row]
    assert not stalled(before)
    assert stalled(at)
    sampler.theta(before, len(before))
    assert not caplog.records
    theta = sampler.theta(at, len(at))
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert legal(theta, domain)
    if mode == "paper":
        # One uniform draw: different trial numbers see different thetas.
        assert len({sampler.theta(at, len(at) + i) for i in range(30)}) > 1
    elif math.prod(domain.choices) > 100:
        assert domain.digest(theta) not in {r.digest for r in at}


def test_a_searched_through_space_still_answers(mode):
    domain = Folded((2, 2))
    for name in ("tpe", "random", "evolution", "local"):
        sampler = samplers.make(name, domain, 1, mode)
        study = new_study()
        assert len(drive(study, sampler, separable(domain, 0), 80)) == 80
        assert {r.digest for r in sampler.records(study)} == {domain.digest(theta) for theta in every(domain)}
