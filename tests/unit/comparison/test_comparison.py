from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from compared import CLASSES, candidate, comparison, result, three
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from dermonas.comparison.candidates import Candidate
from dermonas.comparison.front import pareto
from dermonas.comparison.published import Printed, mark, published
from dermonas.comparison.scores import Score, mean_of
from dermonas.comparison.tables import to_csv, to_json
from dermonas.errors import ConfigError, DataError
from dermonas.metrics import statistic
from dermonas.metrics.intervals import GroupBootstrap
from dermonas.metrics.paired import mcnemar, paired_bootstrap

PAPERS = {"isic": 13, "cifar10": 26, "imagenet": 31}


def test_figures_equal_direct_computation():
    found = comparison(three(seeds=3))
    for row in found.ours:
        runs = row.candidate.runs
        for key, reference in (
            ("accuracy", accuracy_score),
            ("balanced_accuracy", balanced_accuracy_score),
            ("melanoma_f1", lambda y, p: f1_score(y == 0, p == 0)),
        ):
            values = [reference(run.labels, run.probabilities.argmax(axis=1)) for run in runs]
            score = row.cells[key]
            assert score.by_seed == pytest.approx(values, abs=1e-12)
            assert score.mean == pytest.approx(np.mean(values), abs=1e-12)
            assert score.sd == pytest.approx(np.std(values, ddof=1), abs=1e-12)
            assert score.interval.lo <= score.mean <= score.interval.hi
            assert score.interval.lo < score.interval.hi
        error, accuracy = row.cells["error"], row.cells["accuracy"]
        assert error.mean == pytest.approx(1 - accuracy.mean)
        assert (error.interval.lo, error.interval.hi) == (1 - accuracy.interval.hi, 1 - accuracy.interval.lo)
        assert error.interval.lo <= error.mean <= error.interval.hi


def test_one_training_has_no_spread():
    assert [row.cells["accuracy"].sd for row in comparison().ours] == [None] * 3


def test_seeds_are_resampled_together():
    """The interval of the mean is the interval of the mean on each resample, not a mean of intervals."""
    trained = candidate("net", 0.7, seeds=2)
    found = comparison([trained]).ours[0].cells["accuracy"].interval
    right = np.mean([run.probabilities.argmax(axis=1) == run.labels for run in trained.runs], axis=0)
    bootstrap = GroupBootstrap(trained.runs[0].groups, len(right), replicates=300, seed=0)
    draws = np.concatenate([(weights @ right) / weights.sum(axis=1) for weights in bootstrap.weights()])
    assert (found.lo, found.hi) == pytest.approx(tuple(np.quantile(draws, (0.025, 0.975))))


def test_paired_tests_are_those_of_metrics_and_corrected_by_hand():
    found = comparison(three(seeds=2), replicates=900)
    assert [(pair.first, pair.second) for pair in found.tests] == [(0, 1), (0, 2)]
    ours = [row.candidate for row in found.ours]
    bootstrap = GroupBootstrap(ours[0].runs[0].groups, found.split.images, replicates=900, seed=0)

    def bound(trained: Candidate, name: str) -> statistic.Statistic:
        metric = getattr(statistic, name)
        return mean_of([metric(run.labels, run.probabilities) for run in trained.runs])

    raw = {}
    for pair in found.tests:
        for name, difference in pair.differences.items():
            direct = paired_bootstrap(bound(ours[pair.first], name), bound(ours[pair.second], name), bootstrap)
            for key in ("first", "second", "p_value", "probability_first_higher"):
                assert getattr(difference, key) == pytest.approx(getattr(direct, key), abs=1e-12)
            assert difference.difference.lo == pytest.approx(direct.difference.lo, abs=1e-12)
            assert difference.difference.hi == pytest.approx(direct.difference.hi, abs=1e-12)
            raw[pair.first, pair.second, name] = direct.p_value
        rights = [ours[place].runs[0] for place in (pair.first, pair.second)]
        assert pair.mcnemar == mcnemar(*(run.probabilities.argmax(axis=1) == run.labels for run in rights))
    largest = 0.0
    for rank, key in enumerate(sorted(raw, key=raw.get)):
        largest = max(largest, min(1.0, (4 - rank) * raw[key]))
        pair = next(pair for pair in found.tests if (pair.first, pair.second) == key[:2])
        assert pair.corrected[key[2]] == pytest.approx(largest)
    low, high = sorted(pair.mcnemar.p_value for pair in found.tests)
    assert sorted(pair.mcnemar_corrected for pair in found.tests) == pytest.approx(
        [min(1, 2 * low), max(min(1, 2 * low), high)]
    )


