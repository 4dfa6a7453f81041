"""The subgroup table: right rows, whole lesions, nothing said of too few."""

import math

import numpy as np
import pytest
from metric_rows import ISIC, random_rows

from dermonas.errors import ConfigError, DataError
from dermonas.metrics import scores
from dermonas.metrics.statistic import headline_metrics
from dermonas.metrics.subgroups import age_bands, subgroup_table


def test_each_subgroup_has_the_figures_of_its_rows():
    labels, probabilities = random_rows(300, 8, seed=1)
    sex = ["female", "male", None] * 100
    site = ["torso"] * 250 + ["palms/soles"] * 30 + [math.nan] * 5 + [""] * 15
    groups = (np.arange(300) // 2).tolist()
    table = subgroup_table(
        labels,
        probabilities,
        {"sex": sex, "site": site},
        headline_metrics(ISIC),
        groups=groups,
        replicates=100,
    )
    assert [(row.column, row.value, row.rows) for row in table] == [
        ("sex", "female", 100),
        ("sex", "male", 100),
        ("sex", "unknown", 100),
        ("site", "palms/soles", 30),
        ("site", "torso", 250),
        ("site", "unknown", 20),
    ]
    assert [row.groups for row in table[3:]] == [15, 125, 10]
    assert [row.withheld for row in table] == [False, False, False, True, False, True]
    female = np.arange(0, 300, 3)
    assert table[0].figures["macro_f1"].estimate == pytest.approx(
        scores.macro_f1(labels[female], probabilities[female])
    )
    assert table[0].figures["accuracy"].lo < table[0].figures["accuracy"].hi
    assert table[0].classes == len(set(labels[female].tolist()))
    assert table[3].figures == {}


def test_the_table_does_not_depend_on_other_columns_or_row_order():
    labels, probabilities = random_rows(80, 3, seed=2)
    sex = np.array(["female", "male"] * 40)
    names = np.array([f"lesion {k // 2}" for k in range(80)])
    metrics = headline_metrics(("MEL", "NV", "BCC"))

    def table(order, columns):
        return subgroup_table(
            labels[order],
            probabilities[order],
            {column: sex[order].tolist() for column in columns},
            metrics,
            groups=names[order].tolist(),
            replicates=50,
        )

    plain, turned = table(np.arange(80), ["sex"]), table(np.arange(80)[::-1], ["other", "sex"])[2:]
    for one, two in zip(plain, turned, strict=True):
        assert (one.value, one.rows, one.groups) == (two.value, two.rows, two.groups)
        for name, figure in one.figures.items():
            assert (two.figures[name].lo, two.figures[name].hi) == pytest.approx((figure.lo, figure.hi))


def test_age_bands():
    ages = [0, 29, 30, 59.5, 60, 75, 85, None, math.nan, -1]
    want = ["0-29", "0-29", "30-44", "45-59", "60-74", "75+", "75+", "unknown", "unknown", "unknown"]
    assert age_bands(ages) == want
    with pytest.raises(ConfigError, match="must rise"):
        age_bands([1], [0, 0])


def test_tables_that_do_not_fit():
    labels, probabilities = random_rows(10, 3, seed=3)
    with pytest.raises(DataError, match="column sex has 2 values for 10 rows"):
        subgroup_table(labels, probabilities, {"sex": ["f", "m"]}, {})
    with pytest.raises(DataError, match="2 groups for 10 rows"):
        subgroup_table(labels, probabilities, {}, {}, groups=["a", "b"])
    with pytest.raises(ConfigError, match="minimum is 1"):
        subgroup_table(labels, probabilities, {}, {}, minimum=1)
