"""An evaluation as figures: confusion matrices, ROC curves, and reliability before and after temperature scaling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dermonas.errors import StorageError
from dermonas.evaluation.evaluate import Evaluation
from dermonas.explain.figures import save
from dermonas.metrics import scores
from dermonas.metrics.calibration import Reliability
from dermonas.metrics.inputs import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Nothing of the user's matplotlib settings enters a figure. Sizes in points.
_SETTINGS: Any = {"font.family": ["DejaVu Sans"], "font.size": 9.0, "axes.titlesize": 10.0}
_INK, _FAINT, _BLUE, _RED = "#222222", "#9A9A9A", "#0072B2", "#D55E00"

# Told apart by the colour-blind too; beyond eight classes with other dashes. Source: Okabe and Ito, Color Universal
# Design (2008), yellow darkened to be seen on white and black, kept for the mean, made purple.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A800", "#6A3D9A")
_DASHES = ("-", "--", ":")

# Classes up to which cells hold numbers, curves have names, and every class stands at the axis.
_NUMBERED, _NAMED, _TICKED = 25, 24, 60

# Places at which long curves are averaged: finer than a pixel.
_POINTS = 4001


def write_figures(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write confusion, roc and reliability, each as SVG and PNG, and return the paths.

    Raises:
        StorageError: The disk refuses.
    """
    drawn = {
        "confusion": confusion_figure(evaluation),
        "roc": roc_figure(evaluation),
        "reliability": reliability_figure(evaluation),
    }
    try:
        return [save(figure, folder / f"{name}.{kind}") for name, figure in drawn.items() for kind in ("svg", "png")]
    except OSError as error:
        raise StorageError(f"cannot write figures to {folder}: {error.strerror or error}; free space") from error


def confusion_figure(evaluation: Evaluation) -> Figure:
    """Return the confusion matrix as images and as shares of each label's images: label down, decision across."""
    names, counts = evaluation.predictions.classes, evaluation.confusion
    size = float(np.clip(0.46 * len(names), 2.6, 9.0))
    margin = 0.9 + 0.075 * min(max(map(len, names)), 20)
    figure = _figure(evaluation, "confusion matrix", 2 * (size + margin), size + margin + 0.3)
    shares = counts / np.where(counts.sum(axis=1) > 0, counts.sum(axis=1), np.nan)[:, None]
    texts = (
        [[str(value) for value in row] for row in counts.tolist()],
        [["–" if math.isnan(value) else f"{100 * value:.0f}" for value in row] for row in shares.tolist()],
    )
    with _settings():
        left, right = figure.subplots(1, 2)
        # Counts coloured by share too: a common class would otherwise drown the others.
        _matrix(left, shares, texts[0], names, "images")
        _matrix(right, shares, texts[1], names, "% of the label's images")
    return figure


