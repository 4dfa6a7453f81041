"""The files that a finished search leaves: genotype, drawings, trials, history, importance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from dermonas.events import Observer, TrialEvent
from dermonas.search.loop import SearchResult
from dermonas.search.plots import write_history, write_importance
from dermonas.search.trials import event_of
from dermonas.space.darts import DartsSpace
from dermonas.space.drawing import draw


def write_report(
    study: optuna.Study,
    space: DartsSpace,
    result: SearchResult,
    folder: Path,
    observer: Observer,
    chance: float | None = None,
) -> None:
    """Write the report's files to `folder` and announce each as an artifact.

    Args:
        study: The study.
        space: The searched space.
        result: Its best genotype.
        folder: An existing folder.
        observer: Told of each file.
        chance: Score of embeddings that tell nothing, for the history plot.
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
    history, importance = folder / "history.html", folder / "importance.html"
    write_history(events, history, chance)
    observer.artifact(history, "plots")
    if write_importance(events, space, importance):
        observer.artifact(importance, "plots")


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
            "bounded": json.dumps(event.info["bounded"]) if "bounded" in event.info else None,
        }
        for event in events
    ]
    return pd.DataFrame(rows)
