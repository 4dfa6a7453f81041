"""The report: from runs and a table to figures, tables and figures of merit, and what could not be made."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import numpy as np

from dermonas.comparison.controller import curves, distances, embeddings
from dermonas.comparison.controller.curves import History
from dermonas.comparison.controller.distances import Similarity
from dermonas.comparison.controller.material import Drawn, Material, Pretraining, Report, ReportSettings
from dermonas.comparison.controller.searches import standings, table_row
from dermonas.controller.locality import DISTANCES, cosine, locality, pairs_by_distance, random_distances
from dermonas.controller.model import Controller

_log = logging.getLogger(__name__)


def make(material: Material, settings: ReportSettings) -> Report:
    """Make a report; what lacks data is skipped and named with the reason."""
    report = Report(material, settings)
    for step in (_figure_1a, _figure_1b, _figure_1c, _figure_2, _figure_3, _figure_4, _regret, _tables):
        step(report)
    return report


def _figure_1a(report: Report) -> None:
    own, settings = report.material, report.settings
    found = random_distances(own.language, own.cells, settings.random_pairs, settings.seed)
    report.numbers["distance/share_above_6"] = distances.share_above(found)
    report.numbers["distance/mean"] = float(found.mean())
    what = "of all cells" if own.listed else "of genotypes drawn uniformly"
    text = (
        f"Exact edit distances of {len(found):,} random pairs {what} of {own.domain}. The share that the paper prints "
        "is of NAS-Bench-101 and stands in the legend as published."
    )
    figure = distances.histogram_figure(found, own.domain)
    report.figures["fig1a-distances"] = Drawn("Fig 1a: edit distance of random pairs", figure, text)


def _figure_1b(report: Report) -> None:
    own, settings, heading = report.material, report.settings, "Fig 1b: performance by edit distance"
    if own.known is None:
        report.skipped[heading] = "no table of accuracies was given"
        return
    pairs = pairs_by_distance(own.language, own.known.cells, settings.performance_pairs, DISTANCES, settings.seed)
    if not len(pairs):
        report.skipped[heading] = "no two networks of the table are 1 to 8 edits apart"
        return
    values = distances.differences(pairs, own.known)
    for distance, median in distances.difference_medians(pairs, values).items():
        report.numbers[f"performance/median_difference_at_{distance}"] = median
    text = (
        f"Absolute difference in {own.known.measure} of pairs of known networks, up to {settings.performance_pairs:,} "
        f"pairs a distance, exact distances, {own.known.source}. Near pairs come from random edits of random networks "
        f"and are kept if both are in the table. {_missing(pairs.distance)}"
    )
    figure = distances.performance_figure(pairs, own.known)
    report.figures["fig1b-performance"] = Drawn(heading, figure, text.strip())


def _figure_1c(report: Report) -> None:
    own, settings, heading = report.material, report.settings, "Fig 1c: similarity of embeddings by edit distance"
    if not own.pretrainings:
        report.skipped[heading] = "no pretrained controller was given"
        return
    pairs = pairs_by_distance(own.language, own.cells, settings.pairs, DISTANCES, settings.seed, listed=own.listed)
    if len(np.unique(pairs.distance)) < 2:
        report.skipped[heading] = "the cells make no pairs of two distances"
        return
    for one in own.pretrainings:
        similarity = cosine(one.controller, own.language, pairs)
        rho = locality(similarity, pairs, seed=settings.seed)
        report.similarities.append(Similarity(one.metric, one.run_id, pairs, similarity, rho))
        name = f"locality/spearman/{one.metric}" + (f"/s{one.seed}" if _twice(own.pretrainings, one.metric) else "")
        report.numbers[name] = rho.estimate
    subject = report.subject
    assert subject is not None
    for name, value in (("", subject.rho.estimate), ("/lo", subject.rho.lo), ("/hi", subject.rho.hi)):
        report.numbers[f"locality/spearman{name}"] = value
    text = (
        f"Cosine similarity of the embeddings of up to {settings.pairs:,} pairs a distance, exact distances. Spearman "
        "is the correlation of distance and cosine over all pairs, its 95 % interval resamples anchors. "
        f"{_missing(pairs.distance)}"
    )
    figure = distances.similarity_figure(report.similarities, own.domain)
    report.figures["fig1c-similarity"] = Drawn(heading, figure, text.strip())


def _figure_2(report: Report) -> None:
    own, settings, heading = report.material, report.settings, "Fig 2: embeddings of anchors and positives"
    controllers: list[tuple[str, Controller]] = []
    before_and_after = [*(one.metric for one in own.pretrainings), *(one.metric for one in own.searched)]
    for metric in dict.fromkeys(before_and_after):
        before = [(f"{metric}, pretrained", one.controller) for one in own.pretrainings if one.metric == metric]
        after = [
            (f"{metric}, after search ({one.arm})", one.controller) for one in own.searched if one.metric == metric
        ]
        controllers += before[:1] + after[:1]
    if not controllers:
        report.skipped[heading] = "no controller was given"
        return
    cells = embeddings.near_cells(own.language, own.cells, settings.seed)
    found = []
    for title, controller in controllers:
        _log.info("laying out %s", title)
        found.append(embeddings.panel(title, controller, own.language, cells, settings.seed))
    text = (
        f"UMAP (Euclidean, 32 neighbours, minimum distance .5, seed {settings.seed}) of {len(cells)} random cells, "
        f"outlined, with {cells.shape[1] - 1} positives each, the same cells in every panel. Axes have no meaning, and "
        "panels are laid out apart. Eight colours with two marks."
    )
    report.figures["fig2-embeddings"] = Drawn(heading, embeddings.embeddings_figure(found, own.domain), text)


def _figure_3(report: Report) -> None:
    own, heading = report.material, "Fig 3: pretraining"
    histories = [History(one.metric, one.seed, one.reports) for one in own.pretrainings if one.reports]
    if not histories:
        report.skipped[heading] = "no pretraining run was given"
        return
    text = (
        "Means over the iterations between two reports. Metric losses are on scales of their own and do not compare "
        "with each other; padding counts as tokens, as in the paper."
    )
    report.figures["fig3-pretraining"] = Drawn(heading, curves.pretraining_figure(histories, own.domain), text)


def _figure_4(report: Report) -> None:
    own, window, heading = report.material, report.settings.window, "Fig 4: performance in query order"
    if not own.searches:
        report.skipped[heading] = "no search was given"
        return
    longest = max(one.queries for one in own.searches)
    shown = [one for one in own.searches if one.queries >= window]
    if not shown:
        report.skipped[heading] = f"the longest search has {longest} queries, fewer than the window of {window}"
        return
    left = [one.arm for one in own.searches if one not in shown]
    text = f"Left out, for fewer queries than the window: {', '.join(left)}." if left else ""
    text = f"Test accuracy of what was queried, in order, not of the best so far. {text}".strip()
    report.figures["fig4-moving-average"] = Drawn(heading, curves.average_figure(shown, window, own.place), text)


def _regret(report: Report) -> None:
    own, heading = report.material, "Regret by query"
    if not own.searches or own.known is None or own.known.best is None:
        what = "no search was given" if not own.searches else "no table with test accuracies was given"
        report.skipped[heading] = what
        return
    text = (
        f"The table's best test accuracy ({100 * own.known.best:.2f} %) less the test accuracy of the best by "
        "validation so far. The yardstick is a search that sees every validation accuracy."
    )
    report.figures["regret"] = Drawn(heading, curves.regret_figure(own.searches, own.known), text)


def _tables(report: Report) -> None:
    own, settings = report.material, report.settings
    if not own.searches:
        report.skipped["Table 1 and the comparison"] = "no search was given"
        return
    for one in own.searches:
        report.rows[one.arm] = table_row(one, own.known)
    report.standings.extend(standings(own.searches, settings.queries, settings.references))
    for row in report.standings:
        report.numbers[f"accuracy/{_metric_name(row.arm)}/at_{row.queries}"] = row.accuracy.mean


def _missing(found: np.ndarray) -> str:
    lacking = [str(distance) for distance in DISTANCES if not (found == distance).any()]
    return f"There is no pair of distance {', '.join(lacking)}." if lacking else ""


def _twice(pretrainings: Sequence[Pretraining], metric: str) -> bool:
    return sum(one.metric == metric for one in pretrainings) > 1


def _metric_name(arm: str) -> str:
    """Return a name that MLflow takes."""
    return re.sub(r"[^\w .-]", "_", arm)
