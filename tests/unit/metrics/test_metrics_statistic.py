"""A weighted metric is the plain metric of rows repeated as often as they weigh."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_rows import ISIC, random_rows, repeat, rows, tied_rows

from dermonas.errors import ConfigError, DataError
from dermonas.metrics import scores, statistic
from dermonas.metrics.calibration import expected_calibration_error
from dermonas.seeding import numpy_generator

PLAIN = {
    "accuracy": scores.accuracy,
    "balanced_accuracy": scores.balanced_accuracy,
    "macro_f1": scores.macro_f1,
    "melanoma_f1": lambda labels, p: scores.class_f1(labels, p, 0),
    "melanoma_sensitivity_at_90_specificity": lambda labels, p: (
        scores.sensitivity_at_specificity(labels, p, 0).sensitivity
    ),
    "auroc_macro": lambda labels, p: scores.macro_auroc(labels, p).value,
    "ece": expected_calibration_error,
}


@pytest.mark.parametrize("make", [random_rows, tied_rows])
def test_weights_are_repetitions(make):
    labels, probabilities = make(120, 8, seed=1)
    bound = statistic.bind(statistic.headline_metrics(ISIC), labels, probabilities)
    assert set(bound) == set(PLAIN)
    weights = numpy_generator(2, "weights").poisson(1.0, (30, 120)).astype(np.float64)
    weights[:, :8] += 1  # every class has a row
    for name, metric in bound.items():
        want = [PLAIN[name](*repeat(row, labels, probabilities)) for row in weights]
        np.testing.assert_allclose(metric(weights), want, err_msg=name)
        assert metric.value == pytest.approx(PLAIN[name](labels, probabilities)), name


@given(rows(), st.integers(0, 1000))
def test_any_rows_any_weights(drawn, seed):
    labels, probabilities = drawn
    rng = numpy_generator(seed, "weights")
    weights = rng.integers(0, 3, (4, len(labels))).astype(np.float64)
    weights[:, rng.integers(0, len(labels))] += 1
    names = ("MEL", *map(str, range(1, probabilities.shape[1])))
    for name, metric in statistic.bind(statistic.headline_metrics(names), labels, probabilities).items():
        for value, row in zip(metric(weights), weights, strict=True):
            truth, scored = repeat(row, labels, probabilities)
            if set(truth) == set(labels) and name != "macro_f1":
                assert value == pytest.approx(PLAIN[name](truth, scored), nan_ok=True), name


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1", "melanoma_f1", "auroc_macro"])
def test_a_resample_without_a_class_has_no_macro_figure(name):
    labels = np.array([0, 1, 1, 2, 2])
    probabilities = random_rows(5, 3, seed=3)[1]
    metric = statistic.headline_metrics(("MEL", "NV", "BCC"))[name](labels, probabilities)
    with_all, without = np.array([[1.0, 1, 1, 1, 1]]), np.array([[0.0, 2, 1, 1, 1]])
    assert np.isfinite(metric(with_all)).all()
    assert np.isnan(metric(without)).all()


def test_a_class_predicted_in_the_whole_stays_in_the_macro_f1():
    labels, probabilities = np.array([0, 1, 1]), np.eye(3)[[0, 1, 2]]
    metric = statistic.macro_f1(labels, probabilities)
    assert metric.value == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert metric(np.array([[1.0, 2, 0]]))[0] == pytest.approx((1 + 1 + 0) / 3)


def test_headline_metrics_follow_the_classes():
    assert "melanoma_f1" not in statistic.headline_metrics(["cat", "dog"])
    assert "top5_accuracy" not in statistic.headline_metrics(ISIC)
    labels, probabilities = random_rows(80, 12, seed=4)
    names = [str(k) for k in range(12)]
    metric = statistic.headline_metrics(names)["top5_accuracy"](labels, probabilities)
    assert metric.value == pytest.approx(scores.top_k_accuracy(labels, probabilities, 5))


def test_differences_need_the_same_rows():
    first = statistic.accuracy(*random_rows(20, 3, seed=5))
    second = statistic.accuracy(*random_rows(21, 3, seed=5))
    with pytest.raises(DataError, match="20 and 21 rows"):
        first - second
    with pytest.raises(DataError, match="do the models share their rows"):
        first(np.ones((2, 21)))
    with pytest.raises(ConfigError, match="class 5"):
        statistic.class_f1(5)(*random_rows(20, 3, seed=5))
    assert (first - first).value == 0