def roc_figure(evaluation: Evaluation) -> Figure:
    """Return the ROC curve of each class that has one, and their mean; the melanoma's operating point is marked."""
    rows, areas = evaluation.predictions, evaluation.areas
    labels, probabilities = rows.labels(), rows.probabilities()
    named = len(rows.classes) <= _NAMED
    figure = _figure(evaluation, "ROC, one class against the rest", 9.4 if named else 5.8, 5.6)
    with _settings():
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=0.8, linestyle=":")
        drawn: list[tuple[Floats, Floats]] = []
        for index, name in enumerate(rows.classes):
            if name in areas.left_out:
                continue
            false, true, _ = scores.roc_curve(labels, probabilities, index)
            drawn.append((false, true))
            style: dict[str, Any] = {"color": _FAINT, "linewidth": 0.5, "alpha": 0.6, "rasterized": True}
            if named:
                dash = _DASHES[index // len(_COLOURS)]
                style = {"color": _COLOURS[index % len(_COLOURS)], "linewidth": 1.5, "linestyle": dash}
                style["label"] = f"{_plain(name)}  {areas.by_class[name]:.3f}"
            axes.plot(false, true, **style)
        if drawn:
            interval = evaluation.headline["auroc_macro"]
            bounds = "" if math.isnan(interval.lo) else f" [{interval.lo:.3f}, {interval.hi:.3f}]"
            axes.plot(
                *_mean_curve(drawn),
                color=_INK,
                linewidth=2.4,
                alpha=0.8,
                label=f"macro average  {areas.value:.3f}{bounds}",
            )
        point = evaluation.melanoma_point
        if point is not None and math.isfinite(point.sensitivity):
            text = f"{_plain(evaluation.melanoma or '')} at 90 % specificity: sensitivity {point.sensitivity:.3f}"
            axes.plot([1 - point.specificity], [point.sensitivity], "o", color=_INK, markersize=6, label=text)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.set(xlabel="false positive rate (1 - specificity)", ylabel="true positive rate (sensitivity)")
        _frame(axes)
        if named:
            figure.legend(loc="outside right center", frameon=False, title="area under the curve")
        elif drawn:
            axes.legend(loc="lower right", frameon=False)
    return figure


def reliability_figure(evaluation: Evaluation) -> Figure:
    """Return confidence against accuracy before and after temperature scaling, the images of each bin below."""
    figure = _figure(evaluation, "reliability", 9.2, 5.6)
    value = evaluation.temperature.value
    panels = (
        ("before: temperature 1", evaluation.before, evaluation.noise_before),
        (f"after: temperature {value:.3f}", evaluation.after, evaluation.noise_after),
    )
    highest = max(int(curve.counts.max()) for _, curve, _ in panels)
    with _settings():
        grid = figure.subplots(2, 2, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
        for column, (title, curve, noise) in enumerate(panels):
            _bins(grid[0, column], grid[1, column], curve, highest)
            text = f"ECE {curve.ece:.3f}, noise alone up to {noise[1]:.3f}"
            grid[0, column].set_title(f"{title}\n{text}", color=_INK)
        grid[0, 0].set_ylabel("accuracy")
        grid[1, 0].set_ylabel("images")
    return figure


def _figure(evaluation: Evaluation, what: str, width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    rows = evaluation.predictions
    mark = "SYNTHETIC data: " if rows.synthetic else ""
    with _settings():
        figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
        title = f"{mark}{rows.model}, {rows.dataset} {evaluation.split}: {what}\n"
        figure.suptitle(_plain(title) + f"{len(rows)} images in {evaluation.groups} groups", fontsize=11, color=_INK)
    return figure


def _settings() -> Any:
    import matplotlib

    return matplotlib.rc_context(_SETTINGS)


def _matrix(axes: Axes, shares: Floats, texts: list[list[str]], names: Sequence[str], title: str) -> None:
    axes.imshow(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=1)
    axes.set_facecolor("#EEEEEE")  # a label without images
    count = len(names)
    step = math.ceil(count / _TICKED)
    ticks, shown = range(0, count, step), [_plain(name) for name in names[::step]]
    small = 9.0 if count <= _NUMBERED else 6.0
    slanted = max(map(len, names)) > 4 or count > 12
    axes.set_xticks(ticks, shown, fontsize=small, rotation=90 if slanted else 0)
    axes.set_yticks(ticks, shown, fontsize=small)
    axes.tick_params(length=0)
    axes.set(title=title, xlabel="decision", ylabel="label")
    if count <= _NUMBERED:
        widest = max(len(text) for row in texts for text in row)
        for row, line in enumerate(texts):
            for column, text in enumerate(line):
                light = shares[row, column] > 0.55
                colour = "white" if light else _FAINT if text in ("0", "–") else _INK
                axes.text(
                    column, row, text, ha="center", va="center", color=colour, fontsize=8.5 if widest < 4 else 7.0
                )


def _mean_curve(curves: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Average curves vertically; where one jumps, at the foot and at the top, so that the areas average too."""
    grid = np.unique(np.concatenate([false for false, _ in curves]))
    if len(grid) > _POINTS:
        grid = np.linspace(0, 1, _POINTS)
    foot, top = np.zeros(len(grid)), np.zeros(len(grid))
    for false, true in curves:
        at, first = np.unique(false, return_index=True)
        low, high = true[first], true[np.r_[first[1:], len(false)] - 1]
        right = np.searchsorted(at, grid)
        left, hit = np.maximum(right - 1, 0), at[right] == grid
        # Between two jumps the curve runs from the top of one to the foot of the next.
        share = np.divide(grid - at[left], at[right] - at[left], out=np.zeros(len(grid)), where=~hit)
        line = high[left] + share * (low[right] - high[left])
        foot += np.where(hit, low[right], line)
        top += np.where(hit, high[right], line)
    return np.repeat(grid, 2), np.stack([foot, top], axis=1).ravel() / len(curves)


def _bins(upper: Axes, lower: Axes, curve: Reliability, highest: int) -> None:
    centres, width = (curve.edges[1:] + curve.edges[:-1]) / 2, np.diff(curve.edges)
    filled = np.flatnonzero(curve.counts)
    upper.plot([0, 1], [0, 1], color=_FAINT, linewidth=1, linestyle="--")
    upper.bar(centres[filled], curve.accuracy[filled], 0.92 * width[filled], color=_BLUE, alpha=0.75, label="accuracy")
    gaps = (curve.confidence[filled], curve.accuracy[filled])
    upper.vlines(gaps[0], np.minimum(*gaps), np.maximum(*gaps), color=_RED, linewidth=1.4)
    upper.plot(*(gaps[0], gaps[0]), "_", color=_RED, markersize=9, markeredgewidth=2, label="mean confidence")
    upper.set(xlim=(0, 1), ylim=(0, 1.02))
    upper.legend(loc="upper left", frameon=False)
    lower.bar(centres, curve.counts, 0.92 * width, color=_FAINT)
    for place, count in zip(centres[filled], curve.counts[filled], strict=True):
        lower.text(place, count + 0.03 * highest, str(count), ha="center", va="bottom", fontsize=6.5, color=_INK)
    lower.set(ylim=(0, 1.25 * highest), xlabel="confidence")
    _frame(upper)
    _frame(lower)


def _frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # a name is no formula
