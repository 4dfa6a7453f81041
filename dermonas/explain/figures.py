"""The figure of heat maps: a row an image; columns image, each model's map, each model's region of interest.

Source: spec/csnas.md 8 (CSNAS, Fig 7 and the README of DermoCSNAS: plasma, scale 0 to 1, region at .7).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dermonas.explain.cam import ROI_THRESHOLD
from dermonas.explain.overlays import overlay, pixels_of, spotlight

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _WRONG, _FAINT = "#222222", "#B3261E", "#6A6A6A"

# Inches; sizes of text in points.
_TILE, _GAP, _UNDER, _GROUP = 1.5, 0.08, 0.30, 0.22
_LEFT, _TOP, _TITLE, _FOOT, _RIGHT = 0.12, 0.32, 0.34, 0.30, 0.70
_SMALL, _HEAD = 7.5, 9.0
_LINE = 0.13  # of a heading of several lines
_LETTERS = 20  # of a line in a heading, where a name is not one longer word
_GLYPH = 0.62  # mean width of a letter of DejaVu Sans, in font sizes; bold is wider

# Nothing of the user's matplotlib settings enters a figure.
_SETTINGS: Any = {"font.family": ["DejaVu Sans"], "font.size": _SMALL, "image.interpolation": "nearest"}


@dataclass(frozen=True)
class Column:
    """One model's maps and answers.

    Attributes:
        name: Short; stands above the column.
        cams: (images, height, width) on 0..1, the size of the images.
        predicted: Label that each map explains, one an image.
        probability: Of that label, in [0, 1], one an image.
    """

    name: str
    cams: ArrayLike
    predicted: Sequence[str]
    probability: Sequence[float]


def grid(
    images: ArrayLike,
    columns: Sequence[Column],
    labels: Sequence[str | None],
    *,
    threshold: float = ROI_THRESHOLD,
    synthetic: bool = False,
    title: str = "",
) -> Figure:
    """Return the figure, made without pyplot and owned by the caller; see `save`.

    Under each image stands its true label, under each map what that model predicts and with what
    probability; a wrong prediction is red and marked with a cross. One image gives one model's panel.

    Args:
        images: uint8 (images, height, width, 3), squares as the networks see them.
        columns: One a model, at least one.
        labels: True label of each image; None where unknown.
        threshold: Of the region of interest, in (0, 1].
        synthetic: Mark every image as synthetic, and say below that no patient is shown.
        title: Text above all; empty for a single model: its name.

    Raises:
        ValueError: Shapes or lengths that do not fit each other, or values out of range.
    """
    import matplotlib
    from matplotlib.figure import Figure

    pixels = pixels_of(images, 4)
    _check(pixels, columns, labels, threshold)
    count, models = len(pixels), len(columns)
    title = title or (columns[0].name if models == 1 else "")
    # Left edges: the image, a gap, the maps, a gap, the regions.
    lefts = [_LEFT]
    for k in range(2 * models):
        lefts.append(lefts[-1] + _TILE + (_GROUP if k in (0, models) else _GAP))
    width = lefts[-1] + _TILE + _RIGHT
    extra = _LINE * (max(_wrapped(column.name).count("\n") for column in columns) if models > 1 else 0)
    head = _TOP + extra + (_TITLE if title else 0.0) + (_TITLE if models > 1 else 0.0)
    height = head + count * (_TILE + _UNDER) + (_FOOT if synthetic else 0.0)
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), facecolor="white")
        page = _Page(figure, width, height)
        if title:
            page.text(width / 2, 0.2, title, size=_HEAD + 2, bold=True, room=width)
        _head(page, columns, lefts, head, extra, threshold)
        for row in range(count):
            top = head + row * (_TILE + _UNDER)
            _image(page, pixels[row], labels[row], lefts[0], top, synthetic)
            for k, column in enumerate(columns):
                cam = np.asarray(column.cams, dtype=np.float64)[row]
                page.tile(overlay(pixels[row], cam), lefts[1 + k], top)
                _answer(page, column, row, labels[row], lefts[1 + k] + _TILE / 2, top + _TILE + 0.04)
                inside = cam >= threshold
                page.tile(spotlight(pixels[row], inside), lefts[1 + models + k], top)
                share = f"{100 * inside.mean():.0f} % of the image" if inside.any() else "no region"
                page.text(lefts[1 + models + k] + _TILE / 2, top + _TILE + 0.04, share, colour=_FAINT, under=True)
        _bar(page, width - _RIGHT + 0.12, head, min(count, 2) * (_TILE + _UNDER) - _UNDER)
        if synthetic:
            page.text(_LEFT, height - 0.14, "Synthetic phantom images, no patient is shown.", left=True, room=None)
    return figure


def save(figure: Figure, path: Path, dpi: int = 150) -> Path:
    """Write a figure as PNG, SVG or PDF by its ending; the file appears only when it is complete.

    The same figure gives the same bytes.

    Args:
        figure: What to write.
        path: Where to; folders are made, an earlier file is replaced.
        dpi: Pixels an inch, of PNG files.

    Returns:
        `path`.

    Raises:
        OSError: The file cannot be written.
        ValueError: An ending that matplotlib does not know.
    """
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    kind = path.suffix.removeprefix(".")
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    try:
        with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": "dermonas"}):
            figure.savefig(part, format=kind, dpi=dpi, metadata=metadata)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


@dataclass(frozen=True)
class _Page:
    """A figure measured in inches from its top left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def tile(self, pixels: NDArray[np.uint8], left: float, top: float) -> Axes:
        axes = self.axes(left, top, _TILE, _TILE)
        axes.set_axis_off()
        axes.imshow(pixels, aspect="auto")
        return axes

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = _SMALL,
        colour: str = _INK,
        bold: bool = False,
        under: bool = False,
        left: bool = False,
        room: float | None = _TILE,
    ) -> None:
        """Write text centred on (x, y), below y (`under`) or starting at x (`left`), shrunk to fit `room` inches."""
        if room is not None:
            size *= min(
                1.0, 72 * room / (size * _GLYPH * (1.12 if bold else 1.0) * max(map(len, (text or " ").split("\n"))))
            )
        self.figure.text(
            x / self.width,
            1 - y / self.height,
            text.replace("$", r"\$"),  # a label is no formula
            fontsize=size,
            fontweight="bold" if bold else "normal",
            color=colour,
            ha="left" if left else "center",
            va="top" if under else "center",
        )


