"""The robustness study's rows, budgets, means, differences, pages and figure."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dermonas.audit.arms import ARMS
from dermonas.audit.robustness import Mean, Outcome, check_budgets, differences, search_rows, summary
from dermonas.audit.robustness_figures import robustness_figure
from dermonas.audit.robustness_report import About, as_page, write_study
from dermonas.errors import SearchError

ABOUT = About("phantom", "0123456789abcdef", True, 8, {"trials": 5}, {"epochs": 2}, ["a note"])


def outcome(arm, sampler, seed, error, **values):
    known = {
        "digest": f"{seed}{sampler}00000000", "trial": 3, "score": 1.5, "images": 40, "epochs": 2, "distinct": 5,
        "duplicate": 0, "failed": 0, "image_epochs": 400, "device_seconds": 10.0 + seed, "cpu_seconds": 5.0 + seed,
        "parameters_m": 0.05,
        "validation_error": error - 0.01, "test_error": error, "test_error_sd": None, "trainings": 1,
        "search_run": "a" * 32, "train_run": "b" * 32, "evaluate_run": "c" * 32,
    }  # fmt: skip
    one = ARMS[arm]
    return Outcome(arm=arm, objective=one.objective, share=one.share, sampler=sampler, seed=seed, **{**known, **values})


def error(arm, sampler, seed):
    """One that has every effect: -.01 of tpe, -.02 of all images, +.03 of labels, and a term a seed."""
    arm = ARMS[arm]
    return (
        0.5 - 0.01 * (sampler == "tpe") - 0.02 * (arm.share == 1) + 0.03 * (arm.objective != "contrastive") + seed / 10
    )


def study(seeds=3):
    return [
        outcome(arm, sampler, seed, error(arm, sampler, seed))
        for seed in range(seeds)
        for arm in ARMS
        for sampler in ("random", "tpe")
    ]


def test_arms_see_shares_of_each_class_inside_each_other():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2, -1], [300, 200, 100, 50])
    groups = np.array([str(name) for name in rng.permutation(650)])
    tenth, whole = (search_rows(labels, groups, share, 4) for share in (0.1, 1.0))
    assert np.bincount(labels[tenth]).tolist() == [30, 20, 10]
    assert whole.tolist() == list(range(600))  # an image without a label is in no arm
    assert set(tenth) < set(whole)
    assert set(search_rows(labels, groups, 0.1, 5)) != set(tenth)
    part, all_of_it = (search_rows(labels, groups, share, 4, images=300) for share in (0.1, 1.0))
    assert np.bincount(labels[all_of_it]).tolist() == [150, 100, 50]
    assert np.bincount(labels[part]).tolist() == [15, 10, 5]
    assert set(part) < set(all_of_it)
    assert search_rows(labels, groups, 1.0, 4, images=9999).tolist() == whole.tolist()


def test_groups_stay_whole_in_an_arm():
    groups = np.repeat(np.arange(100), 3).astype(str)
    labels = np.repeat(np.arange(100) % 4, 3)
    rows = search_rows(labels, groups, 0.1, 0)
    assert not set(groups[rows]) & set(np.delete(groups, rows))


def test_unequal_budgets_are_an_error():
    check_budgets(study())
    for change in ({"distinct": 4}, {"images": 41}, {"epochs": 3}):
        other = [replace(one, **change) if (one.arm, one.sampler, one.seed) == ("SL-10", "tpe", 1) else one
                 for one in study()]  # fmt: skip
        with pytest.raises(SearchError, match="SL-10, seed 1: samplers were given unequal budgets"):
            check_budgets(other)


def test_a_mean_has_students_interval():
    values = [0.31, 0.29, 0.37, 0.30]
    mean = Mean.of(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (mean.value - mean.half, mean.value + mean.half) == pytest.approx((low, high), rel=1e-12)
    assert math.isnan(Mean.of([0.3]).half)


def test_differences_are_of_one_thing_and_paired_by_seed():
    """The term of each seed cancels: intervals are of no width, and each mean is the effect that was put in."""
    found = differences(study())
    assert len(found) == 12
    expected = {"TPE less random": -0.01, "contrastive less supervised": -0.03, "all images less a tenth": -0.02}
    for row in found.to_dict("records"):
        assert row["mean"] == pytest.approx(expected[row["what"]])
        assert row["half"] == pytest.approx(0, abs=1e-12)
        assert row["seeds"] == 3
    assert set(found[found["what"] == "TPE less random"]["within"]) == {
        f"{objective}, {share} % of the images" for objective in ("supervised", "contrastive") for share in (10, 100)
    }
    few = [one for one in study() if (one.arm, one.sampler) != ("SL-10", "tpe")]
    assert len(differences(few)) == 9


def test_a_seed_that_one_side_lacks_is_left_out_of_the_pairs():
    outcomes = [one for one in study() if not (one.sampler == "random" and one.seed == 2)]
    found = differences(outcomes)
    assert set(found[found["what"] == "TPE less random"]["seeds"]) == {2}


def test_the_summary_is_by_arm_and_sampler():
    found = summary(study()).set_index(["arm", "sampler"])
    assert len(found) == 8
    row = found.loc[("CSSL-100", "tpe")]
    assert row["test_error"] == pytest.approx(0.47 + 0.1)
    assert row["test_error/half"] == pytest.approx(stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3))
    assert (row["device_seconds"], row["images"], row["seeds"]) == (11, 40, 3)


def test_files_hold_every_number_and_say_what_they_are_of(tmp_path):
    outcomes = study()
    paths = write_study(outcomes, ABOUT, tmp_path)
    assert {path.name for path in paths} == {f"robustness.{end}" for end in ("json", "parquet", "md", "svg", "png")}
    content = json.loads((tmp_path / "robustness.json").read_text())
    assert [Outcome(**one) for one in content["outcomes"]] == outcomes
    assert len(content["summary"]) == 8
    assert len(content["differences"]["test_error"]) == 12
    assert content["about"]["search"] == {"trials": 5}
    table = pd.read_parquet(tmp_path / "robustness.parquet")
    assert table["test_error"].tolist() == [one.test_error for one in outcomes]
    page = (tmp_path / "robustness.md").read_text()
    assert "SYNTHETIC" in page
    assert "a note" in page
    assert "| CSSL-100 | tpe | 3 | 40 | 5 | 57.00 +- 24.84 | 56.00 +- 24.84 | 11.0 +- 2.5 | 6.0 +- 2.5 |" in page
    assert page.count("| contrastive less supervised |") == 4
    assert "2.56" not in page
    assert "published: test error 2.56 %" in as_page(outcomes, replace(ABOUT, dataset="cifar10", synthetic=False))


def test_a_mean_count_of_images_is_short():
    rows = [replace(one, images=46 + (one.seed == 0)) for one in study(3)]
    assert "| CSSL-100 | tpe | 3 | 46.3 | 5 |" in as_page(rows, ABOUT)


def test_one_seed_has_no_interval_and_the_files_no_nan(tmp_path):
    write_study(study(1), ABOUT, tmp_path)
    text = (tmp_path / "robustness.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["summary"][0]["test_error/half"] is None
    page = (tmp_path / "robustness.md").read_text()
    assert "one seed: none" in page
    assert "nan" not in page


def points(axes):
    return sorted(
        round(float(value), 6)
        for drawn in axes.lines
        if drawn.get_marker() == "o"
        for value in drawn.get_ydata()
    )  # fmt: skip


def test_every_seed_is_a_point_of_its_panel():
    outcomes = study()
    left, middle, right = robustness_figure(outcomes, "title").axes
    assert points(left) == sorted(round(100 * one.test_error, 6) for one in outcomes if one.sampler == "tpe")
    assert points(middle) == sorted(round(100 * one.test_error, 6) for one in outcomes)
    assert points(right) == sorted(one.device_seconds for one in outcomes)
    assert right.get_ylabel() == "device seconds"
    right = robustness_figure(outcomes, "title", "cpu_seconds").axes[2]
    assert (points(right), right.get_ylabel()) == (sorted(one.cpu_seconds for one in outcomes), "CPU seconds")
    assert [text.get_text() for text in left.get_xticklabels()] == list(ARMS)
    assert right.get_yscale() == "log"
    means = [drawn for drawn in middle.lines if drawn.get_marker() == "_"]
    assert len(means) == 8


def test_one_arm_and_one_sampler_are_drawn_too():
    outcomes = [one for one in study(1) if (one.arm, one.sampler) == ("CSSL-10", "random")]
    left, middle, _ = robustness_figure(outcomes, "title").axes
    assert points(left) == points(middle) == [round(100 * outcomes[0].test_error, 6)]
