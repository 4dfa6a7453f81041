"""Figure 2: anchors and their positives as a controller embeds them, laid out in the plane by UMAP."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dermonas.comparison.canvas import COLOURS
from dermonas.comparison.controller.style import line, panels
from dermonas.controller.language import Language, Thetas
from dermonas.controller.locality import embed
from dermonas.controller.model import Controller
from dermonas.seeding import numpy_generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

ANCHORS, POSITIVES = 16, 7
"""Colours of the figure, and dots of a colour besides the anchor's. Source: spec/nao.md 6."""

_NEIGHBOURS, _APART = 32, 0.5  # UMAP's; spec/nao.md 6
_MARKS = ("o", "^")  # a colour serves two anchors


class Panel(NamedTuple):
    """One panel of the figure.

    Attributes:
        title: Which controller, and when.
        points: (classes, cells, 2), the anchor first.
    """

    title: str
    points: Floats


def near_cells(language: Language, cells: Thetas, seed: int) -> Thetas:
    """Return (16, 8, positions): random anchors with 7 positives each, the anchor first; fewer where cells are."""
    rng = numpy_generator(seed, "figure 2")
    anchors = cells[rng.permutation(len(cells))[:ANCHORS]]
    near = language.positives(anchors, rng.random((len(anchors), POSITIVES, language.draws))).thetas
    return np.concatenate([anchors[:, None], near], axis=1)


def panel(title: str, controller: Controller, language: Language, cells: Thetas, seed: int) -> Panel:
    """Embed cells, (classes, cells, positions), and lay the embeddings out."""
    shape = cells.shape[:2]
    return Panel(
        title, project(embed(controller, language, cells.reshape(-1, cells.shape[2])), seed).reshape(*shape, 2)
    )


def project(embeddings: NDArray[np.float32], seed: int) -> Floats:
    """Return (cells, 2): UMAP by Euclidean distance, 32 neighbours, minimum distance .5; the same for the same seed.

    Takes some ten seconds the first time in a process: numba compiles it.

    Args:
        embeddings: (cells, hidden), more than 3.
        seed: Of the layout.
    """
    from umap import UMAP

    neighbours = min(_NEIGHBOURS, len(embeddings) - 1)
    layout = UMAP(
        n_neighbors=neighbours,
        min_dist=_APART,
        metric="euclidean",
        random_state=seed,
        n_jobs=1,  # a seed takes one; else it says so on standard error
    )
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hints on disconnected points and spectral starts, not for our readers
            return np.asarray(layout.fit_transform(embeddings), np.float64)
    finally:
        torch.set_num_threads(threads)  # numba sets OpenMP's number for the whole process, and torch's sums with it


def embeddings_figure(found: Sequence[Panel], domain: str) -> Figure:
    """Draw Fig 2: a colour and mark an anchor with its positives; the anchor's own mark is larger and outlined."""
    title = f"Embeddings of {len(found[0].points)} anchors and their positives by UMAP, {domain}"
    figure, every = panels([one.title for one in found], title, columns=2, legend=False)
    for axes, one in zip(every, found, strict=True):
        for number, points in enumerate(one.points):
            colour = line(number % 8)["color"]
            mark = _MARKS[number // 8 % len(_MARKS)]
            x, y = points.T
            axes.scatter(x[1:], y[1:], s=18, color=colour, marker=mark, alpha=0.8, linewidths=0)
            axes.scatter(x[:1], y[:1], s=48, color=colour, marker=mark, edgecolors=COLOURS["ink"], linewidths=0.9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        axes.margins(0.06)
    return figure
