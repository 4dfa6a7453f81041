"""Calibration errors and temperatures against loops, scikit-learn and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from metric_rows import random_rows, rows, softmax
from sklearn import metrics as sk

from dermonas.errors import ConfigError, DataError
from dermonas.metrics import calibration, temperature
from dermonas.seeding import numpy_generator


def slow_ece(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    total = 0.0
    for index in range(bins):
        low, high = np.linspace(0, 1, bins + 1)[index : index + 2]
        inside = [(c, r) for c, r in zip(confidence, right, strict=True) if low < c <= high or (index == 0 and c == 0)]
        if inside:
            total += abs(sum(c - r for c, r in inside))
    return total / len(confidence)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_errors_are_those_of_a_loop(bins):
    labels, probabilities = random_rows(200, 5, seed=1)
    right = probabilities.argmax(axis=1) == labels
    got = calibration.reliability(labels, probabilities, bins=bins)
    assert got.ece == pytest.approx(slow_ece(probabilities.max(axis=1), right, bins))
    assert got.counts.sum() == 200
    classwise = np.mean([slow_ece(probabilities[:, k], labels == k, bins) for k in range(5)])
    assert calibration.classwise_calibration_error(labels, probabilities, bins=bins) == pytest.approx(classwise)


def test_reliability_by_hand():
    # Four rows at .9, three of them right; two at .6, none right.
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]] * 2)
    got = calibration.reliability([0, 0, 0, 1, 1, 1], probabilities, bins=10)
    assert got.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 4, 0]
    assert got.accuracy[[5, 8]].tolist() == [0, 0.75]
    assert got.confidence[[5, 8]] == pytest.approx([0.6, 0.9])
    assert np.isnan(got.accuracy[0])
    assert got.ece == pytest.approx((4 * 0.15 + 2 * 0.6) / 6)
    assert got.mce == pytest.approx(0.6)


def test_adaptive_bins_hold_as_many_rows_each():
    labels, probabilities = random_rows(150, 3, seed=2)
    got = calibration.reliability(labels, probabilities, adaptive=True)
    assert got.counts.tolist() == [10] * 15
    tied = calibration.reliability([0, 1, 0], np.full((3, 2), 0.5), adaptive=True)
    assert tied.counts.sum() == 3
    assert tied.ece == pytest.approx(abs(2 / 3 - 0.5))


def test_brier_and_likelihood_are_scikit_learns():
    labels, probabilities = random_rows(100, 4, seed=3)
    loss = sk.log_loss(labels, probabilities, labels=range(4))
    assert calibration.negative_log_likelihood(labels, probabilities) == pytest.approx(loss)
    assert calibration.brier_score(labels, probabilities) == pytest.approx(
        np.mean(((probabilities - np.eye(4)[labels]) ** 2).sum(axis=1))
    )
    labels, probabilities = random_rows(100, 2, seed=3)
    assert calibration.brier_score(labels, probabilities) == pytest.approx(
        2 * sk.brier_score_loss(labels, probabilities[:, 1])
    )


def test_certainty():
    labels = np.array([0, 1, 2, 0])
    for measure in (calibration.expected_calibration_error, calibration.brier_score):
        assert measure(labels, np.eye(3)[labels]) == 0
    assert calibration.negative_log_likelihood(labels, np.eye(3)[labels]) == 0
    wrong = np.eye(3)[[1, 2, 0, 1]]
    assert calibration.expected_calibration_error(labels, wrong) == 1
    assert calibration.brier_score(labels, wrong) == 2
    assert calibration.negative_log_likelihood(labels, wrong) == pytest.approx(-math.log(2.0**-52))


@given(rows())
def test_errors_are_in_range_and_row_order_is_no_matter(drawn):
    labels, probabilities = drawn
    for measure, top in (
        (calibration.expected_calibration_error, 1),
        (calibration.classwise_calibration_error, 1),
        (calibration.brier_score, 2),
        (lambda y, p: calibration.reliability(y, p, adaptive=True).ece, 1),
    ):
        value = measure(labels, probabilities)
        assert 0 <= value <= top
        assert measure(labels[::-1], probabilities[::-1]) == pytest.approx(value)


def test_what_noise_alone_gives():
    # One bin: |binomial(400, .8) / 400 - .8| has mean sqrt(2 / pi) * .02 and 95th percentile 1.96 * .02.
    mean, high = calibration.calibrated_error(np.tile([0.8, 0.2], (400, 1)), replicates=4000)
    assert mean == pytest.approx(math.sqrt(2 / math.pi) * 0.02, rel=0.05)
    assert high == pytest.approx(0.0392, abs=0.002)
    assert calibration.calibrated_error(np.eye(3)) == (0, 0)
    beyond = 0
    for seed in range(100):
        labels, logits = overconfident(400, 1.0, seed)
        mean, high = calibration.calibrated_error(softmax(logits), replicates=200, seed=seed)
        beyond += calibration.expected_calibration_error(labels, softmax(logits)) > high
        assert calibration.expected_calibration_error(labels, softmax(2 * logits)) > mean
    assert beyond <= 12  # binomial(100, .05) is so in 99.9 %
    mean, _ = calibration.calibrated_error(softmax(logits))
    assert calibration.calibrated_error(softmax(logits[::-1]), seed=1)[0] == pytest.approx(mean, rel=0.05)
    with pytest.raises(ConfigError, match="replicates is 0"):
        calibration.calibrated_error(np.eye(3), replicates=0)


def test_calibration_needs_distributions():
    with pytest.raises(DataError, match=r"row 1: probabilities sum to 0\.8000, not 1"):
        calibration.brier_score([0, 1], np.array([[0.5, 0.5], [0.4, 0.4]]))
    with pytest.raises(ConfigError, match="bins is 0"):
        calibration.reliability([0], np.array([[0.5, 0.5]]), bins=0)


def overconfident(n: int, true: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels are drawn from softmax(logits / true)."""
    rng = numpy_generator(seed, "logits")
    logits = rng.normal(size=(n, 6)) * 4
    chances = softmax(logits / true).cumsum(axis=1)
    return (rng.random((n, 1)) > chances[:, :-1]).sum(axis=1), logits