def test_resamples_grow_with_the_tests_so_that_holm_can_resolve():
    many = [candidate("net", 0.95), *(candidate(f"timm{k}", 0.1, kind="timm") for k in range(12))]
    found = comparison(many, replicates=100)
    assert found.split.replicates == 200 * 2 * 12
    assert max(pair.corrected["accuracy"] for pair in found.tests) < 0.05


def test_pairs_stay_within_a_label_fraction_and_follow_the_reference():
    some = [candidate("net", 0.5, label_fraction=0.1), candidate("base", 0.5, kind="timm", label_fraction=0.1)]
    assert [(pair.first, pair.second) for pair in comparison([*three(), *some]).tests] == [(0, 1), (0, 2), (3, 4)]
    named = comparison([*three(), *some], reference="DermoCSNAS_4")
    assert [(pair.first, pair.second) for pair in named.tests] == [(1, 0), (2, 0)]
    with pytest.raises(ConfigError, match="'resnet' is not compared here: DermoCSNAS_4"):
        comparison(reference="resnet")
    assert comparison([candidate("net", 0.5)]).tests == ()


def test_a_class_that_most_resamples_lack_gives_no_interval_and_no_test():
    def rare(trained: Candidate) -> Candidate:
        run = trained.runs[0]
        labels = np.where(np.arange(len(run.labels)) == 0, 0, np.where(run.labels == 0, 1, run.labels))
        groups = tuple(str(row) if row == 0 else str(1 + row % 2) for row in range(len(labels)))
        return replace(trained, runs=(replace(run, labels=labels, groups=groups),))

    # Three lesions, one of them the only one with MEL: 30 % of the resamples lack it, more lack one of the classes.
    found = comparison([rare(trained) for trained in three()])
    assert found.ours[0].cells["balanced_accuracy"].interval.undefined > 0
    assert any("resamples a class had no lesion" in note for note in found.notes)
    alone = [replace(t, runs=(replace(t.runs[0], groups=("one",) * 90),)) for t in three()]
    pair = comparison(alone).tests[0]
    assert np.isnan(pair.differences["accuracy"].p_value)
    assert pair.corrected == {"accuracy": None, "balanced_accuracy": None}


def test_rows_in_another_order_are_the_same_rows():
    first, *others = three()
    order = np.random.default_rng(0).permutation(90)
    run = first.runs[0]
    turned = replace(run, images=tuple(run.images[i] for i in order), labels=run.labels[order],
                     probabilities=run.probabilities[order], groups=tuple(run.groups[i] for i in order))  # fmt: skip
    assert to_json(comparison([*others, replace(first, runs=(turned,))])) == to_json(comparison([*others, first]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": tuple(f"other{row}" for row in range(90))}, "other|image0000 is not in both"),
        ({"labels": (result("x", 0.5).labels + 1) % 3}, "image0000 different labels"),
        ({"groups": tuple(str(row) for row in range(90))}, "image0000 different lesions"),
        ({"probabilities": np.full((90, 4), 0.25)}, "knows 4 classes, this data set has 3"),
    ],
)
def test_answers_to_other_rows_are_refused(change, message):
    first, second, _ = three()
    odd = replace(second, runs=(replace(second.runs[0], **change),))
    with pytest.raises(DataError, match=message) as caught:
        comparison([first, odd])
    assert "\n" not in str(caught.value)
    assert second.runs[0].run_id in str(caught.value)


def test_inputs_that_make_no_sense_are_refused():
    net = candidate("net", 0.5)
    run = net.runs[0]
    for broken, message in (
        (lambda: comparison([]), "nothing to compare"),
        (lambda: comparison([net, replace(net, name="copy")]), "stands in the comparison twice"),
        (lambda: replace(net, runs=()), "has no evaluated run"),
        (lambda: replace(net, runs=(run, replace(run, run_id="again"))), "the same seed twice"),
        (lambda: replace(net, label_fraction=0.0), "label fraction 0.0"),
        (lambda: replace(net, parameters=0), "0 parameters"),
        (lambda: replace(run, images=("a",)), "1 images"),
        (lambda: replace(run, images=("a",) * 90), "image a occurs twice"),
        (lambda: replace(run, probabilities=run.probabilities * 3), "are these logits"),
    ):
        with pytest.raises(DataError, match=message):
            broken()
    with pytest.raises(ConfigError, match="layout 'table' is unknown"):
        comparison(layout="table")
    with pytest.raises(ConfigError, match="level is 1"):
        comparison(level=1.0)


