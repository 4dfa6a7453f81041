"""What a round came to, against numbers by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.proposal import Candidate, Proposal
from dermonas.search.rounds import RoundFacts, facts_of, round_metrics
from dermonas.search.samplers.history import Record
from dermonas.search.samplers.nao_rounds import Round

CANDIDATES = ((0,), (1,), (2,), (3,), (4,))


def a_round() -> Round:
    """The second round, trials 7 to 11: ten sequences decoded, two neighbours, one random positive."""
    rejected = {"no output": 2, "too short": 1, "in the pool": 3, "in the round": 2}
    accepted = [
        Candidate(theta, str(theta[0]), 0, step) for theta, step in zip(CANDIDATES, (1, 3, 0, 0, 0), strict=True)
    ]
    return Round(
        number=1, first=7, pool=7, error=0.25, reconstruction=1.5, rank_correlation=0.5,
        proposal=Proposal(accepted, 10, rejected, 1, 2, 1),
        candidates=CANDIDATES, digests=frozenset("01234"), predicted=(0.9, 0.1, 0.7, 0.6, 0.3),
        controller=Controller(ControllerSettings(2, 2, 2, 2)), seconds=3.5,
    )  # fmt: skip


def record(
    number: int, theta: tuple[int, ...], loss: float, *, pruned: bool = False, duplicate: bool = False
) -> Record:
    key, state = ((1, -3, loss), "pruned") if pruned else ((0, 0, loss), "complete")
    return Record(number, theta, loss, key, state, str(theta[0]), duplicate)  # type: ignore[arg-type]


def test_facts_by_hand():
    records = [record(6, (9,), 0.0), *(record(7 + n, (n,), loss) for n, loss in enumerate((1.0, 5.0, 3.0, 2.0, 4.0)))]
    facts = facts_of(a_round(), [*records, record(12, (9,), 9.0)])
    # Predicted from best to worst: 0, 2, 3, 4, 1. Seen: 0, 3, 2, 4, 1. Rho = 1 - 6 (1 + 1) / (5 * 24).
    assert facts.held_out_rank_correlation == pytest.approx(0.9)
    assert (facts.round, facts.pool, facts.error, facts.reconstruction) == (2, 7, 0.25, 1.5)
    assert (facts.rank_correlation, facts.seconds) == (0.5, 3.5)
    # 3 of 10 are no cells; of the 7 that are, 5 were known.
    assert (facts.decoded, facts.valid, facts.novel) == (10, 7, 2)
    assert (facts.relabelled, facts.neighbours, facts.fallbacks) == (1, 2, 1)


def test_only_candidates_that_were_asked_for_and_completed_are_held_out():
    losses = {7: 1.0, 9: 3.0, 10: 2.0}  # trial 8 failed, 11 was pruned: it would be the best
    records = [record(number, CANDIDATES[number - 7], loss) for number, loss in losses.items()]
    pruned = record(11, CANDIDATES[4], -50.0, pruned=True)
    # Predicted .9, .7, .6 and seen -1, -3, -2: rho = 1 - 6 (1 + 1) / (3 * 8).
    assert facts_of(a_round(), [*records, pruned]).held_out_rank_correlation == pytest.approx(0.5)
    # After a stall trial 8 asked for something else.
    stalled = record(8, (77,), -50.0, duplicate=True)
    mixed = sorted([*records, stalled], key=lambda r: r.number)
    assert facts_of(a_round(), mixed).held_out_rank_correlation == pytest.approx(0.5)
    # A candidate that had been known is as good as another.
    known = record(8, (1,), 0.0, duplicate=True)
    mixed = sorted([*records, known], key=lambda r: r.number)
    # Predicted .9, .1, .7, .6, seen -1, 0, -3, -2: ranks 1 4 2 3 and 2 1 4 3.
    assert facts_of(a_round(), mixed).held_out_rank_correlation == pytest.approx(1 - 6 * (1 + 9 + 4) / (4 * 15))
    for few in ([], records[:1]):
        assert math.isnan(facts_of(a_round(), few).held_out_rank_correlation)


def test_a_maximised_study_is_seen_upside_down():
    """`key` is what is minimised: of an accuracy its negative."""
    records = [Record(7 + n, CANDIDATES[n], v, (0, 0, -v), "complete", str(n), False) for n, v in enumerate((9.0, 1.0))]
    assert facts_of(a_round(), records).held_out_rank_correlation == pytest.approx(1.0)


def some_facts(**changed: Any) -> RoundFacts:
    values: dict[str, Any] = {
        "round": 1, "pool": 7, "error": 0.2, "reconstruction": 1.0, "rank_correlation": 0.4,
        "held_out_rank_correlation": -0.2, "decoded": 10, "valid": 5, "novel": 2, "relabelled": 1, "neighbours": 3,
        "fallbacks": 1, "seconds": 9.0,
    }  # fmt: skip
    return RoundFacts(**{**values, **changed})


def test_metrics_of_one_round():
    assert round_metrics([some_facts()]) == {
        "controller/rank_correlation": 0.4,
        "controller/held_out_rank_correlation": -0.2,
        "controller/validity": 0.5,
        "controller/novelty": 0.4,
        "controller/predictor_error": 0.2,
        "controller/reconstruction": 1.0,
        "controller/relabelled": 1.0,
        "controller/neighbours": 3.0,
        "controller/fallbacks": 1.0,
    }


def test_metrics_are_means_of_the_rounds_that_have_a_value():
    nan = float("nan")
    silent = some_facts(decoded=0, valid=0, novel=0, rank_correlation=nan, held_out_rank_correlation=nan, error=0.6)
    invalid = some_facts(decoded=10, valid=0, novel=0, held_out_rank_correlation=nan, neighbours=0, error=0.4)
    means = round_metrics([some_facts(), silent, invalid])
    assert means["controller/rank_correlation"] == pytest.approx(0.4)
    assert means["controller/held_out_rank_correlation"] == -0.2
    assert means["controller/validity"] == 0.25  # of two rounds
    assert means["controller/novelty"] == 0.4  # of one
    assert means["controller/predictor_error"] == pytest.approx(0.4)
    assert means["controller/neighbours"] == 2.0
    left = round_metrics([silent])
    assert {name.removeprefix("controller/") for name in left} == {
        "predictor_error", "reconstruction", "relabelled", "neighbours", "fallbacks",
    }  # fmt: skip
