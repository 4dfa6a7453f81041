"""What searches found: read from their queries, and turned into the paper's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dermonas.comparison.controller.known import Known
from dermonas.errors import DataError
from dermonas.metrics.seeds import half_width, leader

Floats = NDArray[np.float64]

_COLUMNS = ("seed", "query", "validation", "test")
_LEVEL = 0.95


class Answers(NamedTuple):
    """What one seed was told, in query order.

    Attributes:
        validation: (queries,) in [0, 1], what the search saw.
        test: (queries,) in [0, 1], what is reported.
    """

    validation: Floats
    test: Floats


@dataclass(frozen=True, eq=False)
class Search:
    """One arm: a sampler with all its seeds.

    Attributes:
        arm: What a reader calls it.
        run_id: Of the run that searched.
        seeds: Answers by seed.
    """

    arm: str
    run_id: str
    seeds: Mapping[int, Answers]

    @property
    def queries(self) -> int:
        """Queries of the longest seed."""
        return max(len(answers.test) for answers in self.seeds.values())


def read_search(path: Path, arm: str, run_id: str) -> Search:
    """Read the queries of a search.

    Args:
        path: queries.parquet.
        arm: Its name.
        run_id: Of its run, for messages.

    Raises:
        DataError: The file cannot be read, lacks a column, is empty, or a seed's queries are not 1, 2, 3, ... with an
            accuracy each; names the seed.
    """
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"run {run_id}: {path.name} cannot be read ({' '.join(str(error).split())})") from error
    missing = [column for column in _COLUMNS if column not in frame]
    if missing or not len(frame):
        what = f"no column {', '.join(missing)}" if missing else "no query"
        raise DataError(f"run {run_id}: {path.name} has {what}; search anew")
    seeds = {}
    for seed, rows in frame.sort_values(["seed", "query"], kind="stable").groupby("seed"):
        if rows["query"].tolist() != list(range(1, len(rows) + 1)):
            raise DataError(f"run {run_id}: {path.name}, seed {seed}: queries are not 1 to {len(rows)}; search anew")
        answers = Answers(*(rows[name].to_numpy(np.float64) for name in ("validation", "test")))
        if not all(((values >= 0) & (values <= 1)).all() for values in answers):
            raise DataError(f"run {run_id}: {path.name}, seed {seed}: an accuracy is not in 0 to 1; search anew")
        seeds[int(str(seed))] = answers
    return Search(arm, run_id, seeds)


def found(answers: Answers) -> Floats:
    """Return the test accuracy of the best by validation after each query."""
    return answers.test[leader(answers.validation)]


def over_seeds(curves: Sequence[Floats]) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return mean, standard deviation (n - 1, NaN of one) and number of the seeds that got that far, by query.

    Args:
        curves: One a seed; they may end at different queries.
    """
    longest = max(map(len, curves))
    padded = np.full((len(curves), longest), np.nan)
    for row, curve in zip(padded, curves, strict=True):
        row[: len(curve)] = curve
    count = (~np.isnan(padded)).sum(axis=0)
    mean = np.nanmean(padded, axis=0)
    squares = np.nansum((padded - mean) ** 2, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.where(count > 1, np.sqrt(squares / (count - 1)), np.nan)
    return mean, spread, count


def moving_average(values: Floats, window: int) -> Floats:
    """Return the mean of each `window` values in a row; (len - window + 1,), empty where there are fewer."""
    if len(values) < window:
        return np.zeros(0)
    sums = np.cumsum(np.r_[0.0, values])
    return np.asarray((sums[window:] - sums[:-window]) / window)


class Cell(NamedTuple):
    """Mean and standard deviation (n - 1) over seeds; the latter NaN of one seed."""

    mean: float
    spread: float


def table_row(search: Search, known: Known | None) -> dict[str, Cell]:
    """Return a search's row of Table 1: accuracies, regrets and deviations in percent.

    queries: until the best by validation was found; test_acc: its test accuracy; sd: standard deviation (n) of the
    test accuracies of all queries; regret: below the table's best; rank: of that accuracy among the table's networks.
    Regret and rank are left out where the table is not given.

    Source: spec/nao.md 6.
    """
    values: dict[str, list[float]] = {name: [] for name in ("queries", "test_acc", "sd", "regret", "rank")}
    for answers in search.seeds.values():
        place = int(leader(answers.validation)[-1])
        accuracy = float(answers.test[place])
        values["queries"].append(place + 1)
        values["test_acc"].append(100 * accuracy)
        values["sd"].append(100 * float(answers.test.std()))
        rank = None if known is None else known.rank(accuracy)
        if known is not None and known.best is not None and rank is not None:
            values["regret"].append(100 * (known.best - accuracy))
            values["rank"].append(rank)
    return {name: cell_of(numbers) for name, numbers in values.items() if numbers}


def cell_of(numbers: Sequence[float]) -> Cell:
    """Return mean and standard deviation (n - 1)."""
    return Cell(float(np.mean(numbers)), float(np.std(numbers, ddof=1)) if len(numbers) > 1 else math.nan)


@dataclass(frozen=True)
class Difference:
    """An arm less a reference, seed by seed, in percentage points.

    Attributes:
        reference: Its arm.
        seeds: That both have.
        mean: Mean difference; NaN where no seed is common.
        lo: Lower bound of its 95 % interval by Student's t; NaN of fewer than two seeds.
        hi: Upper bound.
    """

    reference: str
    seeds: int
    mean: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Standing:
    """An arm after some queries.

    Attributes:
        arm: Its name.
        queries: After how many.
        seeds: All that it has.
        short: Of these, how many had ended before; their last best stands.
        accuracy: Test accuracy of the best by validation, in percent.
        differences: One a reference, in the given order.
    """

    arm: str
    queries: int
    seeds: int
    short: int
    accuracy: Cell
    differences: tuple[Difference, ...]


def standings(searches: Sequence[Search], queries: Sequence[int], references: Sequence[str]) -> list[Standing]:
    """Compare arms after each number of queries, paired by seed; a reference that is not among them is left out."""
    rows = []
    for number in queries:
        after = {
            one.arm: {seed: 100 * float(found(a)[min(number, len(a.test)) - 1]) for seed, a in one.seeds.items()}
            for one in searches
        }
        for one in searches:
            mine = after[one.arm]
            gaps = tuple(
                _difference(mine, after[name], name) for name in references if name in after and name != one.arm
            )
            short = sum(len(answers.test) < number for answers in one.seeds.values())
            rows.append(Standing(one.arm, number, len(mine), short, cell_of([*mine.values()]), gaps))
    return rows


def _difference(mine: Mapping[int, float], theirs: Mapping[int, float], name: str) -> Difference:
    gaps = np.array([mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())])
    if not len(gaps):
        return Difference(name, 0, math.nan, math.nan, math.nan)
    cell = cell_of(gaps.tolist())
    half = float(half_width(cell.spread, len(gaps)))
    return Difference(name, len(gaps), cell.mean, cell.mean - half, cell.mean + half)
