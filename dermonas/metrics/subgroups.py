"""The same figures by sex, age band and body site, where a difference would be a harm."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dermonas.errors import ConfigError, DataError
from dermonas.metrics.inputs import check_rows
from dermonas.metrics.intervals import GroupBootstrap, Interval, intervals
from dermonas.metrics.statistic import Metric, bind
from dermonas.seeding import derive

# Lesions below which a figure says more about chance than about the subgroup: with 20, an accuracy of 0.8 has a
# standard error of 0.09. The choice is ours.
MINIMUM = 20

# Years at which a new band starts. ISIC ages are rounded to 5 years; the choice of bands is ours.
AGE_EDGES = (0, 30, 45, 60, 75)

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Subgroup:
    """The figures of one value of one column.

    Attributes:
        column: Such as "sex".
        value: Such as "female"; "unknown" where the table says nothing.
        rows: Images.
        groups: Lesions.
        classes: Classes with images here: macro figures of subgroups with other classes do not compare.
        figures: Interval by metric; empty where withheld.
        withheld: Whether there are too few lesions to say anything.
    """

    column: str
    value: str
    rows: int
    groups: int
    classes: int
    figures: Mapping[str, Interval]
    withheld: bool


def subgroup_table(
    labels: ArrayLike,
    probabilities: ArrayLike,
    columns: Mapping[str, Sequence[str | float | None]],
    metrics: Mapping[str, Metric],
    *,
    groups: Sequence[Hashable] | None = None,
    minimum: int = MINIMUM,
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Subgroup, ...]:
    """Return the figures of every value of every column.

    Args:
        labels: (n,).
        probabilities: (n, c).
        columns: (n,) values by column name; None, NaN and "" are "unknown". Ages go through `age_bands` first.
        metrics: By name, see `statistic.headline_metrics`.
        groups: (n,) lesions, which the intervals resample; None makes every row a group.
        minimum: Lesions below which figures are withheld, in place of a number that would be quoted; at least 2.
        replicates: Resamples of each subgroup.
        level: Nominal coverage.
        seed: Of the resamples.

    Returns:
        Columns in the given order, values in the alphabet's, "unknown" last.

    Raises:
        ConfigError: minimum < 2, or what `intervals` refuses.
        DataError: See `inputs.check_rows`; a column with another number of rows.
    """
    if minimum < 2:
        raise ConfigError(f"minimum is {minimum}: an interval needs at least 2 lesions, {MINIMUM} are usual")
    truth, scores = check_rows(labels, probabilities)
    names = list(range(len(truth))) if groups is None else list(groups)
    if len(names) != len(truth):
        raise DataError(f"{len(names)} groups for {len(truth)} rows")
    table = []
    for column, values in columns.items():
        if len(values) != len(truth):
            raise DataError(f"column {column} has {len(values)} values for {len(truth)} rows")
        texts = np.array([_text(value) for value in values])
        for value in sorted(set(texts.tolist()), key=lambda text: (text == UNKNOWN, text)):
            chosen = np.flatnonzero(texts == value)
            own = [names[row] for row in chosen]
            bootstrap = GroupBootstrap(
                own, len(own), replicates=replicates, seed=derive(seed, "subgroup", column, str(value))
            )
            enough = bootstrap.groups >= minimum
            statistics = bind(dict(metrics), truth[chosen], scores[chosen]) if enough else {}
            table.append(
                Subgroup(
                    column=column,
                    value=str(value),
                    rows=len(own),
                    groups=bootstrap.groups,
                    classes=len(np.unique(truth[chosen])),
                    figures=intervals(statistics, bootstrap, level=level) if enough else {},
                    withheld=not enough,
                )
            )
    return tuple(table)


def age_bands(ages: Sequence[float | None], edges: Sequence[int] = AGE_EDGES) -> list[str]:
    """Name each age's band, such as "45-59"; the last is open, "75+".

    Args:
        ages: (n,) years; None and NaN are "unknown", as are ages below the first edge.
        edges: Rising; where bands start, in years.

    Raises:
        ConfigError: Edges that do not rise.
    """
    if not edges or any(low >= high for low, high in itertools.pairwise(edges)):
        raise ConfigError(f"age edges {tuple(edges)} must rise")
    names = [f"{low}-{high - 1}" for low, high in itertools.pairwise(edges)] + [f"{edges[-1]}+"]
    bands = []
    for age in ages:
        known = age is not None and age >= edges[0]  # False for NaN
        bands.append(
            names[int(np.searchsorted(edges, age, side="right")) - 1] if known and age is not None else UNKNOWN
        )
    return bands


def _text(value: str | float | None) -> str:
    if value is None or value != value:
        return UNKNOWN
    return str(value).strip() or UNKNOWN
