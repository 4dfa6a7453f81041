"""Scores against scikit-learn, the ISIC challenge's scorer, closed forms and the papers' Table V."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_rows import ISIC, random_rows, rows, softmax, tied_rows
from sklearn import metrics as sk

from dermonas.errors import ConfigError, DataError
from dermonas.metrics import scores
from dermonas.metrics.report import classification_report

NAN = float("nan")


def one_hot(predictions: list[int], classes: int) -> np.ndarray:
    return np.eye(classes)[predictions]


@pytest.mark.parametrize("make", [random_rows, tied_rows])
@pytest.mark.parametrize(("n", "classes"), [(40, 2), (300, 8), (500, 40)])
def test_scores_are_scikit_learns(make, n, classes):
    labels, probabilities = make(n, classes, seed=1)
    predictions = probabilities.argmax(axis=1)
    assert scores.accuracy(labels, probabilities) == pytest.approx(sk.accuracy_score(labels, predictions))
    assert scores.balanced_accuracy(labels, probabilities) == pytest.approx(
        sk.balanced_accuracy_score(labels, predictions)
    )
    assert scores.macro_f1(labels, probabilities) == pytest.approx(sk.f1_score(labels, predictions, average="macro"))
    for index in range(classes):
        want = sk.f1_score(labels, predictions, labels=[index], average="macro")
        assert scores.class_f1(labels, probabilities, index) == pytest.approx(want)
    assert (scores.confusion_matrix(labels, probabilities) == sk.confusion_matrix(labels, predictions)).all()


@pytest.mark.parametrize("make", [random_rows, tied_rows])
def test_areas_and_operating_points_are_scikit_learns(make):
    labels, probabilities = make(300, 8, seed=2)
    areas = scores.macro_auroc(labels, probabilities, ISIC)
    for index, name in enumerate(ISIC):
        positive = labels == index
        assert areas.by_class[name] == pytest.approx(sk.roc_auc_score(positive, probabilities[:, index]))
        false, true, _ = sk.roc_curve(positive, probabilities[:, index], drop_intermediate=False)
        point = scores.sensitivity_at_specificity(labels, probabilities, index, 0.9)
        assert point.sensitivity == pytest.approx(true[1 - false >= 0.9 - 1e-12].max())
        assert point.specificity >= 0.9 - 1e-12
        assert scores.at_threshold(labels, probabilities, index, point.threshold) == point
        for mine, theirs in zip(scores.roc_curve(labels, probabilities, index)[:2], (false, true), strict=True):
            np.testing.assert_allclose(mine, theirs)
    assert areas.value == pytest.approx(
        sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"), abs=1e-12
    )
    assert areas.left_out == ()


@pytest.mark.parametrize("k", [1, 2, 5, 12])
def test_top_k_is_scikit_learns(k):
    labels, probabilities = random_rows(200, 12, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # k = c "will result in a perfect score"
        want = sk.top_k_accuracy_score(labels, probabilities, k=k)
    assert scores.top_k_accuracy(labels, probabilities, k) == pytest.approx(want)


def test_the_report_is_scikit_learns():
    labels, probabilities = random_rows(400, 8, seed=4)
    want = sk.classification_report(labels, probabilities.argmax(axis=1), output_dict=True)
    got = classification_report(labels, probabilities, ISIC)
    keys = [*map(str, range(8)), "macro avg", "weighted avg"]
    assert [row.name for row in got.rows] == [*ISIC, "Macro average", "Weighted average"]
    for row, key in zip(got.rows, keys, strict=True):
        assert (row.precision, row.recall, row.f1, row.support) == pytest.approx(
            (want[key]["precision"], want[key]["recall"], want[key]["f1-score"], want[key]["support"])
        )
    assert got.accuracy == pytest.approx(want["accuracy"])
    assert got.weighted.recall == pytest.approx(got.accuracy)


# Figures of isic-challenge-scoring 5.6.0 (pandas 2.3) on these very rows: balanced accuracy and macro AUC.
@pytest.mark.parametrize(("levels", "balanced", "area"), [(997, 0.675, 0.8885714285714286), (4, 0.625, 0.875)])
def test_balanced_accuracy_is_the_isic_challenges(levels, balanced, area):
    labels, probabilities = challenge_rows(levels)
    assert scores.balanced_accuracy(labels, probabilities, undecided=True) == pytest.approx(balanced, abs=1e-12)
    assert scores.macro_auroc(labels, probabilities).value == pytest.approx(area, abs=1e-12)


def challenge_rows(levels: int) -> tuple[np.ndarray, np.ndarray]:
    """160 rows from whole numbers alone; with few levels the largest score is often shared."""
    i, k = np.arange(160)[:, None], np.arange(8)[None, :]
    labels = (np.arange(160) * 3 + np.arange(160) // 8) % 8
    noise = (i * 131 + k * 57 + i * k * 29 + i * i * 7) % levels
    return labels, (noise + (labels[:, None] == k) * (levels // 2)) / (2 * levels)


def test_a_shared_maximum_is_the_first_class_or_undecided():
    probabilities = np.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [0.1, 0.1, 0.8]])
    assert scores.accuracy([0, 2, 2], probabilities) == pytest.approx(2 / 3)
    assert scores.balanced_accuracy([0, 2, 2], probabilities) == pytest.approx((1 + 0.5) / 2)
    assert scores.balanced_accuracy([0, 2, 2], probabilities, undecided=True) == pytest.approx((0 + 0.5) / 2)
    assert scores.top_k_accuracy([1, 2, 2], probabilities, 1) == pytest.approx(1 / 3)
    assert scores.top_k_accuracy([1, 2, 2], probabilities, 2) == 1


def test_absent_classes_have_no_figures():
    # Labels 0 and 1; class 2 is predicted once but has no row, class 3 does not occur.
    probabilities = one_hot([0, 0, 1, 2], 4)
    got = classification_report([0, 0, 1, 1], probabilities)
    table = [(row.precision, row.recall, row.f1, row.support) for row in got.classes]
    assert table[:2] == [(1, 1, 1, 2), (1, 0.5, pytest.approx(2 / 3), 2)]
    assert table[2] == (0, pytest.approx(NAN, nan_ok=True), 0, 0)
    assert table[3] == (*(pytest.approx(NAN, nan_ok=True),) * 3, 0)
    assert scores.balanced_accuracy([0, 0, 1, 1], probabilities) == got.macro.recall == 0.75
    assert scores.macro_f1([0, 0, 1, 1], probabilities) == got.macro.f1 == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert got.macro.precision == pytest.approx(2 / 3)
    areas = scores.macro_auroc([0, 0, 1, 1], probabilities, ["a", "b", "c", "d"])
    assert areas.left_out == ("c", "d")
    assert areas.value == pytest.approx((1 + 0.75) / 2)
    assert math.isnan(scores.class_f1([0, 0, 1, 1], probabilities, 3))


def test_data_of_one_class():
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7]])
    assert scores.accuracy([0, 0], probabilities) == scores.balanced_accuracy([0, 0], probabilities) == 0.5
    areas = scores.macro_auroc([0, 0], probabilities)
    assert math.isnan(areas.value)
    assert areas.left_out == ("0", "1")
    point = scores.sensitivity_at_specificity([0, 0], probabilities, 1)
    assert (point.positives, point.negatives) == (0, 2)
    assert math.isnan(point.sensitivity)
    without = scores.sensitivity_at_specificity([0, 0], probabilities, 0)
    assert (without.positives, without.negatives) == (2, 0)
    assert math.isnan(without.threshold)
    assert math.isnan(without.sensitivity)
    assert scores.at_threshold([0, 0], probabilities, 0, 0.5).sensitivity == 0.5


def test_the_threshold_is_the_lowest_that_keeps_the_specificity():
    negative = np.arange(10) / 20  # 0 .. 0.45: nine of ten below 0.45
    scored = np.r_[negative, 0.45, 0.44, 0.5, 0.2]
    probabilities = np.stack([scored, 1 - scored], axis=1)
    labels = np.r_[np.ones(10, int), np.zeros(4, int)]
    point = scores.sensitivity_at_specificity(labels, probabilities, 0, 0.9)
    assert (point.threshold, point.sensitivity, point.specificity) == (0.44, 0.75, 0.9)
    strict = scores.sensitivity_at_specificity(labels, probabilities, 0, 0.95)
    assert (strict.threshold, strict.sensitivity, strict.specificity) == (0.5, 0.25, 1.0)
    worst = scores.sensitivity_at_specificity(labels, np.full((14, 2), 0.5), 0, 0.9)
    assert (worst.threshold, worst.sensitivity, worst.specificity) == (math.inf, 0.0, 1.0)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], np.empty((0, 3)), "no rows"),
        ([0, 3], np.full((2, 3), 0.3), "row 1: label 3 is not in 0..2"),
        ([0, -1], np.full((2, 3), 0.3), "row 1: label -1"),
        ([0.0, 1.0], np.full((2, 3), 0.3), "integer class indices"),
        ([[0], [1]], np.full((2, 3), 0.3), "one class index a row"),
        ([0, 1], np.full((3, 3), 0.3), "2 labels for 3 rows"),
        ([0, 1], np.full((2, 1), 0.3), "at least two classes"),
        ([0, 1], np.array([[0.5, 0.5], [NAN, 0.5]]), "row 1: probabilities hold a value that is not finite"),
        ([0, 1], np.array([[0.5, 0.5], [3.0, -2.0]]), "row 1: a probability is outside 0..1; are these logits?"),
    ],
)
def test_rows_that_cannot_be_scored(labels, probabilities, message):
    for score in (
        scores.accuracy,
        scores.balanced_accuracy,
        scores.macro_f1,
        scores.macro_auroc,
        classification_report,
    ):
        with pytest.raises(DataError, match=message):
            score(labels, probabilities)


def test_impossible_settings():
    labels, probabilities = random_rows(10, 3, seed=5)
    with pytest.raises(ConfigError, match="class 3 does not exist"):
        scores.class_f1(labels, probabilities, 3)
    for k in (0, 4):
        with pytest.raises(ConfigError, match=f"top-{k}"):
            scores.top_k_accuracy(labels, probabilities, k)
    with pytest.raises(ConfigError, match="specificity is 1"):
        scores.sensitivity_at_specificity(labels, probabilities, 0, 1.0)
    with pytest.raises(DataError, match="2 class names for 3 classes"):
        classification_report(labels, probabilities, ["a", "b"])


def every_score(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return np.array(
        [
            scores.accuracy(labels, probabilities),
            scores.balanced_accuracy(labels, probabilities),
            scores.macro_f1(labels, probabilities),
            scores.macro_auroc(labels, probabilities).value,
            scores.sensitivity_at_specificity(labels, probabilities, 0).sensitivity,
            scores.top_k_accuracy(labels, probabilities, 2),
        ]
    )


@given(rows(), st.randoms(use_true_random=False))
def test_scores_are_shares_and_row_order_is_no_matter(drawn, random):
    labels, probabilities = drawn
    got = every_score(labels, probabilities)
    defined = got[~np.isnan(got)]
    assert ((defined >= 0) & (defined <= 1)).all()
    order = list(range(len(labels)))
    random.shuffle(order)
    np.testing.assert_allclose(every_score(labels[order], probabilities[order]), got)


@pytest.mark.parametrize("seed", range(5))
def test_class_order_is_no_matter(seed):
    labels, probabilities = random_rows(60, 5, seed)
    order = np.r_[0, 1 + np.array([3, 0, 2, 1])]  # class 0 stays: its sensitivity is asked for
    renamed = np.argsort(order)[labels]
    np.testing.assert_allclose(every_score(renamed, probabilities[:, order]), every_score(labels, probabilities))


@given(rows(), st.sampled_from([np.sqrt, np.square, lambda p: p / 3, lambda p: np.log1p(p) / 2]))
def test_areas_depend_on_order_alone(drawn, transform):
    labels, probabilities = drawn
    before = scores.macro_auroc(labels, probabilities).by_class
    after = scores.macro_auroc(labels, transform(probabilities)).by_class
    assert list(after.values()) == pytest.approx(list(before.values()), nan_ok=True)


def test_a_perfect_and_a_constant_model():
    labels, _ = random_rows(50, 4, seed=6)
    assert (every_score(labels, np.eye(4)[labels]) == 1).all()
    constant = every_score(labels, softmax(np.zeros((50, 4))))
    assert constant[1] == 0.25
    assert constant[3] == 0.5
    assert constant[4] == 0


# CSNAS, Table V (DermoCSNAS N=5 on 3,776 test images): precision, recall, F1, support. Copied from
# shared/spec/tables.json, table_V_report.
TABLE_V = (
    (0.84, 0.81, 0.83, 647),
    (0.92, 0.95, 0.93, 1991),
    (0.87, 0.90, 0.88, 465),
    (0.79, 0.62, 0.69, 119),
    (0.76, 0.76, 0.76, 381),
    (0.85, 0.78, 0.81, 36),
    (0.97, 0.72, 0.82, 39),
    (0.75, 0.67, 0.71, 98),
)


def test_the_published_report_cannot_be_that_of_the_published_accuracy():
    labels = np.repeat(np.arange(8), [row[3] for row in TABLE_V])
    # The most hits that a printed recall allows: below the next hundredth's rounding point.
    hits = [math.ceil(row[3] * (row[1] + 0.005)) - 1 for row in TABLE_V]
    predictions = np.concatenate(
        [
            np.r_[np.full(hit, k), np.full(row[3] - hit, (k + 1) % 8)]
            for k, (hit, row) in enumerate(zip(hits, TABLE_V, strict=True))
        ]
    )
    got = classification_report(labels, one_hot(predictions.tolist(), 8), ISIC)
    assert [row.support for row in got.classes] == [row[3] for row in TABLE_V]
    assert got.macro.support == 3776
    assert [round(row.recall, 2) for row in got.classes] == [row[1] for row in TABLE_V]
    bound = sum(row[3] * (row[1] + 0.005) for row in TABLE_V) / 3776
    assert got.accuracy <= bound
    assert round(bound, 4) == 0.8840  # Table IV prints 0.8868
    assert np.mean([row[2] for row in TABLE_V]) == pytest.approx(0.804, abs=5e-4)  # printed 0.81
