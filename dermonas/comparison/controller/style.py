"""What the controller's figures share: lines told apart by the colour-blind, densities, panels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dermonas.comparison.canvas import COLOURS, SETTINGS, empty, literal, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

# Source: Okabe and Ito, Color Universal Design (2008), the yellow darkened to be seen on white.
_SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A7A00", "#222222")
_DASHES = ("-", "--", ":", "-.")

# Inches.
_PANEL, _ALONE, _HIGH, _LEGEND = 3.4, 5.2, 2.9, 2.5
_LEFT, _RIGHT, _TOP, _BOTTOM, _BETWEEN, _UNDER = 0.75, 0.2, 0.62, 0.55, 0.85, 0.8


def line(place: int) -> dict[str, Any]:
    """Return colour and dashes of the line at a place in the legend; after eight the dashes change."""
    return {"color": _SERIES[place % len(_SERIES)], "linestyle": _DASHES[place // len(_SERIES) % len(_DASHES)]}


def shade(step: int, steps: int) -> Any:
    """Return a colour of the scale dark (near) to light (far), which keeps its order in grey."""
    from matplotlib import colormaps

    return colormaps["viridis"](0.9 * step / max(steps - 1, 1))


def panels(titles: list[str], title: str, *, columns: int = 3, legend: bool = True) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel a title, so many a row, and room to the right for a legend."""
    import matplotlib

    rows, columns = math.ceil(len(titles) / columns), min(len(titles), columns)
    panel = _ALONE if columns == 1 else _PANEL
    width = _LEFT + columns * panel + (columns - 1) * _BETWEEN + (_LEGEND if legend else _RIGHT)
    height = _TOP + rows * _HIGH + (rows - 1) * _UNDER + _BOTTOM
    with matplotlib.rc_context(SETTINGS):
        figure = empty(width, height)
        figure.text(_LEFT / width, 1 - 0.2 / height, literal(title), color=COLOURS["ink"], fontsize=9.5, va="center")
        found = []
        for place, name in enumerate(titles):
            row, column = divmod(place, columns)
            bottom = _BOTTOM + (rows - 1 - row) * (_HIGH + _UNDER)
            axes = plain_axes(figure, _LEFT + column * (panel + _BETWEEN), bottom, panel, _HIGH)
            axes.set_title(literal(name), color=COLOURS["ink"], fontsize=8.5, loc="left")
            found.append(axes)
    return figure, found


def label(axes: Axes, x: str, y: str) -> None:
    """Name the axes."""
    axes.set_xlabel(x, color=COLOURS["ink"])
    axes.set_ylabel(y, color=COLOURS["ink"])


def legend_beside(axes: Axes) -> None:
    """Write the legend to the right of a panel."""
    place: Any = {"loc": "upper left", "bbox_to_anchor": (1.03, 1.0), "borderaxespad": 0.0}
    axes.legend(**place, frameon=False, labelcolor=COLOURS["ink"], fontsize=8)


def density(values: Floats, grid: Floats, *, mirror: bool = False) -> Floats | None:
    """Return a kernel density estimate on a grid; None where there is nothing to estimate.

    The bandwidth is Silverman's rule with the smaller of the standard deviation and the scaled interquartile range:
    a few networks that do not learn are tens of points off and must not smooth the rest away.

    Args:
        values: (n,).
        grid: (points,).
        mirror: Whether values are 0 or more; the density is then folded at 0, as no mass lies below.

    Source: Silverman, Density Estimation (1986), 3.4.2.
    """
    from scipy.stats import gaussian_kde

    if len(values) < 2 or np.ptp(values) == 0:
        return None
    spread = float(np.std(values, ddof=1))
    quartiles = np.quantile(values, [0.25, 0.75])
    robust = min(spread, float(quartiles[1] - quartiles[0]) / 1.34) or spread
    kernel = gaussian_kde(values, bw_method=0.9 * robust / spread * len(values) ** -0.2)
    found = kernel(grid) + (kernel(-grid) if mirror else 0.0)
    return np.asarray(found)