def _head(
    page: _Page, columns: Sequence[Column], lefts: list[float], head: float, extra: float, threshold: float
) -> None:
    """Write what the columns are: groups above names when there is more than one model."""
    models = len(columns)
    groups = ((1, "class activation map"), (1 + models, f"region at {threshold:g}"))
    page.text(lefts[0] + _TILE / 2, head - 0.14, "image", size=_HEAD)
    if models == 1:
        for first, text in groups:
            page.text(lefts[first] + _TILE / 2, head - 0.14, text, size=_HEAD)
        return
    for first, text in groups:
        start, end = lefts[first], lefts[first + models - 1] + _TILE
        page.text((start + end) / 2, head - 0.14 - _TITLE - extra, text, size=_HEAD, room=end - start)
        line = page.axes(start, head - 0.32 - extra, end - start, 0.01)
        line.set_axis_off()
        line.axhline(0.5, color=_FAINT, linewidth=0.8)
        for k, column in enumerate(columns):
            middle = head - 0.14 - extra / 2
            page.text(lefts[first + k] + _TILE / 2, middle, _wrapped(column.name), size=_HEAD, bold=True)


def _wrapped(name: str) -> str:
    """Break a heading at its spaces."""
    return "\n".join(textwrap.wrap(name, _LETTERS, break_long_words=False, break_on_hyphens=False)) or name


def _image(page: _Page, pixels: NDArray[np.uint8], label: str | None, left: float, top: float, synthetic: bool) -> None:
    axes = page.tile(pixels, left, top)
    page.text(left + _TILE / 2, top + _TILE + 0.04, "label unknown" if label is None else label, under=True)
    if synthetic:
        box = {"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "pad": 1.5}
        axes.text(0.03, 0.97, "SYNTHETIC", color="white", fontsize=5.5, bbox=box, transform=axes.transAxes, va="top")


def _answer(page: _Page, column: Column, row: int, label: str | None, x: float, y: float) -> None:
    predicted, right = column.predicted[row], label in (None, column.predicted[row])
    text = f"{predicted}  {column.probability[row]:.2f}"
    page.text(x, y, text if right else f"✗ {text}", colour=_INK if right else _WRONG, under=True)


def _bar(page: _Page, left: float, top: float, tall: float) -> None:
    axes = page.axes(left, top, 0.12, tall)
    # Over middle grey, as opaque as the maps: their colours, not plasma's own.
    grey = np.full((256, 1, 3), 128, dtype=np.uint8)
    axes.imshow(overlay(grey, np.linspace(1, 0, 256)[:, None]), aspect="auto", extent=(0, 1, 0, 1))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    axes.tick_params(length=2, pad=2, labelsize=_SMALL)


def _check(
    pixels: NDArray[np.uint8], columns: Sequence[Column], labels: Sequence[str | None], threshold: float
) -> None:
    if not columns or not len(pixels) or len(labels) != len(pixels):
        raise ValueError(f"a grid needs images, a label each and models: {len(pixels)}, {len(labels)}, {len(columns)}")
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"threshold {threshold} must lie in (0, 1]")
    for column in columns:
        shape, wanted = np.shape(column.cams), pixels.shape[:3]
        if shape != wanted or not len(column.predicted) == len(column.probability) == len(pixels):
            raise ValueError(f"{column.name}: maps {shape} and answers must fit the images, {wanted}")
