"""An external test set's classes from ours."""

from typing import Any

import numpy as np
import pytest
from evaluated import ISIC, manifest_rows, of_rows, random_logits
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from dermonas.errors import ConfigError, DataError
from dermonas.evaluation.evaluate import evaluate
from dermonas.evaluation.mapping import ClassMapping
from dermonas.metrics.temperature import scaled
from dermonas.seeding import numpy_generator

HAM = {
    "AKIEC": ["AK", "SCC"], "BCC": ["BCC"], "BKL": ["BKL"], "DF": ["DF"], "MEL": ["MEL"], "NV": ["NV"],
    "VASC": ["VASC"],
}  # fmt: skip


def some_logits(n: int = 50, seed: int = 0) -> np.ndarray:
    return numpy_generator(seed, "mapped logits").normal(size=(n, 8)) * 3


@given(st.floats(0.05, 20), st.integers(0, 100))
def test_probabilities_are_summed_and_stay_a_distribution(temperature, seed):
    logits = some_logits(20, seed)
    ours = softmax(logits / temperature, axis=1)
    got = scaled(ClassMapping(HAM, ISIC).logits(logits, temperature), temperature)
    assert got.shape == (20, 7)
    np.testing.assert_allclose(got.sum(axis=1), 1)
    np.testing.assert_allclose(got[:, 0], ours[:, 3] + ours[:, 7], atol=1e-12)
    np.testing.assert_allclose(got[:, 1:], ours[:, [2, 4, 5, 0, 1, 6]], atol=1e-12)


def test_the_identity_changes_nothing():
    mapping = ClassMapping({name: [name] for name in ISIC}, ISIC)
    np.testing.assert_array_equal(mapping.logits(some_logits(), 1.7), some_logits())
    assert mapping.notes(some_logits(), 1.7) == ()
    assert mapping.left_out == ()


def test_classes_left_out_are_conditioned_away():
    mapping = ClassMapping({"MEL": ["MEL"], "NV": ["NV"], "other": ["BCC", "AK", "SCC"]}, ISIC)
    logits = some_logits()
    ours = softmax(logits / 0.8, axis=1)
    kept = np.stack([ours[:, 0], ours[:, 1], ours[:, [2, 3, 7]].sum(axis=1)], axis=1)
    np.testing.assert_allclose(scaled(mapping.logits(logits, 0.8), 0.8), kept / kept.sum(axis=1, keepdims=True))
    assert mapping.left_out == ("BKL", "DF", "VASC")
    first = np.isin(ours.argmax(axis=1), [4, 5, 6]).sum()
    joined, gone = mapping.notes(logits, 0.8)
    assert joined == "classes mapped: BCC + AK + SCC as other"
    assert gone.startswith("not in the external set and left out: BKL, DF, VASC")
    assert f"mean probability {ours[:, 4:7].sum(axis=1).mean():.3f}, likeliest in {first} of 50" in gone


def test_the_decision_is_by_the_sum_not_by_our_decision():
    logits = np.log([[0.05, 0.05, 0.05, 0.26, 0.30, 0.02, 0.02, 0.25]])
    assert ISIC[logits.argmax()] == "BKL"
    mapping = ClassMapping(HAM, ISIC)
    assert mapping.external[mapping.logits(logits, 1.0).argmax()] == "AKIEC"


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"A": ["AK", "SCC"], "B": ["SCC", "MEL"]}, "SCC is mapped twice"),
        ({"A": ["MEL", "MEL"], "B": ["NV"]}, "MEL is mapped twice"),
        ({"A": ["MEL"], "B": ["NEVUS"]}, "the model has no class NEVUS; it has MEL, NV"),
        ({"A": ["MEL"], "B": []}, "external class B needs a list"),
        ({"A": ["MEL"], "B": "NV"}, "external class B needs a list"),
        ({"A": ["MEL"]}, "two at least"),
        ({}, "two at least"),
    ],
)
def test_impossible_mappings_are_told(sources: Any, message: str):
    with pytest.raises(ConfigError, match=message):
        ClassMapping(sources, ISIC)


def test_labels_that_nothing_maps_to_are_told():
    mapping = ClassMapping(HAM, ISIC)
    mapping.check_labels(["AKIEC", None, "NV"])
    with pytest.raises(DataError, match=r"mapped to the label SCC \(2 images\)"):
        mapping.check_labels(["SCC", "NV", "SCC", None])
    with pytest.raises(DataError, match="7 classes for a mapping of 8"):
        mapping.logits(np.zeros((3, 7)), 1.0)


def test_an_external_set_is_evaluated_in_its_own_classes():
    rows = manifest_rows(300)
    logits = random_logits(rows)
    rows["label"] = rows["label"].replace({"AK": "AKIEC", "SCC": "AKIEC"})
    mapping = ClassMapping(HAM, ISIC)
    mapping.check_labels(rows["label"])
    table = of_rows(rows, mapping.logits(logits, 1.6), mapping.external, notes=mapping.notes(logits, 1.6))
    got = evaluate(table, resamples=20)
    test = (rows["split"] == "test").to_numpy()
    ours = softmax(logits[test] / 1.6, axis=1)
    theirs = np.stack([ours[:, [ISIC.index(name) for name in HAM[wide]]].sum(axis=1) for wide in HAM], axis=1)
    right = [list(HAM)[index] for index in theirs.argmax(axis=1)] == rows.loc[test, "label"]
    assert got.headline["accuracy"].estimate == pytest.approx(right.mean())
    assert got.melanoma == "MEL"
    assert "classes mapped: AK + SCC as AKIEC" in got.warnings
