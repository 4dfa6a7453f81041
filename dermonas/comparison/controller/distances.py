"""Figure 1: how far apart cells are, and what their distance says of performance and of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dermonas.comparison.canvas import COLOURS
from dermonas.comparison.controller.known import Known
from dermonas.comparison.controller.published import published
from dermonas.comparison.controller.style import density, label, legend_beside, panels, shade
from dermonas.controller.locality import Pairs
from dermonas.metrics.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

FAR = 6
"""Two positives of an anchor are at most this far apart (spec/nao.md 2)."""

_POINTS = 400  # of a density's grid
_SHOWN = 0.95  # share of the differences that the axis holds; networks that do not learn are tens of points off


@dataclass(frozen=True, eq=False)
class Similarity:
    """Pairs as a controller embeds them.

    Attributes:
        metric: The loss that it was pretrained with.
        run_id: Of its pretraining.
        pairs: Of every distance.
        cosine: (pairs,) in [-1, 1].
        rho: Spearman's, of distance and cosine.
    """

    metric: str
    run_id: str
    pairs: Pairs
    cosine: Floats
    rho: Interval

    def medians(self) -> dict[int, float]:
        """Return the median cosine by distance."""
        return _medians(self.pairs, self.cosine)


def share_above(distances: NDArray[np.int64]) -> float:
    """Return the share of pairs more than six edits apart."""
    return float((distances > FAR).mean())


def differences(pairs: Pairs, known: Known) -> Floats:
    """Return the absolute difference in accuracy of each pair of the table's networks, in percentage points."""
    return np.asarray(100 * np.abs(known.quality[pairs.anchor] - known.quality[pairs.other]))


def difference_medians(pairs: Pairs, values: Floats) -> dict[int, float]:
    """Return the median difference by distance."""
    return _medians(pairs, values)


def _medians(pairs: Pairs, values: Floats) -> dict[int, float]:
    return {int(d): float(np.median(values[pairs.distance == d])) for d in np.unique(pairs.distance)}


def histogram_figure(distances: NDArray[np.int64], domain: str) -> Figure:
    """Draw Fig 1a: the distances of random pairs, and the share above six; the paper's share marked published."""
    title = f"Edit distance of {len(distances):,} random pairs, {domain}"
    figure, (axes,) = panels([f"{100 * share_above(distances):.1f} % are more than {FAR} edits apart"], title)
    counts = np.bincount(distances)
    far = np.arange(len(counts)) > FAR
    shares = 100 * counts / len(distances)
    for chosen, colour, name in ((~far, COLOURS["timm"], f"up to {FAR}"), (far, COLOURS["cells"], f"above {FAR}")):
        if shares[chosen].any():
            axes.bar(np.flatnonzero(chosen), shares[chosen], 0.85, color=colour, label=name)
    paper = published()
    axes.plot([], [], " ", label=f"published, {paper.benchmark}:\nabout {paper.share_above_6:g} % above {FAR}")
    label(axes, "edit distance", "% of pairs")
    axes.set_xticks(range(0, len(counts), 1 if len(counts) < 20 else 5))
    axes.grid(False, axis="x")
    legend_beside(axes)
    return figure


def performance_figure(pairs: Pairs, known: Known) -> Figure:
    """Draw Fig 1b: densities of the difference in accuracy by distance."""
    values = differences(pairs, known)
    title = f"Difference in {known.measure} by edit distance, {known.source}"
    figure, (axes,) = panels(["density of the absolute difference"], title)
    end = max(float(np.quantile(values, _SHOWN)), 1e-3)
    _densities(axes, pairs, values, np.linspace(0, end, _POINTS), mirror=True)
    label(axes, "difference, percentage points", "density")
    axes.set_xlim(0, end)
    legend_beside(axes)
    return figure


def similarity_figure(found: Sequence[Similarity], domain: str) -> Figure:
    """Draw Fig 1c: densities of the cosine similarity by distance, a panel a controller."""
    titles = [f"{one.metric}: Spearman {one.rho.estimate:.2f} [{one.rho.lo:.2f}, {one.rho.hi:.2f}]" for one in found]
    figure, every = panels(titles, f"Cosine similarity of embeddings by edit distance, {domain}")
    for axes, one in zip(every, found, strict=True):
        _densities(axes, one.pairs, one.cosine, np.linspace(-1, 1, _POINTS), mirror=False)
        axes.set_xlim(-1, 1)
        label(axes, "cosine similarity", "density" if axes is every[0] else "")
        axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    legend_beside(every[min(len(every), 3) - 1])  # at the end of the first row
    return figure


def _densities(axes: Axes, pairs: Pairs, values: Floats, grid: Floats, *, mirror: bool) -> None:
    present = np.unique(pairs.distance).tolist()
    for place, distance in enumerate(present):
        own = values[pairs.distance == distance]
        curve = density(own, grid, mirror=mirror)
        name = f"{distance} edit{'s' * (distance > 1)} ({len(own)} pairs)"
        if curve is None:  # too few or all alike: a place in the legend, no curve
            axes.plot([], [], " ", label=f"{name}: no density")
            continue
        axes.plot(grid, curve, color=shade(place, len(present)), linewidth=1.4, label=name)
    axes.set_ylim(0, None)