@pytest.mark.parametrize("true", [0.6, 1.0, 2.5])
def test_a_known_temperature_is_found(true):
    labels, logits = overconfident(20000, true, seed=4)
    got = temperature.fit_temperature(labels, logits)
    assert got.value == pytest.approx(true, rel=0.03)
    assert got.nll_after <= got.nll_before
    assert got.ece_after < 0.012
    assert got.warning == ""


def test_the_temperature_of_two_levels_is_exact():
    # Logits (a, -a), right in 8 of 10: sigmoid(2a / T) = .8.
    logits = np.tile([3.0, -3.0], (10, 1))
    got = temperature.fit_temperature([0] * 8 + [1] * 2, logits)
    assert got.value == pytest.approx(6 / math.log(4), rel=1e-8)
    assert got.ece_after == pytest.approx(0, abs=1e-8)
    assert got.nll_after == pytest.approx(-(0.8 * math.log(0.8) + 0.2 * math.log(0.2)))


def test_the_temperature_is_the_minimum_and_follows_the_logits_scale():
    labels, logits = overconfident(300, 1.7, seed=5)
    got = temperature.fit_temperature(labels, logits)
    for factor in (0.98, 1.02):
        nearby = calibration.negative_log_likelihood(labels, temperature.scaled(logits, got.value * factor))
        assert nearby > got.nll_after
    shifted = temperature.fit_temperature(labels, 2 * logits + np.arange(300)[:, None])
    assert shifted.value == pytest.approx(2 * got.value, rel=1e-6)
    assert (temperature.scaled(logits, got.value).argmax(axis=1) == logits.argmax(axis=1)).all()


