from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_fakes import Folded, Product, every

from dermonas.search.samplers.kbest import best_first, best_unevaluated

# Few distinct values, so that equal sums are common.
position = st.lists(st.one_of(st.integers(-2, 2).map(float), st.floats(-3, 3)), min_size=1, max_size=4)


def total(scores, theta) -> float:
    return sum(score[choice] for score, choice in zip(scores, theta, strict=True))


@given(st.lists(position, min_size=1, max_size=5))
@settings(max_examples=150, deadline=None)
def test_every_theta_once_by_decreasing_score(tables):
    scores = [np.array(table) for table in tables]
    thetas = list(best_first(scores))
    domain = Product(tuple(map(len, tables)))
    assert sorted(thetas) == every(domain)
    found = [total(scores, theta) for theta in thetas]
    np.testing.assert_allclose(found, sorted(found, reverse=True), atol=1e-9)


def test_the_first_of_8_to_the_40_come_at_once():
    scores = list(np.random.default_rng(0).normal(size=(40, 8)))
    thetas = list(islice(best_first(scores), 3000))
    assert len(set(thetas)) == 3000
    assert np.all(np.diff([total(scores, theta) for theta in thetas]) <= 1e-9)
    assert thetas[0] == tuple(int(score.argmax()) for score in scores)


@pytest.mark.parametrize("scores", [[np.array([0.0, np.inf])], [np.array([np.nan])], [np.array([])]])
def test_scores_without_an_order_are_refused(scores):
    with pytest.raises(ValueError):
        next(best_first(scores))


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_best_unevaluated_equals_brute_force_where_thetas_share_networks(seed):
    rng = np.random.default_rng(seed)
    domain = Folded((2, 3, 3, 4))
    scores = [rng.normal(size=count) for count in domain.choices]
    ordered = sorted(every(domain), key=lambda theta: -total(scores, theta))
    evaluated = frozenset(domain.digest(theta) for theta in ordered[: int(rng.integers(0, 30))])
    expected = next(theta for theta in ordered if domain.digest(theta) not in evaluated)
    assert best_unevaluated(domain, scores, evaluated, rng) == expected


def test_past_the_bound_an_unevaluated_theta_is_drawn():
    domain = Product((4, 4))
    scores = [np.arange(4.0), np.arange(4.0)]
    evaluated = frozenset(domain.digest(theta) for theta in islice(best_first(scores), 15))
    # The only one left is the worst, which four looks do not reach.
    assert best_unevaluated(domain, scores, evaluated, np.random.default_rng(0), pops=4) == (0, 0)
