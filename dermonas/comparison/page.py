"""The comparison as one page that needs nothing else: no script, no font, no file, no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from dermonas.comparison.compare import Comparison, Row
from dermonas.comparison.explained import HOW_TO_READ
from dermonas.comparison.layouts import Column
from dermonas.comparison.pairs import TESTED, Pair
from dermonas.comparison.wording import (
    CALLED,
    cell_text,
    difference_text,
    digits,
    labels_text,
    mcnemar_text,
    p_text,
    resampled,
    title,
)

_STYLE = Path(__file__).with_name("report.css")


def page(
    comparison: Comparison,
    figures: Mapping[str, tuple[str, str]],
    *,
    grid: bytes | None,
    deviations: Mapping[str, Sequence[Mapping[str, object]]],
) -> str:
    """Return the page's HTML.

    Args:
        comparison: What it is about.
        figures: `svg` element and caption (text) by heading.
        grid: PNG file of class activation maps.
        deviations: By model, each with "key", "paper" and "ours".
    """
    split = comparison.split
    lesions = f" of {split.lesions:,} lesions" if resampled(comparison) == "lesions" else ""
    heading = f"Comparison of {len(comparison.ours)} trained model{'s' * (len(comparison.ours) > 1)} on {split.dataset}"
    parts = [
        f"<h1>{escape(heading)}</h1>",
        f'<p class="facts">{split.images:,} test images{lesions}, {len(split.classes)} classes '
        f"({escape(', '.join(split.classes[:12]))}{', …' * (len(split.classes) > 12)}). "
        f"Data set digest <code>{escape(split.digest)}</code>.</p>",
    ]
    if split.synthetic:
        parts.append(
            '<p class="banner"><strong>Synthetic data.</strong> The images are phantoms made by a program; no patient '
            "is in them, and nothing here says how a model does on real images.</p>"
        )
    parts += [_table(comparison), *(f"<p>{escape(note)}</p>" for note in comparison.notes)]
    for name, (svg, caption) in figures.items():
        parts.append(f"<h2>{escape(name)}</h2>\n<figure>{svg}\n<figcaption>{escape(caption)}</figcaption></figure>")
    parts.append(_tests(comparison))
    if grid is not None:
        data = base64.b64encode(grid).decode("ascii")
        parts.append(
            "<h2>Class activation maps</h2>\n<figure>"
            f'<img alt="Grid of class activation maps: a row an image, a column a model" '
            f'src="data:image/png;base64,{data}"></figure>'
        )
    reading = "".join(f"<li>{escape(text.format(level=f'{100 * split.level:g}'))}</li>" for text in HOW_TO_READ)
    parts += [
        f"<h2>How to read the figures</h2>\n<ul>{reading}</ul>",
        _deviations(deviations),
        _runs(comparison),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(heading)}</title>\n'
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def _table(comparison: Comparison) -> str:
    shown = [
        column
        for column in comparison.layout.columns
        if any(row.cells.get(column.key) is not None for row in comparison.ours)
        or (column.key in ("search_days", "operations") and comparison.published)
    ]
    heads = "".join(f'<th scope="col" class="{_class(column)}">{escape(column.heading)}</th>' for column in shown)
    rows = [_row(comparison, row, shown) for row in comparison.ours]
    if comparison.published:
        text = f"Published: {comparison.table.table} of the paper, as printed, {comparison.table.data}"
        differs = comparison.published[0].differs
        text += f" ({differs})" if differs else ""
        rows.append(f'<tr class="heading"><th colspan="{len(shown) + 2}" scope="colgroup">{escape(text)}</th></tr>')
        rows += [_row(comparison, row, shown) for row in comparison.published]
    return (
        f'<h2>{escape(comparison.layout.title)}</h2>\n<div class="wide"><table>\n'
        f'<thead><tr><th scope="col"><abbr title="mark in the figures">#</abbr></th>'
        f'<th scope="col" class="text">Model</th>{heads}</tr></thead>\n'
        f"<tbody>\n{chr(10).join(rows)}\n</tbody></table></div>"
    )


def _row(comparison: Comparison, row: Row, shown: Sequence[Column]) -> str:
    small = [f'<span class="name {row.candidate.kind if row.candidate else ""}">{escape(row.name)}</span>']
    if row.candidate is None:
        badge = "published, other data" if row.differs else "published"
        small.append(f' <span class="badge">{badge}</span>')
    else:
        seeds = len(row.candidate.runs)
        facts = [f"weights: {row.candidate.start}"]
        if title(comparison, row) != row.name:
            facts.insert(0, f"{labels_text(row.label_fraction)} of labels")
        facts.append(f"{seeds} seed{'s' * (seeds > 1)}")
        small.append(f'<span class="small">{escape(" · ".join(facts))}</span>')
    if row.note:
        small.append(f'<span class="small">{escape(row.note)}</span>')
    cells = []
    for column in shown:
        main, interval = cell_text(row.cells.get(column.key), column.unit, digits(comparison))
        bounds = f'<span class="interval">{escape(interval)}</span>' if interval else ""
        cells.append(f'<td class="{_class(column)}">{escape(main)}{bounds}</td>')
    return (
        f'<tr class="{"published" if row.published else "ours"}"><td class="mark">{escape(row.mark)}</td>'
        f'<th scope="row" class="text">{"".join(small)}</th>{"".join(cells)}</tr>'
    )


def _class(column: Column) -> str:
    return "text" if column.unit == "text" else "value"


def _tests(comparison: Comparison) -> str:
    if not comparison.tests:
        return (
            "<h2>Paired tests</h2>\n<p>None: there is no searched network and baseline of one label fraction here, "
            "and no reference was named.</p>"
        )
    rows = "\n".join(line for pair in comparison.tests for line in _pair(comparison, pair))
    count, split = len(comparison.tests), comparison.split
    caption = (
        f"First minus second on the same images, {count} pair{'s' * (count > 1)}; differences over "
        f"{split.replicates:,} resamples of {resampled(comparison)}."
    )
    return (
        f'<h2>Paired tests</h2>\n<div class="wide"><table class="tests">\n<caption>{caption}</caption>\n'
        '<thead><tr><th scope="col" class="text">First, against second</th>'
        '<th scope="col" class="text">Of</th><th scope="col">p, uncorrected</th>'
        '<th scope="col">p, after Holm</th><th scope="col" class="text">Reading</th></tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _pair(comparison: Comparison, pair: Pair) -> list[str]:
    first, second = (comparison.rows[place] for place in (pair.first, pair.second))
    ending = title(comparison, second).removeprefix(second.name)  # both have the same label fraction
    who = (
        f'<th scope="rowgroup" rowspan="{len(TESTED) + 1}" class="text"><span class="name">{escape(first.name)}</span> '
        f"against {escape(second.name + ending)}</th>"
    )
    lines = [
        (CALLED[name], pair.differences[name].p_value, pair.corrected[name], difference_text(comparison, pair, name))
        for name in TESTED
    ]
    exact = pair.mcnemar
    lines.append(("McNemar", exact.p_value, pair.mcnemar_corrected, mcnemar_text(comparison, pair)))
    return [
        f'<tr>{who if index == 0 else ""}<td class="text of">{escape(called)}</td>'
        f'<td class="value raw">{escape(p_text(raw))}</td><td class="value">{escape(p_text(corrected))}</td>'
        f'<td class="text reading">{escape(reading)}</td></tr>'
        for index, (called, raw, corrected, reading) in enumerate(lines)
    ]


def _deviations(deviations: Mapping[str, Sequence[Mapping[str, object]]]) -> str:
    rows = "\n".join(
        f'<tr><th scope="row" class="text">{escape(name)}</th>'
        + "".join(f'<td class="text">{escape(str(entry.get(key, "")))}</td>' for key in ("key", "paper", "ours"))
        + "</tr>"
        for name, entries in deviations.items()
        for entry in entries
    )
    if not rows:
        return ""
    return (
        '<h2>Where the trainings differ from the paper</h2>\n<div class="wide"><table>\n<thead><tr>'
        '<th scope="col" class="text">Model</th><th scope="col" class="text">Setting</th>'
        '<th scope="col" class="text">Paper</th><th scope="col" class="text">Ours</th></tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _runs(comparison: Comparison) -> str:
    rows = "\n".join(
        f'<tr><td class="mark">{escape(row.mark)}</td><th scope="row" class="text">'
        f'{escape(title(comparison, row))}</th><td class="value">{run.seed}</td>'
        f'<td class="text"><code>{escape(run.run_id)}</code></td></tr>'
        for row in comparison.ours
        if row.candidate is not None
        for run in row.candidate.runs
    )
    return (
        '<h2>Runs</h2>\n<div class="wide"><table>\n<thead><tr><th scope="col">#</th>'
        '<th scope="col" class="text">Model</th><th scope="col">Seed</th>'
        f'<th scope="col" class="text">MLflow run</th></tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
    )
