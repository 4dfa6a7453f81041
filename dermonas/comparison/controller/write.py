"""A report as files."""

from __future__ import annotations

from pathlib import Path

from dermonas.comparison.canvas import image
from dermonas.comparison.controller.material import Report
from dermonas.comparison.controller.page import markdown, page
from dermonas.comparison.controller.tables import comparison_csv, locality_json, table1_csv
from dermonas.comparison.files import write_files

PAGE = "report.html"
"""The page; it needs none of the other files."""


def write(report: Report, folder: Path) -> list[Path]:
    """Write the page, report.md, every figure as SVG and PNG, and what there is of table1.csv, comparison.csv and
    locality.json; return the paths.

    Raises:
        StorageError: The disk refuses.
    """
    drawn = {name: image(one.figure, "svg") for name, one in report.figures.items()}
    files = {f"{name}.svg": content for name, content in drawn.items()}
    files |= {f"{name}.png": image(one.figure, "png") for name, one in report.figures.items()}
    if report.rows:
        files |= {"table1.csv": table1_csv(report).encode(), "comparison.csv": comparison_csv(report).encode()}
    if report.similarities:
        files["locality.json"] = locality_json(report).encode()
    files |= {"report.md": markdown(report, list(drawn)).encode(), PAGE: page(report, drawn).encode()}
    return write_files(files, folder, "report")
