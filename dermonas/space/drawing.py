"""Drawings of cells, left to right as in NAS papers: inputs, operations, nodes, concat.

Every node has a horizontal band of its own, and its operations stand as labels in that band, stacked
to its left. An edge changes height only in the empty gutter beside its source and then runs level to
its operation. So no line crosses a box and no two labels meet, whatever the cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dermonas.space.genotype import Cell, Edge, Genotype

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any colour vision, and in grey by the label.
_FAMILIES: dict[str, tuple[str, str]] = {
    "max_pool_3x3": ("pooling", "#D55E00"),
    "avg_pool_3x3": ("pooling", "#D55E00"),
    "skip_connect": ("skip", "#009E73"),
    "sep_conv_3x3": ("separable conv", "#0072B2"),
    "sep_conv_5x5": ("separable conv", "#0072B2"),
    "sep_conv_7x7": ("separable conv", "#0072B2"),
    "dil_conv_3x3": ("dilated conv", "#A3497F"),
    "dil_conv_5x5": ("dilated conv", "#A3497F"),
    "conv_7x1_1x7": ("factorised conv", "#8A6D00"),
}
_DEAD = "#808080"
_INK = "#222222"

# One unit is one row of labels; sizes in units, and inches by unit below.
_INCHES = 0.36
_LABEL = (3.1, 0.74)
_INPUT = (1.9, 1.2)
_NODE = (1.6, 1.2)
_GUTTER = 2.6
_GAP = 0.7

# Nothing of the user's matplotlib settings, the clock or a random number enters a drawing.
_SETTINGS: Any = {"svg.hashsalt": "dermonas", "svg.fonttype": "path", "font.family": ["DejaVu Sans"], "font.size": 8.0}


@dataclass(frozen=True)
class _Layout:
    """Where things stand: x = left end of a box, y = its middle, in units; y grows downward."""

    order: list[list[Edge]]
    labels: list[list[tuple[float, float]]]
    boxes: dict[int, tuple[float, float]]
    bar: float
    width: float
    height: float


def draw(genotype: Genotype, folder: Path, stem: str = "") -> list[Path]:
    """Write normal.svg, normal.png, reduction.svg and reduction.png.

    The same genotype gives the same bytes. A file appears only when it is complete.

    Args:
        genotype: What to draw.
        folder: Where to write; made if missing.
        stem: Put before the file names and a dash ("DARTS_V2" gives DARTS_V2-normal.svg), and into
            the titles.

    Returns:
        The four paths, in the order above.

    Raises:
        OSError: If the folder cannot be written.
    """
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind, cell in (("normal", genotype.normal), ("reduction", genotype.reduce)):
        figure = draw_cell(cell, f"{stem} {kind} cell".strip())
        for suffix in ("svg", "png"):
            path = folder / f"{stem}{'-' if stem else ''}{kind}.{suffix}"
            part = path.with_name(f".{path.name}.part")
            metadata = {"Date": None} if suffix == "svg" else {}
            try:
                with matplotlib.rc_context(_SETTINGS):
                    figure.savefig(part, format=suffix, dpi=150, metadata=metadata)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            paths.append(path)
    return paths


def draw_cell(cell: Cell, title: str) -> Figure:
    """Return a matplotlib figure of one cell, made without pyplot and owned by the caller.

    Dead nodes (no path to the concat) are grey, dashed and marked "(dead)".

    Args:
        cell: What to draw.
        title: Text above the drawing; may be empty.
    """
    import matplotlib
    from matplotlib.figure import Figure

    layout = _arrange(cell)
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(layout.width * _INCHES, layout.height * _INCHES), facecolor="white")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_xlim(0, layout.width)
        axes.set_ylim(layout.height, 0)
        axes.text(layout.width / 2, 0.75, title, ha="center", va="center", fontsize=11, fontweight="bold", color=_INK)
        _draw_edges(axes, cell, layout)
        _draw_boxes(axes, cell, layout)
        _draw_legend(axes, cell, layout)
    return figure


def _arrange(cell: Cell) -> _Layout:
    depth = {0: 0, 1: 0}
    for i, edges in enumerate(cell.nodes):
        depth[i + 2] = 1 + max(depth[source] for _, source in edges)
    columns = max(depth.values())
    step = _LABEL[0] + 0.9 + _NODE[0] + _GUTTER
    heights = [max(len(edges) * 1.0, 1.6) for edges in cell.nodes]
    top, middle = 1.6, []
    for height in heights:
        middle.append(top + height / 2)
        top += height + _GAP
    bottom = top - _GAP
    centre, spread = (1.6 + bottom) / 2, min(3.0, (bottom - 1.6) / 5)
    boxes = {0: (0.4, centre - spread), 1: (0.4, centre + spread)}
    start = 0.4 + _INPUT[0] + _GUTTER
    order, labels = [], []
    for i, edges in enumerate(cell.nodes):
        left = start + (depth[i + 2] - 1) * step
        boxes[i + 2] = (left + _LABEL[0] + 0.9, middle[i])
        # Labels in the order of their sources' heights, so that lines into a node do not cross.
        order.append(sorted(edges, key=lambda edge: (boxes[edge.source][1], edge.operation)))
        labels.append([(left, middle[i] + k - (len(edges) - 1) / 2) for k in range(len(edges))])
    bar = start + columns * step - _GUTTER + 1.4
    return _Layout(order, labels, boxes, bar, bar + 5.2, bottom + 1.9)


def _draw_edges(axes: Axes, cell: Cell, layout: _Layout) -> None:
    for i, edges in enumerate(layout.order):
        dead = i not in cell.live_nodes
        node_x, node_y = layout.boxes[i + 2]
        for (operation, source), (x, y) in zip(edges, layout.labels[i], strict=True):
            colour = _DEAD if dead else _FAMILIES[operation][1]
            source_x, source_y = layout.boxes[source]
            out = source_x + (_INPUT if source < 2 else _NODE)[0]
            _line(axes, (out, source_y), (x, y), colour, dead, fan=_GUTTER)
            _line(axes, (x + _LABEL[0], y), (node_x, node_y), colour, dead, fan=0.9, arrow=True)
        if i + 2 in cell.concat:
            _line(axes, (node_x + _NODE[0], node_y), (layout.bar, node_y), _INK, False, fan=0, arrow=True)


def _line(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    dead: bool,
    fan: float,
    arrow: bool = False,
) -> None:
    """Draw from start to end: an S-curve over the first `fan` units, then level."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    (x, y), (end_x, end_y) = start, end
    turn = x + fan
    points = [(x, y), (x + fan * 0.55, y), (turn - fan * 0.55, end_y), (turn, end_y)]
    codes = [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]
    if turn < end_x:  # a last segment of no length would swallow the arrow head
        points.append((end_x, end_y))
        codes.append(Curve.LINETO)
    axes.add_patch(
        FancyArrowPatch(
            path=Curve(points, codes),
            arrowstyle="-|>" if arrow else "-",
            mutation_scale=7,
            linewidth=1.1,
            linestyle=(0, (4, 2.5)) if dead else "solid",
            color=colour,
            shrinkA=0,
            shrinkB=0,
            zorder=1,
        )
    )


