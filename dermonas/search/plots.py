"""Plots of a search: score by trial, and which positions of theta decide it."""

from __future__ import annotations

import itertools
from pathlib import Path

import optuna
import plotly.graph_objects as go
from optuna.trial import TrialState, create_trial

from dermonas.events import TrialEvent
from dermonas.search.samplers.history import distributions
from dermonas.space.darts import DartsSpace

_ENOUGH = 5  # distinct scores below which an importance would be noise
_MARKERS = {"complete": ("circle", "#0072b2"), "duplicate": ("circle-open", "#999999"), "pruned": ("x", "#d55e00")}
_LAYOUT = {"template": "plotly_white", "font": {"size": 15}, "margin": {"t": 70, "r": 30}}


def write_history(events: list[TrialEvent], path: Path, chance: float | None = None) -> None:
    """Write an interactive plot of every trial's score and the best so far.

    Args:
        events: The study's trials in number order; pruned ones stand at their last epoch's score.
        path: HTML file to write, self-contained.
        chance: Score of embeddings that tell nothing, drawn as a line.
    """
    figure = go.Figure()
    for state, (symbol, colour) in _MARKERS.items():
        shown = [event for event in events if event.state == state]
        scores = [event.value if event.value is not None else (event.epochs or (None,))[-1] for event in shown]
        if shown:
            figure.add_scatter(
                x=[event.number for event in shown],
                y=scores,
                mode="markers",
                name=f"{state} ({len(shown)})",
                marker={"symbol": symbol, "color": colour, "size": 9},
                customdata=[(event.digest, event.seconds) for event in shown],
                hovertemplate="trial %{x}: %{y:.4f}<br>%{customdata[0]}<br>%{customdata[1]:.1f} s",
            )
    complete = [
        (event.number, event.value) for event in events if event.state == "complete" and event.value is not None
    ]
    best = list(itertools.accumulate((value for _, value in complete), min))
    numbers = [number for number, _ in complete]
    figure.add_scatter(x=numbers, y=best, mode="lines", name="best so far", line={"shape": "hv", "color": "#222222"})
    if chance is not None:
        figure.add_hline(chance, line={"dash": "dot", "color": "#999999"}, annotation_text="chance")
    figure.update_layout(title="Score by trial (lower is better)", xaxis_title="trial", yaxis_title="score", **_LAYOUT)
    figure.update_xaxes(tickformat="d")
    figure.write_html(path, include_plotlyjs=True)


def write_importance(events: list[TrialEvent], space: DartsSpace, path: Path, top: int = 20) -> bool:
    """Write a bar plot of the most important positions of theta by fANOVA (Hutter et al. 2014).

    Args:
        events: The study's trials.
        space: The searched space.
        path: HTML file to write.
        top: Positions shown at most.

    Returns:
        False, and nothing written, with fewer than five distinct scores.
    """
    scored = [event for event in events if event.state in ("complete", "duplicate") and event.value is not None]
    if len({event.value for event in scored}) < _ENOUGH:
        return False
    # Optuna analyses parameters, the store keeps theta as one attribute: rebuild the study in memory,
    # without the positions that have one choice only.
    ranges = dict(zip(position_labels(space), distributions(space.choices).values(), strict=True))
    free = {label: kind for label, kind in ranges.items() if len(kind.choices) > 1}
    mirror = optuna.create_study(direction="minimize")
    for event in scored:
        theta = dict(zip(ranges, event.info["theta"], strict=True))
        params = {label: theta[label] for label in free}
        mirror.add_trial(
            create_trial(state=TrialState.COMPLETE, value=event.value, params=params, distributions=dict(free))
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(mirror, evaluator=evaluator)
    labels = sorted(shares, key=lambda label: shares[label])[-top:]
    figure = go.Figure(go.Bar(x=[shares[label] for label in labels], y=labels, orientation="h", marker_color="#0072b2"))
    title = f"Positions that explain the score most (fANOVA over {len(scored)} trials)"
    figure.update_layout(title=title, xaxis_title="share of the score's variance", **_LAYOUT)
    figure.write_html(path, include_plotlyjs=True)
    return True


def position_labels(space: DartsSpace) -> list[str]:
    """Return a readable name of each position of theta, e.g. "normal node 0 from c_{k-2}"."""
    one_cell = []
    for node in range(space.nodes):
        if space.encoding == "pairs":
            one_cell += [f"node {node} {part}" for part in ("sources", "first operation", "second operation")]
        else:
            sources = ["c_{k-2}", "c_{k-1}", *(f"node {i}" for i in range(node))]
            one_cell += [f"node {node} from {source}" for source in sources]
    return [f"{cell} {label}" for cell in ("normal", "reduction") for label in one_cell]
