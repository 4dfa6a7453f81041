"""Searches of a table with several seeds: curves by query, tables, and the plot of the regret."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermonas.errors import StorageError
from dermonas.explain.figures import save
from dermonas.metrics.seeds import half_width, leader
from dermonas.search.rounds import RoundFacts, round_metrics
from dermonas.search.tabular_benchmark import Benchmark
from dermonas.search.tabular_seed import SeedResult

Floats = NDArray[np.float64]

_ROUND_COLUMNS: dict[str, str] = {
    name: "int64" if kind == "int" else "float64" for name, kind in RoundFacts.__annotations__.items()
}

# Nothing of the user's matplotlib settings enters a figure. Sizes in points.
_SETTINGS: Any = {"font.family": ["DejaVu Sans"], "font.size": 9.0, "axes.titlesize": 10.0}
_INK, _BLUE = "#222222", "#0072B2"
_FLOOR = 0.01  # percentage points: the accuracies' own precision


def best_so_far(results: Sequence[SeedResult]) -> tuple[Floats, Floats]:
    """Return what each seed's search had found after each query: the best by validation, of equals the first.

    Returns:
        Its validation accuracy and its test accuracy, each (seeds, queries), in [0, 1].
    """
    validation = np.array([[query.validation for query in one.queries] for one in results])
    test = np.array([[query.test for query in one.queries] for one in results])
    places = leader(validation)
    return np.take_along_axis(validation, places, axis=1), np.take_along_axis(test, places, axis=1)


def curves(results: Sequence[SeedResult], benchmark: Benchmark) -> dict[str, Floats]:
    """Return means over the seeds by query, (queries,), under the names of their metrics.

    A regret is the table's best test (validation) accuracy less that of the best by validation so far.
    """
    validation, test = best_so_far(results)
    return {
        "controller/test_accuracy": test.mean(axis=0),
        "controller/validation_best": validation.mean(axis=0),
        "controller/regret": benchmark.best_test - test.mean(axis=0),
        "controller/regret_validation": benchmark.best_validation - validation.mean(axis=0),
    }


def round_curves(results: Sequence[SeedResult]) -> dict[int, dict[str, float]]:
    """Return means over the seeds by round of NAO, from 1; see `round_metrics`."""
    rounds = range(1, max((len(one.rounds) for one in results), default=0) + 1)
    return {
        number: round_metrics([one.rounds[number - 1] for one in results if len(one.rounds) >= number])
        for number in rounds
    }


def finals(results: Sequence[SeedResult]) -> dict[str, float]:
    """Return the figures of the last query; the standard deviation (n - 1) where there are several seeds."""
    last = best_so_far(results)[1][:, -1]
    spread = {"controller/test_accuracy_std": float(last.std(ddof=1))} if len(last) > 1 else {}
    return {
        "controller/test_accuracy_mean": float(last.mean()),
        **spread,
        "controller/seconds_per_seed": float(np.mean([one.seconds for one in results])),
        "controller/duplicates": float(np.mean([one.duplicates for one in results])),
    }


def frames(results: Sequence[SeedResult]) -> dict[str, pd.DataFrame]:
    """Return the tables by name: queries, seeds, and rounds where there are any; see `tabular_seed` for columns."""
    queries = pd.DataFrame(
        [
            {"seed": one.seed, **asdict(query), "theta": json.dumps([int(choice) for choice in query.theta])}
            for one in results
            for query in one.queries
        ]
    )
    seeds = pd.DataFrame([{"seed": one.seed, "seconds": one.seconds, "duplicates": one.duplicates} for one in results])
    order = ["seed", "query", "round", "theta", "digest", "validation", "test"]
    found = {"queries": queries[order], "seeds": seeds.astype({"seconds": "float64"})}
    rounds = [{"seed": one.seed, **asdict(row)} for one in results for row in one.rounds]
    if rounds:
        found["rounds"] = pd.DataFrame(rounds).astype(_ROUND_COLUMNS)
    return found


def write_tables(results: Sequence[SeedResult], folder: Path) -> list[Path]:
    """Write the tables as Parquet, and return the paths.

    Raises:
        StorageError: The disk refuses.
    """
    written = []
    for name, frame in frames(results).items():
        path = folder / f"{name}.parquet"
        try:
            frame.to_parquet(path, index=False)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}; free space") from error
        written.append(path)
    return written


def band(values: Floats) -> tuple[Floats, Floats]:
    """Return the mean over seeds and half the width of its 95 % interval by Student's t; nan with one seed.

    Args:
        values: (seeds, ...).
    """
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)
    return values.mean(axis=0), half_width(spread, len(values))


def write_regret(regret: Floats, title: str, folder: Path) -> list[Path]:
    """Draw regret by query with the band of its mean, as regret.png and regret.svg, and return the paths.

    The axis is logarithmic, for early regrets are a hundred times the late ones; below 0.01 points stands at 0.01.

    Args:
        regret: (seeds, queries), in [0, 1].
        title: What was searched, and how.
        folder: Where to.

    Raises:
        StorageError: The disk refuses.
    """
    import matplotlib
    from matplotlib.figure import Figure

    mean, half = band(100 * regret)
    low, high, line = np.maximum(mean - half, _FLOOR), np.maximum(mean + half, _FLOOR), np.maximum(mean, _FLOOR)
    queries = np.arange(1, len(mean) + 1)
    over = f"mean of {len(regret)} seeds and its 95 % interval" if len(regret) > 1 else "one seed"
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(6.4, 4.2), facecolor="white", layout="constrained")
        axes = figure.subplots()
        axes.plot(queries, line, color=_BLUE, linewidth=1.8, drawstyle="steps-post")
        if len(regret) > 1:
            axes.fill_between(queries, low, high, step="post", color=_BLUE, alpha=0.2, linewidth=0)
        axes.set_title(f"{_plain(title)}\n{over}", color=_INK)
        axes.set(xlabel="queries (distinct networks)", ylabel="regret of test accuracy, percentage points")
        axes.set_xlim(1, max(2, len(mean)))
        axes.set_yscale("log")
        axes.set_ylim(_FLOOR, None)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.spines[["top", "right"]].set_visible(False)
    try:
        return [save(figure, folder / f"regret.{kind}") for kind in ("png", "svg")]
    except OSError as error:
        raise StorageError(f"cannot write figures to {folder}: {error.strerror or error}; free space") from error


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # a name is no formula
