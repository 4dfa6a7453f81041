"""The figures of a split against scikit-learn, and what is warned about or refused."""

import math

import numpy as np
import pytest
from evaluated import manifest_rows, of_rows, predictions, random_logits, temperature
from sklearn import metrics as sk

from dermonas.errors import ConfigError, DataError
from dermonas.evaluation.evaluate import evaluate
from dermonas.metrics.calibration import expected_calibration_error
from dermonas.metrics.intervals import GroupBootstrap

HEADLINES = {
    "accuracy", "balanced_accuracy", "macro_f1", "melanoma_f1", "melanoma_sensitivity_at_90_specificity",
    "auroc_macro", "ece", "ece_before",
}  # fmt: skip


def test_figures_are_scikit_learns():
    table = predictions(600)
    test = table.split("test")
    labels, probabilities = test.labels(), test.probabilities()
    predicted = probabilities.argmax(axis=1)
    got = evaluate(table, resamples=50)
    headline = {name: interval.estimate for name, interval in got.headline.items()}
    assert set(headline) == HEADLINES
    assert headline["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert headline["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert headline["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert headline["melanoma_f1"] == pytest.approx(sk.f1_score(labels == 0, predicted == 0))
    assert headline["auroc_macro"] == pytest.approx(sk.roc_auc_score(labels, probabilities, multi_class="ovr"))
    false, true, _ = sk.roc_curve(labels == 0, probabilities[:, 0], drop_intermediate=False)
    assert headline["melanoma_sensitivity_at_90_specificity"] == pytest.approx(true[1 - false >= 0.9 - 1e-12].max())
    assert (got.confusion == sk.confusion_matrix(labels, predicted)).all()
    report = sk.classification_report(labels, predicted, output_dict=True)
    for row, key in zip(got.report.rows, [*map(str, range(8)), "macro avg", "weighted avg"], strict=True):
        assert row.recall == pytest.approx(report[key]["recall"])
        assert row.support == report[key]["support"]


def test_calibration_is_before_and_after_the_temperature():
    got = evaluate(predictions(600, temperature=temperature(2.5)), resamples=50)
    rows = got.predictions
    raw = np.exp(rows.logits()) / np.exp(rows.logits()).sum(axis=1, keepdims=True)
    assert got.before.ece == pytest.approx(expected_calibration_error(rows.labels(), raw))
    assert got.after.ece == pytest.approx(expected_calibration_error(rows.labels(), rows.probabilities()))
    assert got.headline["ece_before"].estimate == pytest.approx(got.before.ece)
    assert got.headline["ece"].estimate == pytest.approx(got.after.ece)
    assert got.before.ece != pytest.approx(got.after.ece, abs=0.01)
    assert 0 < got.noise_after[0] < got.noise_after[1] < 0.2
    assert got.temperature == temperature(2.5)


def test_metrics_have_the_names_of_every_model_and_are_finite():
    got = evaluate(predictions(400), resamples=200)
    metrics = got.metrics()
    ends = {"", "/lo", "/hi"}
    assert set(metrics) == {f"test/{name}{end}" for name in HEADLINES for end in ends} | {
        "test/ece_noise", "test/ece_noise/p95"
    }  # fmt: skip
    assert all(math.isfinite(value) for value in metrics.values())
    for name in HEADLINES - {"ece", "ece_before"}:  # resampling raises a calibration error
        assert metrics[f"test/{name}/lo"] < metrics[f"test/{name}"] < metrics[f"test/{name}/hi"]
    assert set(got.metrics("external")) == {name.replace("test/", "external/") for name in metrics}
    assert set(evaluate(predictions(400), "validation", resamples=20).metrics()) == {
        name.replace("test/", "validation/") for name in metrics
    }


def test_ten_classes_have_a_top5_accuracy_and_foreign_ones_no_melanoma():
    classes = tuple(f"class {index}" for index in range(10))
    got = evaluate(predictions(600, classes), resamples=20)
    test = got.predictions
    want = sk.top_k_accuracy_score(test.labels(), test.probabilities(), k=5)
    assert got.headline["top5_accuracy"].estimate == pytest.approx(want)
    assert not [name for name in got.headline if "melanoma" in name]
    assert got.melanoma is None
    assert got.melanoma_point is None
    nevus = evaluate(predictions(300), melanoma="NV", resamples=20)
    assert nevus.melanoma == "NV"
    assert nevus.headline["melanoma_f1"].estimate == pytest.approx(nevus.report.classes[1].f1)


def test_intervals_resample_lesions():
    """Every image twice in its lesion says nothing new: the intervals stay exactly as they are."""
    rows = manifest_rows(300)
    rows["split"] = "test"
    rows["group"] = [str(row) for row in range(300)]
    logits = random_logits(rows)
    once = evaluate(of_rows(rows, logits), resamples=300)
    twice = rows.loc[np.repeat(rows.index, 2)].reset_index(drop=True)
    doubled = evaluate(of_rows(twice, np.repeat(logits, 2, axis=0)), resamples=300)
    alone = evaluate(of_rows(twice.assign(group=twice.index.astype(str)), np.repeat(logits, 2, axis=0)), resamples=300)
    for name in HEADLINES:
        assert doubled.headline[name].lo == pytest.approx(once.headline[name].lo)
        assert doubled.headline[name].hi == pytest.approx(once.headline[name].hi)
    width = once.headline["accuracy"].hi - once.headline["accuracy"].lo
    assert alone.headline["accuracy"].hi - alone.headline["accuracy"].lo < 0.85 * width
    assert (once.groups, doubled.groups, alone.groups) == (300, 300, 600)


def test_the_same_seed_gives_the_same_intervals():
    table = predictions(200)
    assert evaluate(table, resamples=100).headline == evaluate(table, resamples=100).headline
    assert evaluate(table, resamples=100).headline != evaluate(table, resamples=100, seed=1).headline


def test_only_the_split_asked_for_is_read():
    table = predictions(300)
    want = evaluate(table, resamples=50)
    other = (table.frame["split"] != "test").to_numpy()
    poisoned = table.frame.copy()
    numbers = [name for name in poisoned.columns if name.startswith(("logit_", "p_"))]
    poisoned.loc[other, numbers] = np.nan
    poisoned.loc[other, ["label", "group"]] = None
    table = of_rows(manifest_rows(300), random_logits(manifest_rows(300)))
    object.__setattr__(table, "frame", poisoned)
    got = evaluate(table, resamples=50)
    assert got.headline == want.headline
    assert got.subgroups == want.subgroups
    assert got.warnings == want.warnings
    with pytest.raises(DataError):
        evaluate(table, "validation", resamples=50)


def test_subgroups_are_by_sex_age_band_and_site():
    table = predictions(600)
    got = evaluate(table, resamples=50)
    rows = got.predictions
    values = {(row.column, row.value): row for row in got.subgroups}
    assert {column for column, _ in values} == {"sex", "age", "site"}
    assert {value for column, value in values if column == "age"} == {
        "0-29", "30-44", "45-59", "60-74", "75+", "unknown"
    }  # fmt: skip
    chosen = (rows.frame["sex"] == "female").to_numpy()
    female = values["sex", "female"]
    assert female.rows == chosen.sum()
    right = rows.probabilities()[chosen].argmax(axis=1) == rows.labels()[chosen]
    assert female.figures["accuracy"].estimate == pytest.approx(right.mean())
    assert sum(row.rows for row in got.subgroups if row.column == "site") == len(rows)


def test_without_metadata_there_is_no_subgroup_table():
    rows = manifest_rows(100).drop(columns=["sex", "age_approx"]).assign(anatom_site_general=None)
    got = evaluate(of_rows(rows, random_logits(rows)), resamples=20)
    assert got.subgroups == ()


def test_an_absent_class_is_warned_about_and_left_out():
    rows = manifest_rows(300)
    logits = random_logits(rows)
    kept = (rows["label"] != "DF").to_numpy()
    got = evaluate(of_rows(rows[kept].reset_index(drop=True), logits[kept]), resamples=50)
    assert [text for text in got.warnings if text.startswith("no image of DF in test")]
    assert got.areas.left_out == ("DF",)
    assert all(math.isfinite(value) for value in got.metrics().values())
    assert "test/balanced_accuracy" in got.metrics()


def test_a_class_with_one_image_is_warned_about_with_its_undefined_resamples():
    rows = manifest_rows(300)
    logits = random_logits(rows)
    few = np.flatnonzero((rows["label"] == "VASC") & (rows["split"] == "test"))
    kept = np.setdiff1d(np.arange(300), few[1:])
    got = evaluate(of_rows(rows.iloc[kept].reset_index(drop=True), logits[kept]), resamples=400)
    text = "\n".join(got.warnings)
    assert "a single image of VASC in test" in text
    # A group is missing from a resample of n with probability (1 - 1/n)^n, about e^-1.
    undefined = got.headline["balanced_accuracy"].undefined
    assert undefined / 400 == pytest.approx(math.exp(-1), abs=0.08)
    assert f"balanced_accuracy does not exist in {undefined} of 400 resamples" in text
    assert got.headline["accuracy"].undefined == 0
    assert "accuracy does not" not in text.replace("balanced_accuracy", "")


def test_one_lesion_has_no_interval():
    rows = manifest_rows(300).assign(split="test", group="the one")
    got = evaluate(of_rows(rows, random_logits(rows)), resamples=20)
    assert "one group of images only" in "\n".join(got.warnings)
    assert "test/accuracy" in got.metrics()
    assert "test/accuracy/lo" not in got.metrics()


def test_rows_without_label_are_left_out_and_counted():
    rows = manifest_rows(300)
    test = np.flatnonzero(rows["split"] == "test")
    rows.loc[test[:5], "label"] = None
    logits = random_logits(manifest_rows(300))
    got = evaluate(of_rows(rows, logits), resamples=20)
    assert len(got.predictions) == len(test) - 5
    assert "5 images of test have no label and are left out" in got.warnings
    assert got.report.macro.support == len(test) - 5


def test_warnings_carry_the_temperatures_and_the_tables():
    got = evaluate(predictions(200, temperature=temperature(1.1, "few of DF"), notes=("mapped",)), resamples=20)
    assert "calibration: few of DF" in got.warnings
    assert "mapped" in got.warnings


def test_what_cannot_be_evaluated_is_told():
    rows = manifest_rows(100).assign(label=None)
    logits = random_logits(manifest_rows(100))
    with pytest.raises(DataError, match="no image of split test of phantom has a label"):
        evaluate(of_rows(rows, logits))
    with pytest.raises(DataError, match="no prediction of split train"):
        evaluate(predictions(100), "train")
    with pytest.raises(ConfigError, match="replicates is 0"):
        evaluate(predictions(100), resamples=0)


def test_the_resamples_are_those_of_the_groups():
    table = predictions(200)
    test = table.split("test")
    bootstrap = GroupBootstrap(test.groups(), len(test), replicates=100, seed=0)
    weights = np.concatenate(list(bootstrap.weights()))
    right = (test.probabilities().argmax(axis=1) == test.labels()).astype(float)
    draws = (weights @ right) / weights.sum(axis=1)
    want = np.quantile(draws, [0.025, 0.975])
    got = evaluate(table, resamples=100).headline["accuracy"]
    assert (got.lo, got.hi) == pytest.approx(tuple(want))