def _draw_boxes(axes: Axes, cell: Cell, layout: _Layout) -> None:
    for i, edges in enumerate(layout.order):
        dead = i not in cell.live_nodes
        for (operation, _), corner in zip(edges, layout.labels[i], strict=True):
            colour = _DEAD if dead else _FAMILIES[operation][1]
            _box(axes, corner, _LABEL, operation, "white", colour, dead, fontsize=7.5)
        text = f"{i}\n(dead)" if dead else str(i)
        _box(axes, layout.boxes[i + 2], _NODE, text, "#F4F4F4" if dead else "#E8F0F8", _DEAD if dead else _INK, dead)
    for source, text in ((0, "$c_{k-2}$"), (1, "$c_{k-1}$")):
        _box(axes, layout.boxes[source], _INPUT, text, "#DCEFE2", _INK, False, fontsize=10)
    joined = [layout.boxes[state][1] for state in cell.concat]
    middle, tall = (min(joined) + max(joined)) / 2, max(joined) - min(joined) + 1.6
    _box(axes, (layout.bar, middle), (0.9, max(tall, 2.8)), "concat", "#F6EBD3", _INK, False, rotation=90)
    _line(axes, (layout.bar + 0.9, middle), (layout.bar + 2.5, middle), _INK, False, fan=0, arrow=True)
    _box(axes, (layout.bar + 2.5, middle), _INPUT, "$c_k$", "#F6EBD3", _INK, False, fontsize=10)


def _box(
    axes: Axes,
    left_middle: tuple[float, float],
    size: tuple[float, float],
    text: str,
    fill: str,
    colour: str,
    dead: bool,
    fontsize: float = 8,
    rotation: float = 0,
) -> None:
    from matplotlib.patches import FancyBboxPatch

    (x, y), (width, height) = left_middle, size
    axes.add_patch(
        FancyBboxPatch(
            (x, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.28",
            facecolor=fill,
            edgecolor=colour,
            linewidth=1.1,
            linestyle=(0, (4, 2.5)) if dead else "solid",
            zorder=2,
        )
    )
    axes.text(
        x + width / 2, y, text, ha="center", va="center", color=colour, fontsize=fontsize, rotation=rotation, zorder=3
    )


def _draw_legend(axes: Axes, cell: Cell, layout: _Layout) -> None:
    from matplotlib.lines import Line2D

    live = {operation for i in cell.live_nodes for operation, _ in cell.nodes[i]}
    shown = dict(family for operation, family in _FAMILIES.items() if operation in live)
    handles = [Line2D([], [], color=colour, linewidth=2, label=name) for name, colour in shown.items()]
    if len(cell.live_nodes) < len(cell.nodes):
        handles.append(Line2D([], [], color=_DEAD, linewidth=1.5, linestyle=(0, (4, 2.5)), label="dead node"))
    columns = len(handles) if len(handles) <= 4 or layout.width > 20 else 3
    axes.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, fontsize=7.5, handlelength=1.8)
