"""What the figures share: colours, files, and how one is put into a page."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In a page each becomes the style sheet's variable of that name, so that a figure follows light and dark.
COLOURS = {
    "ink": "#222222",
    "muted": "#696969",
    "line": "#dddddd",
    "cells": "#1f63b5",
    "timm": "#b5541c",
}

# Nothing of the user's matplotlib settings enters a figure.
SETTINGS: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "dermonas",
    "axes.unicode_minus": True,
}


def empty(width: float, height: float) -> Figure:
    """Return a white figure of this size in inches, made without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes, placed in inches, with a light grid and no box."""
    wide, tall = figure.get_size_inches()
    axes = figure.add_axes((left / wide, bottom / tall, width / wide, height / tall), facecolor="none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(COLOURS["muted"])
    axes.tick_params(colors=COLOURS["muted"], labelcolor=COLOURS["ink"], which="both")
    axes.grid(True, color=COLOURS["line"], linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def literal(text: str) -> str:
    """Return text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def image(figure: Figure, kind: str) -> bytes:
    """Return the figure as a file's content, "png" (150 pixels an inch) or "svg"; the same figure, the same bytes."""
    import matplotlib

    content = io.BytesIO()
    with matplotlib.rc_context(SETTINGS):
        figure.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {})
    return content.getvalue()


def embedded(figure: Figure, prefix: str, label: str) -> str:
    """Return the figure as an `svg` element for a page: no background, the page's colours, ids of its own.

    Args:
        figure: To embed.
        prefix: Of its ids: a page may hold several figures.
        label: Escaped text for who cannot see it.
    """
    figure.patch.set_alpha(0.0)
    try:
        text = image(figure, "svg").decode("utf-8")
    finally:
        figure.patch.set_alpha(1.0)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{label}" ', text, count=1)
