"""The arithmetic of what pruning saves."""

from __future__ import annotations

import pytest

from benchmarks.measure import Report
from benchmarks.pruning import add
from benchmarks.pruning_curves import Arm, Outcome

PLAIN, HALVING = Arm("tpe", "none"), Arm("tpe", "halving")


def test_an_unreached_threshold_costs_the_whole_budget_and_is_counted() -> None:
    plain = [Outcome(100.0, ((40.0, 3.0), (100.0, 1.0)), 0), Outcome(80.0, ((80.0, 5.0),), 0),
             Outcome(60.0, ((20.0, 2.0), (60.0, 1.5)), 0)]  # fmt: skip
    halved = [Outcome(100.0, ((25.0, 1.2), (90.0, 0.5)), 4), Outcome(70.0, ((30.0, 9.0),), 6), Outcome(60.0, (), 8)]
    report = Report("pruning", {})
    add(report, "toy", {PLAIN: plain, HALVING: halved})
    # Final bests 1, 5 and 1.5: threshold 1.5. Unpruned it is reached at 100 and 60 s, and never within 80.
    assert report.facts["toy, tpe none, threshold"] == 1.5
    assert report.rows["toy, tpe none", "CPU s until as good"] == (100.0, 80.0, 60.0)
    assert report.rows["toy, tpe halving 3, 1", "CPU s until as good"] == (25.0, 80.0, 60.0)
    assert report.facts["toy, tpe none, unreached of 3"] == 1
    assert report.facts["toy, tpe halving 3, 1, unreached of 3"] == 2
    assert report.facts["toy, tpe halving 3, 1, pruned"] == 6
    (ratio,) = report.ratios.values()
    assert ratio.value == pytest.approx(165 / 240)
    assert ratio.low == pytest.approx(0.25)  # every draw is the first seed
    assert ratio.high == pytest.approx(1.0)


def test_an_arm_that_is_always_twice_as_fast_has_no_spread() -> None:
    plain = [Outcome(seconds, ((seconds, 1.0),), 0) for seconds in (10.0, 20.0, 50.0)]
    halved = [Outcome(run.seconds / 2, ((run.seconds / 2, 1.0),), 1) for run in plain]
    report = Report("pruning", {})
    add(report, "toy", {PLAIN: plain, HALVING: halved})
    (ratio,) = report.ratios.values()
    assert (ratio.value, ratio.low, ratio.high) == (0.5, 0.5, 0.5)
