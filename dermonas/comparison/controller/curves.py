"""Figures over time: pretraining (Fig 3), performance in query order (Fig 4), and regret by query."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dermonas.comparison.canvas import COLOURS
from dermonas.comparison.controller.known import Known
from dermonas.comparison.controller.searches import Floats, Search, found, moving_average, over_seeds
from dermonas.comparison.controller.style import label, legend_beside, line, panels
from dermonas.metrics.seeds import half_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Panels of Fig 3; the paper does not describe a (spec/nao.md 6). Key of a report, title, axis.
_PANELS = (
    ("pretrain/metric", "a: metric loss", "loss, each metric's own"),
    ("pretrain/reconstruction", "b: reconstruction", "NLL of a token, nats"),
    ("pretrain/token_accuracy", "c: token accuracy", "share of tokens, padding too"),
)


@dataclass(frozen=True, eq=False)
class History:
    """A pretraining's reports.

    Attributes:
        metric: The loss that it was pretrained with.
        seed: Of the run.
        reports: In order; see `controller.pretrain.Pretrained`.
    """

    metric: str
    seed: int
    reports: Sequence[Mapping[str, float]]


def pretraining_figure(histories: Sequence[History], domain: str) -> Figure:
    """Draw Fig 3: metric loss, reconstruction loss and token accuracy by iteration, runs overlaid."""
    figure, every = panels([title for _, title, _ in _PANELS], f"Pretraining, {domain}")
    metrics = list(dict.fromkeys(one.metric for one in histories))
    several = len(metrics) < len(histories)
    for axes, (key, _, y) in zip(every, _PANELS, strict=True):
        for one in histories:
            reports = [report for report in one.reports if math.isfinite(report.get(key, math.nan))]
            name = f"{one.metric}, seed {one.seed}" if several else one.metric
            style = line(metrics.index(one.metric))
            steps, values = [report["iterations"] for report in reports], [report[key] for report in reports]
            axes.plot(steps, values, **style, linewidth=1.3, marker="o" if len(reports) == 1 else "", label=name)
        label(axes, "iteration", y)
    every[1].set_ylim(0, None)
    every[2].set_ylim(0, 1.02)
    legend_beside(every[-1])
    return figure


def average_figure(searches: Sequence[Search], window: int, place: str) -> Figure:
    """Draw Fig 4: the moving average of test accuracy in query order, mean of the seeds and their deviation.

    Args:
        searches: Each with a seed of at least `window` queries.
        window: Queries averaged.
        place: What was searched.
    """
    title = f"Test accuracy of queried networks, moving average over {window} queries, {place}"
    figure, (axes,) = panels(["mean of the seeds, band one standard deviation"], title)
    for index, one in enumerate(searches):
        curves = [moving_average(100 * answers.test, window) for answers in one.seeds.values()]
        mean, spread, _ = over_seeds([curve for curve in curves if len(curve)])
        _band(axes, index, one, window + np.arange(len(mean)), mean, spread)
    label(axes, "queries", "test accuracy, %")
    legend_beside(axes)
    return figure


def regret_figure(searches: Sequence[Search], known: Known) -> Figure:
    """Draw the regret of the best by validation after each query, with the interval of its mean over seeds.

    The axis is linear up to a tenth of a point and logarithmic above: early regrets are a hundred times late
    ones, and the yardstick, the network that is best by validation in the whole table, may be the best of all.
    """
    if known.best is None or known.by_validation is None:
        raise ValueError("a table without test accuracies has no regret")
    figure, (axes,) = panels(["mean over seeds, band its 95 % interval"], f"Regret by query, {known.source}")
    for index, one in enumerate(searches):
        mean, spread, count = over_seeds([100 * (known.best - found(answers)) for answers in one.seeds.values()])
        _band(axes, index, one, 1 + np.arange(len(mean)), mean, half_width(spread, count))
    yardstick = 100 * (known.best - known.by_validation)
    name = f"best by validation in\nthe whole table: {yardstick:.2f}"
    axes.axhline(yardstick, color=COLOURS["muted"], linestyle=":", linewidth=1.2, label=name)
    axes.set_yscale("symlog", linthresh=0.1, linscale=0.5)
    axes.set_ylim(-0.02 if yardstick < 0.01 else 0, None)
    axes.yaxis.set_major_formatter("{x:g}")
    label(axes, "queries", "regret of test accuracy, points")
    legend_beside(axes)
    return figure


def _band(axes: Axes, index: int, one: Search, at: np.ndarray, mean: Floats, half: Floats) -> None:
    style = line(index)
    seeds = len(one.seeds)
    axes.plot(at, mean, **style, linewidth=1.4, label=f"{one.arm} ({seeds} seed{'s' * (seeds > 1)})")
    if np.isfinite(half).any():
        axes.fill_between(at, mean - half, mean + half, color=style["color"], alpha=0.15, linewidth=0)
