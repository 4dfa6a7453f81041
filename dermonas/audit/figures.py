"""An audit as figures: correlation against cost, and how tau grows with training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dermonas.audit.columns import Column, Table
from dermonas.audit.correlation import Choice
from dermonas.comparison.canvas import COLOURS, SETTINGS, empty, literal, plain_axes
from dermonas.metrics.intervals import Interval
from dermonas.metrics.ranks import RankCorrelation
from dermonas.objective.scores import TRAINED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# After Okabe and Ito. In the order of the key.
_KINDS = {
    "paper": ("the papers' score", "#d55e00", "D"),
    "contrastive": ("other label-free scores, trained", "#2a86c8", "o"),
    "untrained": ("label-free scores, untrained", "#009e73", "s"),
    "size": ("size", "#7a7a7a", "^"),
    "count": ("operation counts", "#c79200", "v"),
    "supervised": ("short training with labels", "#cc79a7", "P"),
}


def cost_figure(table: Table, found: Mapping[str, RankCorrelation]) -> Figure:
    """Draw tau against seconds a candidate; what is counted stands at the left edge.

    Earlier epochs of a budget are faint points; last ones have their interval.
    """
    import matplotlib

    with matplotlib.rc_context(SETTINGS):
        figure = empty(7.6, 5.0)
        axes = plain_axes(figure, 0.65, 1.1, 6.75, 3.75)
        columns = [column for column in table.columns.values() if column.name in found]
        last = {column.budget: column.epoch for column in columns}  # epochs rise within a budget
        left = min((column.seconds for column in columns if column.seconds > 0), default=1.0) / 3
        right = max((column.seconds for column in columns), default=1.0)
        axes.set_xscale("log")
        for kind, (label, colour, marker) in _KINDS.items():
            own = [column for column in columns if column.kind == kind]
            early = [column for column in own if column.epoch < last[column.budget]]
            ended = [column for column in own if column.epoch == last[column.budget]]
            axes.plot(
                [column.seconds for column in early], [found[column.name].kendall.estimate for column in early],
                marker, color=colour, markersize=2.5, alpha=0.3, linestyle="none",
            )  # fmt: skip
            if not ended:
                continue
            # Side by side: many scores of a budget cost the same.
            spread = 1.35 if kind in ("size", "count") else 1.1
            shift = np.geomspace(1 / spread, spread, len(ended)) if len(ended) > 1 else np.ones(1)
            seconds = np.array([column.seconds or left for column in ended]) * shift
            taus = [found[column.name].kendall for column in ended]
            best = int(np.argmax([tau.estimate for tau in taus]))
            middle = np.array([tau.estimate for tau in taus])
            bars = np.abs(np.array([[tau.lo for tau in taus], [tau.hi for tau in taus]]) - middle)
            axes.errorbar(
                seconds, middle, bars, fmt=marker, color=colour, markersize=5, elinewidth=0.8, label=label,
                zorder=4 if kind == "paper" else 3,
            )  # fmt: skip
            leftward = bool(seconds[best] > math.sqrt(left * right))
            _label(axes, ended[best], seconds[best], taus[best], colour, leftward=leftward)
        axes.axhline(0, color=COLOURS["muted"], linewidth=0.8)
        axes.set_xlabel("Seconds a candidate (what is counted costs none and stands at the left)", color=COLOURS["ink"])
        axes.set_ylabel("Kendall tau with accuracy, 95 % interval", color=COLOURS["ink"])
        axes.margins(x=0.12)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncol=3, frameon=False)
    return figure


def _label(axes: Axes, column: Column, seconds: float, tau: Interval, colour: str, *, leftward: bool) -> None:
    """Name the best of a kind: above its interval, the papers' below, as others of its cost stand beside it."""
    below = column.kind == "paper"
    axes.annotate(
        literal(column.name), (seconds, tau.lo if below else tau.hi), xytext=(0, -3 if below else 3),
        textcoords="offset points", fontsize=7, color=colour, ha="right" if leftward else "left",
        va="top" if below else "bottom", zorder=5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )  # fmt: skip


def epochs_figure(table: Table, found: Mapping[str, RankCorrelation]) -> Figure:
    """Draw tau of every trained score against epochs, a panel a budget, and the interval of the train loss's."""
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    budgets = list(dict.fromkeys(column.budget for column in table.columns.values() if column.epoch))
    with matplotlib.rc_context(SETTINGS):
        across = 2 * max(len(budgets), 1)  # names in a row of the key
        bottom = 0.55 + 0.17 * math.ceil(len(TRAINED) / across)
        figure = empty(0.7 + 2.9 * max(len(budgets), 1), bottom + 2.25)
        for number, budget in enumerate(budgets):
            axes = plain_axes(figure, 0.6 + 2.9 * number, bottom, 2.4, 1.95)
            own = [column for column in table.columns.values() if column.budget == budget and column.name in found]
            for place, score in enumerate(dict.fromkeys(column.score for column in own)):
                line = [column for column in own if column.score == score]
                taus = [found[column.name].kendall for column in line]
                epochs = [column.epoch for column in line]
                colour = f"C{place}"
                axes.plot(epochs, [tau.estimate for tau in taus], color=colour, label=score, marker=".", linewidth=1.2)
                if score == "train_loss":  # one band says how wide all are
                    low, high = [tau.lo for tau in taus], [tau.hi for tau in taus]
                    axes.fill_between(epochs, low, high, color=colour, alpha=0.12, linewidth=0)
            axes.axhline(0, color=COLOURS["muted"], linewidth=0.8)
            axes.set_title(literal(budget), color=COLOURS["ink"], loc="left")
            axes.set_xlabel("Epochs", color=COLOURS["ink"])
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if not number:
                axes.set_ylabel("Kendall tau", color=COLOURS["ink"])
            if not number:
                figure.legend(loc="lower left", bbox_to_anchor=(0.02, 0.0), ncol=across, frameon=False, fontsize=7)
    return figure


def scatter_figure(table: Table, found: Mapping[str, RankCorrelation], choice: Choice) -> Figure:
    """Draw accuracy against the papers' score, the score most often chosen, and size."""
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    shown = list(dict.fromkeys((table.paper.name, next(iter(choice.chosen)), "parameters")))
    with matplotlib.rc_context(SETTINGS):
        figure = empty(0.7 + 2.9 * len(shown), 3.1)
        for number, name in enumerate(shown):
            column = table.columns[name]
            axes = plain_axes(figure, 0.6 + 2.9 * number, 0.55, 2.35, 2.2)
            colour, marker = _KINDS[column.kind][1:]
            axes.plot(
                column.values, 100 * table.quality, marker, color=colour, markersize=3, alpha=0.6, linestyle="none"
            )
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
            tau = found[name].kendall
            axes.set_title(f"tau {tau.estimate:.2f} [{tau.lo:.2f}, {tau.hi:.2f}]", loc="left", color=COLOURS["ink"])
            axes.set_xlabel(literal(name) + " (higher is better)", color=COLOURS["ink"])
            if not number:
                axes.set_ylabel("Accuracy, %", color=COLOURS["ink"])
    return figure
