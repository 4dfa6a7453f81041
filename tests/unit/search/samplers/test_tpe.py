from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_fakes import Product, drive, every, new_study, random_records, record, separable
from scipy.stats import chi2_contingency

from dermonas.errors import ConfigError
from dermonas.search.samplers.base import STALL
from dermonas.search.samplers.random import RandomSampler
from dermonas.search.samplers.tpe import PRESETS, TPESampler, TPESettings, best_of, log_ratios

LONG = Product((8,) * 10)

LAWS = {
    "no ties": ([0.02, 0.18, 0.5, 0.3], [0.9, 0.1, -0.4, 0.2]),
    "a rare best pair": ([0.01, 0.02, 0.47, 0.5], [1.0, 1.0, 0.0, 0.0]),
    "all tied": ([0.2, 0.3, 0.5], [0.0, 0.0, 0.0]),
    "tied in the middle": ([0.004, 0.006, 0.04, 0.35, 0.6], [3.0, 2.0, 2.0, 2.0, -1.0]),
    "one": ([1.0], [0.0]),
}


@pytest.mark.parametrize("n", [1, 3, 24])
@pytest.mark.parametrize("law", LAWS)
def test_the_closed_form_has_the_law_of_drawing_n_and_taking_the_best(law, n):
    p, score = map(np.array, LAWS[law])
    rng = np.random.default_rng(17)
    draws = rng.choice(len(p), size=(20_000, n), p=p)
    best = draws[np.arange(len(draws)), np.argmax(score[draws], axis=1)]
    mine = [best_of(p, score, n, *uv) for uv in rng.random((20_000, 2)).tolist()]
    table = np.array([np.bincount(best, minlength=len(p)), np.bincount(mine, minlength=len(p))])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] > 1:
        assert chi2_contingency(table).pvalue > 1e-3


@given(
    st.lists(st.tuples(st.floats(1e-3, 1), st.integers(-2, 2)), min_size=1, max_size=6),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
)
@settings(max_examples=150, deadline=None)
def test_very_many_draws_find_the_best_score_and_any_uniform_is_legal(rows, u, v):
    p = np.array([row[0] for row in rows]) / sum(row[0] for row in rows)
    score = np.array([float(row[1]) for row in rows])
    assert score[best_of(p, score, 20_000_000, min(u, 0.999), v)] == score.max()
    assert 0 <= best_of(p, score, 1, u, v) < len(p)


def test_the_highest_uniforms_stay_in_range():
    p = np.full(7, 1 / 7)  # sums to less than 1 in float64
    top = math.nextafter(1, 0)
    assert 0 <= best_of(p, np.arange(7.0), 1, top, top) < 7
    assert 0 <= best_of(p, np.zeros(7), 1, top, top) < 7


def test_densities_are_distributions_and_the_prior_without_records():
    sampler = TPESampler(Product((3, 1, 5)), 0)
    for records in ([], random_records(sampler.domain, 40, np.random.default_rng(0))):
        for side in sampler.densities(records):
            assert [len(p) for p in side] == [3, 1, 5]
            assert all(p.sum() == pytest.approx(1) and p.min() > 0 for p in side)
    assert all(np.ptp(p) == 0 for p in sampler.densities([])[0])


def test_startup_lasts_until_the_history_holds_n_startup_records():
    domain = Product((2, 2))
    # All good records say 1, so that after start-up (1, 1) is certain; before, the prior answers.
    records = [record(i, (1, 1) if i < 10 else (0, 0), float(i)) for i in range(20)]
    sampler = TPESampler(domain, 3)
    assert {sampler.theta(records[:19], number) for number in range(19, 80)} == set(every(domain))
    assert {sampler.theta(records, number) for number in range(20, 80)} == {(1, 1)}


def test_each_setting_changes_the_proposals():
    records = random_records(LONG, 300, np.random.default_rng(2))

    def proposals(**changes: float) -> list[tuple[int, ...]]:
        base = {"n_startup": 20, "n_candidates": 20_000, "gamma": 0.2}
        sampler = TPESampler(LONG, 0, TPESettings(**{**base, **changes}))  # type: ignore[arg-type]
        return [sampler.theta(records, number) for number in range(300, 340)]

    paper, code = ([TPESampler(LONG, 0, name).theta(records, number) for number in range(300, 340)] for name in PRESETS)
    assert proposals() == paper
    assert proposals(n_candidates=24, gamma=0.25) == code
    for changes in ({"n_startup": 301}, {"n_candidates": 24}, {"gamma": 0.25}):
        assert proposals(**changes) != paper
    # 20,000 candidates are all but greedy; two are not.
    assert len(set(paper)) < len(set(proposals(n_candidates=2))) == 40


def test_presets_are_the_published_ones():
    assert PRESETS["paper"] == TPESettings(n_startup=20, n_candidates=20_000, gamma=0.2)
    assert PRESETS["code"] == TPESettings(n_startup=20, n_candidates=24, gamma=0.25)


@pytest.mark.parametrize(
    ("settings_of", "key"),
    [
        ((0, 24, 0.2), "n_startup"),
        ((20, 0, 0.2), "n_candidates"),
        ((20, 24, 0.0), "gamma"),
        ((20, 24, math.nan), "gamma"),
    ],
)
def test_impossible_settings_are_refused(settings_of, key):
    with pytest.raises(ConfigError, match=key):
        TPESettings(*settings_of)


def test_pruned_trials_teach_in_modern_mode_only_as_the_worst():
    domain = Product((3,))
    complete = [record(i, (0,), 10.0 + i) for i in range(20)]
    # Their values are lower than any complete one's; they still must not be taken for good.
    pruned = [record(20 + i, (2,), 0.0, pruned_at=1) for i in range(20)]
    good, bad = TPESampler(domain, 0, mode="modern").densities([*complete, *pruned])
    assert good[0][2] == good[0][1]  # no pruned record among the good
    assert bad[0][2] > bad[0][0]


def test_modern_escape_is_the_best_unevaluated_by_the_ratio():
    domain = Product((3, 4, 2))
    rng = np.random.default_rng(4)
    known = random_records(domain, 25, rng)
    row = [record(25 + i, known[0].theta, known[0].value, duplicate=True) for i in range(STALL)]
    records = [*known, *row]
    sampler = TPESampler(domain, 0, mode="modern")
    scores = log_ratios(*sampler.densities(records))
    left = set(every(domain)) - {r.theta for r in records}

    def total(theta: tuple[int, ...]) -> float:
        return sum(score[choice] for score, choice in zip(scores, theta, strict=True))

    assert total(sampler.theta(records, 75)) == pytest.approx(max(map(total, left)))


def test_it_beats_random_at_equal_distinct_networks():
    def best(sampler: RandomSampler | TPESampler, seed: int) -> float:
        study = new_study()
        drive(study, sampler, separable(LONG, seed), 200)
        distinct = [r.value for r in sampler.records(study) if not r.duplicate]
        return min(distinct[:150])

    tpe = [best(TPESampler(LONG, seed, "paper", "modern"), seed) for seed in range(10)]
    rnd = [best(RandomSampler(LONG, seed, "modern"), seed) for seed in range(10)]
    assert np.median(tpe) < np.median(rnd)
    assert sum(a < b for a, b in zip(tpe, rnd, strict=True)) >= 8
