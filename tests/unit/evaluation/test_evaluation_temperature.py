"""Which rows a temperature is fitted on."""

import numpy as np
import pytest
from evaluated import ISIC

from dermonas.errors import DataError
from dermonas.evaluation.temperature import LabelledLogits, temperature_of
from dermonas.metrics.temperature import calibrating_temperature, fit_temperature
from dermonas.seeding import numpy_generator


def labelled(n: int, seed: int, first: int = 0) -> LabelledLogits:
    rng = numpy_generator(seed, "labelled", n)
    labels = np.arange(n) % 8
    logits = rng.normal(size=(n, 8)) * 2
    logits[np.arange(n), labels] += 2
    return LabelledLogits(labels, logits, [f"lesion {first + row // 2}" for row in range(n)])


def never() -> LabelledLogits:
    raise AssertionError("train logits were computed without need")


def test_validation_alone_where_every_class_has_ten_images():
    rows = labelled(80, 0)
    assert temperature_of(rows, never, names=ISIC) == fit_temperature(rows.labels, rows.logits)


def test_train_rows_come_in_where_a_class_has_fewer():
    rows, more, calls = labelled(79, 0), labelled(200, 1, first=100), []

    def train() -> LabelledLogits:
        calls.append(1)
        return more

    got = temperature_of(rows, train, names=ISIC, seed=3)
    assert calls == [1]
    assert got == calibrating_temperature(
        rows.labels, rows.logits, rows.groups, train=(more.labels, more.logits, more.groups), names=ISIC, seed=3
    )
    assert len(got.by_fold) == 5
    assert "fewer than 10 validation images of SCC 9" in got.warning
    assert "hardly calibrated" in temperature_of(rows, names=ISIC).warning


def test_rows_without_label_are_left_out():
    rows = labelled(160, 0)
    blank = np.asarray(rows.labels).copy()
    blank[::2] = -1
    odd = LabelledLogits(np.asarray(rows.labels)[1::2], np.asarray(rows.logits)[1::2], list(rows.groups or [])[1::2])
    got = temperature_of(LabelledLogits(blank, rows.logits, rows.groups), names=ISIC)
    assert got == temperature_of(odd, names=ISIC)


def test_nothing_to_fit_on_is_told():
    with pytest.raises(DataError, match="validation has no labelled image"):
        temperature_of(LabelledLogits(np.full(4, -1), np.zeros((4, 8))))
    with pytest.raises(DataError, match="validation has no labelled image"):
        temperature_of(LabelledLogits(np.zeros(0, dtype=np.int64), np.zeros((0, 8))))
    with pytest.raises(DataError, match="train has no labelled image"):
        temperature_of(labelled(20, 0), lambda: LabelledLogits(np.full(4, -1), np.zeros((4, 8))))
    with pytest.raises(DataError, match="3 labels"):
        temperature_of(LabelledLogits(np.zeros(3, dtype=np.int64), np.zeros((4, 8))))
