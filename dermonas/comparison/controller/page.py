"""The report as one page that needs nothing else, and as Markdown."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from dermonas.comparison.controller.material import Report
from dermonas.comparison.controller.published import FIGURES
from dermonas.comparison.controller.tables import (
    HEADINGS,
    about_published,
    cell_text,
    comparison_rows,
    table1_rows,
)

_STYLE = Path(__file__).parents[1] / "report.css"

_TABLE1 = (
    "Queries: until the run's best by validation was found; its test accuracy; SD: standard deviation of the test "
    "accuracies of all that was queried; regret below the best of the table, and the rank among all its networks. "
    "Mean ± standard deviation (n − 1) over seeds."
)
_COMPARISON = (
    "Test accuracy of the best by validation after so many queries, mean ± standard deviation over seeds. Differences "
    "in points are paired by seed; the brackets hold a 95 % interval by Student's t, not corrected for their number."
)


def markdown(report: Report, figures: Sequence[str]) -> str:
    """Return the report as Markdown.

    Args:
        report: What it says.
        figures: Names of the PNG files beside it.
    """
    parts = [f"# {_title(report)}", _facts(report)]
    if report.rows:
        parts += ["## Table 1", _md(["Method", "Source", *HEADINGS.values()], _table1(report))]
        parts += [f"{_TABLE1} {about_published(report)}.", "## Comparison", _md(*comparison_rows(report)), _COMPARISON]
    for name in figures:
        drawn = report.figures[name]
        parts += [f"## {drawn.heading}", f"![{drawn.heading}]({name}.png)", drawn.caption]
    if report.skipped:
        parts += ["## Not made", "\n".join(f"- {name}: {reason}." for name, reason in report.skipped.items())]
    parts += ["## Runs", _md(["Run", "Kind", "Name"], _runs(report))]
    return "\n\n".join(part for part in parts if part) + "\n"


def page(report: Report, figures: Mapping[str, bytes]) -> str:
    """Return the report as HTML.

    Args:
        report: What it says.
        figures: SVG files by name. They stand on white in a dark page too, as images, for their scales of colour.
    """
    parts = [f"<h1>{escape(_title(report))}</h1>", f'<p class="facts">{escape(_facts(report))}</p>']
    if report.rows:
        parts += ["<h2>Table 1</h2>", _table1_html(report), f"<p>{escape(_TABLE1)}</p>"]
        parts += ["<h2>Comparison</h2>", _html(*comparison_rows(report), texts=1, wide=4)]
        parts.append(f"<p>{escape(_COMPARISON)}</p>")
    for name, content in figures.items():
        drawn, data = report.figures[name], base64.b64encode(content).decode("ascii")
        image = f'<img alt="{escape(drawn.heading)}" src="data:image/svg+xml;base64,{data}">'
        parts.append(
            f"<h2>{escape(drawn.heading)}</h2>\n<figure>{image}\n<figcaption>{escape(drawn.caption)}</figcaption></figure>"
        )
    if report.skipped:
        lines = "".join(f"<li>{escape(name)}: {escape(why)}.</li>" for name, why in report.skipped.items())
        parts.append(f"<h2>Not made</h2>\n<ul>{lines}</ul>")
    parts += ["<h2>Runs</h2>", _html(["Run", "Kind", "Name"], _runs(report), texts=3)]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(_title(report))}</title>\n"
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n"
        "</html>\n"
    )


def _title(report: Report) -> str:
    return f"The pretrained controller on {report.material.place}"


def _facts(report: Report) -> str:
    own = report.material
    searches, controllers = len(own.searches), len(own.pretrainings)
    table = "no table" if own.known is None else f"table: {own.known.source}"
    cells = f"{len(own.cells):,} {'cells' if own.listed else 'genotypes drawn uniformly'}"
    return (
        f"{searches} search{'es' * (searches != 1)} and {controllers} pretrained controller{'s' * (controllers != 1)}; "
        f"{cells}; {table}; seed {report.settings.seed}. All from our own runs, but for what is marked published."
    )


def _table1(report: Report) -> list[list[str]]:
    return [
        [name, source, *(cell_text(key, cells.get(key), printed=source == "published") for key in FIGURES)]
        for name, source, cells in table1_rows(report)
    ]


def _table1_html(report: Report) -> str:
    head = _head(["Method", *HEADINGS.values()], 1)
    lines, before = [], "measured"
    for name, source, *values in _table1(report):
        if source != before:
            text = escape(about_published(report))
            lines.append(f'<tr class="heading"><th colspan="{len(HEADINGS) + 1}" scope="colgroup">{text}</th></tr>')
            before = source
        badge = ' <span class="badge">published</span>' if source == "published" else ""
        cells = "".join(f'<td class="value">{escape(value)}</td>' for value in values)
        kind = "published" if badge else "ours"
        title = f'<th scope="row" class="text"><span class="name">{escape(name)}</span>{badge}</th>'
        lines.append(f'<tr class="{kind}">{title}{cells}</tr>')
    return _wide(head, lines)


def _html(head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int, wide: int = 1000) -> str:
    """Return a table; the first `texts` columns and those from `wide` on hold text."""
    lines = []
    for row in rows:
        cells = "".join(
            f'<td class="{"text" if place < texts or place >= wide else "value"}">{escape(value)}</td>'
            for place, value in enumerate(row)
        )
        lines.append(f"<tr>{cells}</tr>")
    return _wide(_head(head, texts, wide), lines)


def _head(head: Sequence[str], texts: int, wide: int = 1000) -> str:
    cells = (
        f'<th scope="col" class="{"text" if place < texts or place >= wide else "value"}">{escape(name)}</th>'
        for place, name in enumerate(head)
    )
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def _wide(head: str, lines: Sequence[str]) -> str:
    return f'<div class="wide"><table>\n{head}\n<tbody>\n{chr(10).join(lines)}\n</tbody></table></div>'


def _md(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _runs(report: Report) -> list[list[str]]:
    own = report.material
    rows = [[one.run_id, "pretrain", f"{one.metric}, seed {one.seed}"] for one in own.pretrainings]
    return rows + [[one.run_id, "search", one.arm] for one in own.searches]
