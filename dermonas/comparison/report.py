"""A comparison as files: tables for programs, figures, and one page for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from dermonas.comparison.canvas import embedded, image
from dermonas.comparison.compare import Comparison
from dermonas.comparison.figures import COSTS, cost_figure, labels_figure
from dermonas.comparison.files import write_files
from dermonas.comparison.page import page
from dermonas.comparison.tables import to_csv, to_json
from dermonas.comparison.wording import resampled
from dermonas.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "comparison.html"
"""Name of the page among the files."""

_PNG = b"\x89PNG\r\n\x1a\n"


def write(
    comparison: Comparison,
    folder: Path,
    *,
    grid: bytes | None = None,
    deviations: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
) -> list[Path]:
    """Write comparison.csv, comparison.json, each figure as PNG and SVG, and comparison.html.

    The same comparison gives the same bytes. A file appears only when it is complete.

    Args:
        comparison: What to write.
        folder: Made if missing; earlier files of these names are replaced.
        grid: PNG file of class activation maps for the page.
        deviations: By model, where its training differs from the paper: "key", "paper", "ours" each.

    Returns:
        The files, the page last.

    Raises:
        DataError: A grid that is no PNG file.
        StorageError: A folder or file that cannot be written.
    """
    if grid is not None and not grid.startswith(_PNG):
        raise DataError("the grid of class activation maps is no PNG file; give the file's content")
    files = {"comparison.csv": to_csv(comparison).encode(), "comparison.json": to_json(comparison).encode()}
    shown = {}
    for place, (name, (heading, figure, caption)) in enumerate(_figures(comparison).items()):
        for kind in ("png", "svg"):
            files[f"{name}.{kind}"] = image(figure, kind)
        shown[heading] = embedded(figure, f"figure{place}", escape(f"{heading}. {caption}")), caption
    files[PAGE] = page(comparison, shown, grid=grid, deviations=deviations or {}).encode()
    return write_files(files, folder, "comparison")


def _figures(comparison: Comparison) -> dict[str, tuple[str, Figure, str]]:
    """Return heading, figure and caption by file name."""
    left_out = len(comparison.ours) - len(comparison.peers)
    ending = f" {left_out} trained on fewer labels left out." if left_out else ""
    level, unit = 100 * comparison.split.level, resampled(comparison)
    bars = f"Bars: {level:g} % bootstrap interval of the mean over seeds, resampling {unit}."
    synthetic = " Filled points: synthetic phantom images." if comparison.split.synthetic else ""
    found = {}
    for cost, called in COSTS.items():
        what = called.split(" ")[0].lower()
        text = (
            f"{bars} Dashed: Pareto front of our models. Marks are those of the table. Hollow points are published "
            f"figures of {comparison.table.data}, not measured here and not part of the front.{synthetic}{ending}"
        )
        found[f"accuracy-{what}"] = (f"Accuracy against {what}", cost_figure(comparison, cost), text)
    lines = labels_figure(comparison)
    if lines is not None:
        text = f"{bars} Each number is one model; points of one share stand a little apart so that bars can be seen."
        found["accuracy-labels"] = ("Accuracy against the share of labels", lines, text + synthetic)
    return found