def test_rows_that_cannot_tell_a_temperature():
    labels = np.array([0, 1, 2])
    right = temperature.fit_temperature(labels, 5 * np.eye(3))
    assert right.value == temperature.BOUNDS[0]
    assert "lower bound" in right.warning
    wrong = temperature.fit_temperature(labels, -5 * np.eye(3))
    assert wrong.value == temperature.BOUNDS[1]
    assert "upper bound" in wrong.warning
    flat = temperature.fit_temperature(labels, np.zeros((3, 3)))
    assert flat.value == 1
    assert "does nothing" in flat.warning


def test_cross_fitting_judges_groups_that_the_fit_has_not_seen(monkeypatch):
    labels, logits = overconfident(200, 2.0, seed=6)
    groups = np.arange(200) // 4
    keyed = logits + groups[:, None]  # the group can be read from the largest logits; softmax does not see it
    seen = []
    fit = temperature._minimum

    def spy(truth, raw):
        seen.append({int(row) for row in np.unique(np.searchsorted(np.sort(keyed[:, 0]), raw[:, 0]))})
        return fit(truth, raw)

    monkeypatch.setattr(temperature, "_minimum", spy)
    got = temperature.cross_fitted_temperature(labels, keyed, groups.tolist(), seed=1)
    order = np.argsort(keyed[:, 0])
    fitted_groups = [set(groups[order[list(rows)]].tolist()) for rows in seen]
    assert len(fitted_groups) == 6
    assert fitted_groups[-1] == set(range(50))
    for inside, positions in zip(fitted_groups[:-1], seen[:-1], strict=True):
        assert len(inside) == 40
        assert len(positions) == 160  # no group is split
    assert len(got.by_fold) == 5
    assert min(got.by_fold) < got.value < max(got.by_fold)
    assert got.value == pytest.approx(2.0, rel=0.25)
    assert got.ece_after < got.ece_before
    assert got == temperature.cross_fitted_temperature(labels, keyed, groups.tolist(), seed=1)


def test_a_class_with_few_validation_images_takes_train_rows_in():
    labels, logits = overconfident(120, 2.0, seed=7)
    labels = np.where(labels == 5, 4, labels)
    labels[:3] = 5
    names = ["MEL", "NV", "BCC", "AK", "BKL", "DF"]
    more = overconfident(300, 1.0, seed=8)
    got = temperature.calibrating_temperature(labels, logits, None, train=(*more, None), names=names)
    assert len(got.by_fold) == 5
    assert got.warning.startswith("fewer than 10 validation images of DF 3: temperature cross-fitted on train")
    alone = temperature.calibrating_temperature(labels, logits, None, names=names)
    assert alone.by_fold == ()
    assert alone.value == temperature.fit_temperature(labels, logits).value
    assert "DF 3: their probabilities are hardly calibrated" in alone.warning
    enough = temperature.calibrating_temperature(labels, logits, None, train=(*more, None), minimum=3)
    assert enough == temperature.fit_temperature(labels, logits)


def test_impossible_temperatures():
    labels, logits = overconfident(20, 1.0, seed=9)
    with pytest.raises(ConfigError, match="temperature is 0"):
        temperature.scaled(logits, 0.0)
    with pytest.raises(ConfigError, match="folds is 1"):
        temperature.cross_fitted_temperature(labels, logits, None, folds=1)
    with pytest.raises(DataError, match="4 groups for 5 folds"):
        temperature.cross_fitted_temperature(labels, logits, [0, 1, 2, 3] * 5)
    with pytest.raises(DataError, match="row 0: logits hold a value that is not finite"):
        temperature.fit_temperature(labels, np.full((20, 6), np.inf))
    with pytest.raises(DataError, match="train logits have 3 classes"):
        temperature.calibrating_temperature(labels, logits, None, train=([0], np.zeros((1, 3)), None))