def test_equal_names_are_told_apart_by_start_or_run():
    def named(run_id: str, **more) -> Candidate:
        return Candidate("net", "timm", (result(run_id, 0.5),), 5, 5, **more)

    def names(*candidates: Candidate) -> list[str]:
        return [row.name for row in comparison(list(candidates)).ours]

    assert names(named("a"), named("b", label_fraction=0.1)) == ["net", "net"]
    assert names(named("a"), named("b", start="hub")) == ["net (random)", "net (hub)"]
    assert names(named("aaaaaaaa1"), named("bbbbbbbb1")) == ["net (run aaaaaaaa)", "net (run bbbbbbbb)"]
    assert names(named("aaaaaaaa1"), named("aaaaaaaa2")) == ["net (run aaaaaaaa1)", "net (run aaaaaaaa2)"]
    assert names(named("aaaaaaaa1"), named("bbbbbbbb1"), named("c", start="hub"))[2] == "net (hub)"


POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(POINTS)
def test_the_front_is_what_nothing_dominates(points):
    def dominated(point: tuple[int, int]) -> bool:
        return any(o[0] <= point[0] and o[1] >= point[1] and o != point for o in points)

    front = pareto([cost for cost, _ in points], [score for _, score in points])
    assert sorted(front) == [place for place, point in enumerate(points) if not dominated(point)]
    assert [points[place][0] for place in front] == sorted(points[place][0] for place in front)


@pytest.mark.parametrize("layout", PAPERS)
def test_published_rows_are_marked_and_enter_nothing(layout):
    found = comparison(layout=layout)
    assert len(found.published) == PAPERS[layout] == len(published(layout).rows)
    assert not any(isinstance(cell, Score) for row in found.published for cell in row.cells.values())
    assert not any(isinstance(cell, Printed) for row in found.ours for cell in row.cells.values())
    for cost in ("parameters", "multiply_adds"):
        assert not any(row.published for row in found.front(cost))
    assert {place for pair in found.tests for place in (pair.first, pair.second)} <= {0, 1, 2}
    assert all(row.differs == "other data: ours are synthetic" for row in found.published)
    assert all("subset" in row.differs for row in comparison(layout=layout, synthetic=False, subset=True).published)
    assert not any(row.differs for row in comparison(layout=layout, synthetic=False).published)
    lines = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert [line["source"] for line in lines] == ["measured"] * 3 + ["published"] * PAPERS[layout]
    assert all("other data" in line["note"] for line in lines[3:])
    assert all(line["accuracy_sd"] == line["accuracy_lo"] == "" for line in lines[3:])
    assert {row["source"] for row in json.loads(to_json(found))["rows"][3:]} == {"published"}


def test_published_figures_are_those_of_the_papers():
    """Source: spec/tables.json (csnas)."""
    rows = {row.name: row for row in published("isic").rows}
    assert rows["DermoCSNAS N=5"].cells["accuracy"] == Printed(0.8868, 0.0002)
    assert rows["SENet154"].cells["parameters"] == 145_800_000
    assert rows["SENet154"].cells["multiply_adds"] == 42_300_000_000
    rows = {row.name: row for row in published("cifar10").rows}
    assert rows["CSNAS N=5"].cells["error"] == Printed(0.0266, 0.0007)
    assert rows["CSNAS N=5"].cells["search_days"] == 1
    rows = {row.name: row for row in published("imagenet").rows}
    assert rows["Inception-v2"].cells["top5_error"] == Printed(0.078)
    assert rows["P-DART"].cells["multiply_adds"] == 597_000_000
    assert "misprint" in rows["P-DART"].note


def test_the_front_is_taken_among_the_largest_label_fraction():
    few = candidate("few", 1.0, label_fraction=0.1, parameters=5, multiply_adds=5)
    found = comparison([*three(), few])
    assert few.name not in [row.name for row in found.front("parameters")]
    assert [row.name for row in found.front("parameters")][-1] == max(found.peers, key=_accuracy).name


def test_columns_of_other_data():
    ten = [candidate("net", 0.5, classes=10), candidate("base", 0.4, kind="timm", classes=10)]
    found = comparison(ten, "imagenet", classes=tuple("abcdefghij"))
    row = found.ours[0]
    assert "melanoma_f1" not in row.cells
    top5 = 1 - statistic.top_k(5)(row.candidate.runs[0].labels, row.candidate.runs[0].probabilities).value
    assert row.cells["top5_error"].mean == pytest.approx(top5)
    assert "top5_error" not in comparison(layout="imagenet").ours[0].cells
    assert comparison(layout="cifar10").ours[0].cells["search_days"] == 5400 / 86400
    assert comparison(classes=("a", *CLASSES[1:])).ours[0].cells.get("melanoma_f1") is None


def test_marks_of_published_rows():
    assert [mark(place) for place in (0, 8, 22, 23, 45, 46)] == ["a", "j", "z", "aa", "az", "ba"]
    assert len({mark(place) for place in range(1000)}) == 1000


def _accuracy(row) -> float:
    return row.cells["accuracy"].mean
