"""The files that a finished search leaves: genotype, drawings, trials, history, importance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState, create_trial

from dermonas.events import Observer, TrialEvent
from dermonas.search.loop import SearchResult, event_of
from dermonas.search.samplers.history import distributions
from dermonas.space.darts import DartsSpace
from dermonas.space.drawing import draw

_ENOUGH = 5  # distinct scores below which an importance would be noise


def write_report(
    study: optuna.Study, space: DartsSpace, result: SearchResult, folder: Path, observer: Observer
) -> None:
    """Write the report's files to `folder` and announce each as an artifact.

    Args:
        study: The study.
        space: The searched space.
        result: Its best genotype.
        folder: An existing folder.
        observer: Told of each file.
    """
    genotype = folder / "genotype.json"
    content = {
        **result.genotype.to_dict(),
        "digest": result.digest,
        "score": result.value,
        "trial": result.number,
        "theta": list(result.theta),
        "space": space.name,
        "study": study.study_name,
    }
    genotype.write_text(json.dumps(content, indent=2) + "\n")
    observer.artifact(genotype)
    for drawing in draw(result.genotype, folder):
        observer.artifact(drawing, "cells")
    events = [event_of(trial, space) for trial in study.get_trials(deepcopy=False)]
    table = folder / "trials.parquet"
    trials_frame(events).to_parquet(table, index=False)
    observer.artifact(table)
    for path in write_plots(events, space, folder):
        observer.artifact(path, "plots")


def trials_frame(events: list[TrialEvent]) -> pd.DataFrame:
    """Return one row a trial: number, state, digest, value, epochs, seconds, theta, and the score's facts."""
    facts = ("device_seconds", "parameters", "dead_parameters", "multiply_adds", "code_scaled", "error")
    rows: list[dict[str, Any]] = [
        {
            "number": event.number,
            "state": event.state,
            "digest": event.digest,
            "value": event.value,
            "epochs": list(event.epochs),
            "seconds": event.seconds,
            "theta": list(event.info.get("theta", ())),
            "genotype": json.dumps(event.info.get("genotype")),
            **{fact: event.info.get(fact) for fact in facts},
        }
        for event in events
    ]
    return pd.DataFrame(rows)


def position_labels(space: DartsSpace) -> list[str]:
    """Return a readable name of each position of theta, e.g. "normal 0 <- c_{k-2}" or "reduce 2 sources"."""
    one_cell = []
    for node in range(space.nodes):
        if space.encoding == "pairs":
            one_cell += [f"node {node} {part}" for part in ("sources", "lower op", "upper op")]
        else:
            sources = ["c_{k-2}", "c_{k-1}", *(f"node {i}" for i in range(node))]
            one_cell += [f"node {node} from {source}" for source in sources]
    return [f"{cell} {label}" for cell in ("normal", "reduce") for label in one_cell]


def write_plots(events: list[TrialEvent], space: DartsSpace, folder: Path) -> list[Path]:
    """Write the optimisation history and, from five distinct trials on, the positions' importance, as HTML."""
    scored = [event for event in events if event.state in ("complete", "duplicate") and event.value is not None]
    # Optuna plots parameters, the store keeps theta as one attribute: rebuild the study in memory,
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
    history = folder / "history.html"
    figure = optuna.visualization.plot_optimization_history(mirror, target_name="contrastive loss (lower is better)")
    figure.update_layout(title="Best score by trial", template="plotly_white")
    figure.write_html(history, include_plotlyjs=True)
    written = [history]
    if len({event.value for event in scored}) >= _ENOUGH:
        importance = folder / "importance.html"
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        figure = optuna.visualization.plot_param_importances(
            mirror, evaluator=evaluator, target_name="contrastive loss"
        )
        figure.update_layout(title="Which edges decide the score (fANOVA)", template="plotly_white", height=900)
        figure.write_html(importance, include_plotlyjs=True)
        written.append(importance)
    return written
