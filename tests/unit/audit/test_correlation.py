"""Tau and its choice: against scipy, on planted scores, and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from dermonas.audit.columns import Column, Table
from dermonas.audit.correlation import RIVALS, choose, correlations, detectable_difference, recommendation
from dermonas.errors import DataError

NETWORKS = 80


def column(name, values, kind="contrastive", seconds=1.0):
    return Column("b", 1, name, np.asarray(values, dtype=np.float64), seconds, kind)


def table(**scores):
    """A table of planted scores; each is quality plus noise of the given strength."""
    rng = np.random.default_rng(1)
    quality = rng.normal(size=NETWORKS)
    noises = {"parameters": ("size", 3.0), "pools": ("count", 3.0), "train_loss": ("paper", 3.0)}
    columns = {}
    for name, (kind, noise, seconds) in {
        **{name: (kind, noise, 0.0 if kind != "paper" else 5.0) for name, (kind, noise) in noises.items()},
        **scores,
    }.items():
        columns[name] = column(name, quality + noise * rng.normal(size=NETWORKS), kind, seconds)
    named = {("parameters" if key == "parameters" else one.name): one for key, one in columns.items()}
    return Table(tuple(map(str, range(NETWORKS))), (quality - quality.min()) / np.ptp(quality), named)


def test_tau_and_rho_are_scipys_without_the_networks_that_lack_the_score():
    made = table(good=("contrastive", 0.5, 2.0))
    holes = made.columns["b/good@1"].values
    holes[[3, 17]] = np.nan
    found = correlations(made, replicates=100)["b/good@1"]
    there = ~np.isnan(holes)
    assert found.kendall.estimate == pytest.approx(kendalltau(holes[there], made.quality[there]).statistic)
    assert found.spearman.estimate == pytest.approx(spearmanr(holes[there], made.quality[there]).statistic)
    assert (found.networks, found.omitted) == (NETWORKS - 2, 2)


def test_a_much_better_score_is_chosen_and_shown():
    made = table(good=("contrastive", 0.2, 2.0), bad=("contrastive", 5.0, 2.0))
    choice = choose(made, splits=6, replicates=200)
    assert choice.chosen == {"b/good@1": 6}
    assert choice.shown
    assert all(choice.differences[name].lo > 0 for name in RIVALS)


def test_judging_halves_are_not_the_choosing_ones():
    """Of many scores that know nothing the best looks good where it was chosen and is worth nothing where judged."""
    made = table(**{f"noise{k}": ("contrastive", 1e6, 2.0) for k in range(60)})
    choice = choose(made, splits=10, replicates=100)
    found = correlations(made, replicates=100)
    best = max(one.kendall.estimate for name, one in found.items() if "noise" in name)
    assert best > 0.1
    assert choice.tau.estimate < best / 2
    assert not choice.shown


def test_a_choice_repeats_and_ignores_the_order_of_networks_no_further_than_splits():
    made = table(good=("contrastive", 0.5, 2.0))
    assert choose(made, splits=4, replicates=100) == choose(made, splits=4, replicates=100)
    assert choose(made, splits=4, replicates=100) != choose(made, splits=4, replicates=100, seed=1)


def test_the_interval_of_a_plain_difference_covers_as_it_says():
    """Two scores alike in worth: 90 of 100 intervals or more hold 0, though one is chosen of two."""
    held = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        quality = rng.normal(size=40)
        noisy = {
            name: Column("b", 1, name, quality + 2 * rng.normal(size=40), 1.0, kind)
            for name, kind in (("train_loss", "paper"), ("x", "contrastive"), ("parameters", "size"), ("c", "count"))
        }
        made = Table(
            tuple(map(str, range(40))),
            quality,
            {**{one.name: one for one in noisy.values()}, "parameters": noisy["parameters"]},
        )
        difference = choose(made, splits=4, replicates=200, seed=seed).differences["parameters"]
        held += difference.lo <= 0 <= difference.hi
    assert held >= 35


def test_the_detectable_difference_is_what_simulation_detects():
    rng = np.random.default_rng(0)
    n = 60
    quality = np.arange(n)
    apart = np.array(
        [
            kendalltau(rng.permutation(n), quality).statistic - kendalltau(rng.permutation(n), quality).statistic
            for _ in range(1500)
        ]
    )
    # 1.96 + 0.84 standard deviations.
    assert detectable_difference(n) == pytest.approx(2.8016 * apart.std(), rel=0.06)


def test_the_recommendation_is_the_cheapest_that_reaches_the_best():
    made = table(
        best=("contrastive", 0.2, 60.0), near=("contrastive", 0.22, 5.0), weak=("untrained", 4.0, 0.1),
        labels=("supervised", 0.01, 1.0),
    )  # fmt: skip
    line = recommendation(made, correlations(made, replicates=300))
    assert "b/near@1, 5.0 s" in line
    assert "b/best@1" in line
    assert "labels" not in line


def test_few_networks_are_refused():
    made = table()
    short = Table(made.names[:7], made.quality[:7], made.columns)
    with pytest.raises(DataError, match="at least 8"):
        choose(short)
