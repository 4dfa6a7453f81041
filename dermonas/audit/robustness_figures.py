"""Fig 3 from our own runs: errors of the arms, random search against TPE, and what the searches cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from dermonas.audit.arms import ARMS, SAMPLERS
from dermonas.audit.robustness import Mean, Outcome
from dermonas.comparison.canvas import COLOURS
from dermonas.comparison.controller.style import label, legend_beside, line, panels
from dermonas.errors import StorageError
from dermonas.explain.figures import save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE = "robustness"
"""The figure's name without ending."""

Cost = Literal["device_seconds", "cpu_seconds"]
_COSTS: dict[Cost, str] = {"device_seconds": "device seconds", "cpu_seconds": "CPU seconds"}

_APART = 0.17  # between the samplers of an arm, in arms


def write_figure(outcomes: Sequence[Outcome], title: str, cost: Cost, folder: Path) -> list[Path]:
    """Write the figure as SVG and PNG and return the paths.

    Raises:
        StorageError: The disk refuses.
    """
    figure = robustness_figure(outcomes, title, cost)
    try:
        return [save(figure, folder / f"{FIGURE}.{kind}") for kind in ("svg", "png")]
    except OSError as error:
        raise StorageError(f"cannot write figures to {folder}: {error.strerror or error}; free space") from error


def robustness_figure(outcomes: Sequence[Outcome], title: str, cost: Cost = "device_seconds") -> Figure:
    """Draw Fig 3's three panels: every seed a point, the mean of two or more seeds with its 95 % interval.

    Left the test error of the arms by TPE (or by the one sampler there is), in the middle both samplers, lines
    joining equal seeds; right what the searches cost.
    """
    from matplotlib.ticker import LogLocator

    arms = [name for name in ARMS if any(one.arm == name for one in outcomes)]
    samplers = [name for name in SAMPLERS if any(one.sampler == name for one in outcomes)]
    first = samplers[-1]
    names = [f"test error, {first}", "random search against TPE", "cost of the search"]
    figure, (left, middle, right) = panels(names, title)
    for place, arm in enumerate(arms):
        seed_points(left, place, _values(outcomes, arm, first, "test_error"), SAMPLERS.index(first))
        for axes, attribute in ((middle, "test_error"), (right, cost)):
            spots = _spots(place, samplers)
            for sampler, spot in spots.items():
                seed_points(axes, spot, _values(outcomes, arm, sampler, attribute), SAMPLERS.index(sampler))
        _joined(middle, outcomes, arm, _spots(place, samplers))
    for axes, y in ((left, "test error, %"), (middle, "test error, %"), (right, _COSTS[cost])):
        label(axes, "", y)
        axes.set_xticks(range(len(arms)), arms)
        axes.set_xlim(-0.5, len(arms) - 0.5)
        axes.grid(False, axis="x")
    low, high = _limits([one.test_error for one in outcomes])
    for axes in (left, middle):
        axes.set_ylim(low, high)
    right.set_yscale("log")
    right.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    right.yaxis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter("")
    for sampler in samplers:
        right.plot([], [], "o", color=line(SAMPLERS.index(sampler))["color"], label=sampler)
    right.plot([], [], "_", color=COLOURS["ink"], label="mean over seeds,\n95 % interval")
    legend_beside(right)
    return figure


def _values(outcomes: Sequence[Outcome], arm: str, sampler: str, attribute: str) -> list[float]:
    """Return one value a seed, errors in percent."""
    scale = 100.0 if attribute.endswith("error") else 1.0
    own = [one for one in outcomes if (one.arm, one.sampler) == (arm, sampler)]
    return [scale * float(getattr(one, attribute)) for one in sorted(own, key=lambda one: one.seed)]


def _spots(place: int, samplers: Sequence[str]) -> dict[str, float]:
    return {sampler: place + _APART * (2 * at - len(samplers) + 1) for at, sampler in enumerate(samplers)}


def seed_points(axes: Axes, spot: float, values: Sequence[float], series: int) -> None:
    """Draw seeds as points and beside them their mean and its interval."""
    if not values:
        return
    colour, mean = line(series)["color"], Mean.of(values)
    axes.plot([spot - 0.04] * len(values), values, "o", color=colour, markersize=4, alpha=0.75, zorder=3)
    if mean.seeds > 1:
        axes.plot([spot + 0.06], [mean.value], "_", color=colour, markersize=11, markeredgewidth=1.8, zorder=4)
        if math.isfinite(mean.half):
            axes.vlines(spot + 0.06, mean.value - mean.half, mean.value + mean.half, color=colour, linewidth=1.2)


def _joined(axes: Axes, outcomes: Sequence[Outcome], arm: str, spots: dict[str, float]) -> None:
    """Join the samplers' points of each seed."""
    own = [one for one in outcomes if one.arm == arm]
    for seed in sorted({one.seed for one in own}):
        row = {one.sampler: 100 * one.test_error for one in own if one.seed == seed}
        shown = [name for name in spots if name in row]
        axes.plot([spots[name] - 0.04 for name in shown], [row[name] for name in shown], color=COLOURS["muted"],
                  linewidth=0.6, zorder=2)  # fmt: skip


def _limits(errors: Sequence[float]) -> tuple[float, float]:
    """Return the axis's ends in percent: around the points, for few seeds have intervals wider than any error."""
    low, high = 100 * float(np.min(errors)), 100 * float(np.max(errors))
    slack = max(1.0, 0.35 * (high - low))
    return max(0.0, low - slack), min(100.0, high + slack)
