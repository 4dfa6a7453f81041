"""The observer that writes a search to MLflow: a parent run, and a child run for each scored trial.

The study is the truth, MLflow its picture: a restart completes what a kill left out. Duplicates cost
nothing and get no child; they are counted in the parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Run as MlflowRun
from mlflow.tracking.context.registry import resolve_tags

from dermonas.events import TrialEvent
from dermonas.tracking.lookup import CONTINUED, runs_with
from dermonas.tracking.runs import ERROR, PARENT, STAGE, Run, store_errors

STUDY, TRIAL, GENOTYPE = "dermonas.study", "dermonas.trial", "dermonas.genotype"
_STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "running": "RUNNING"}


class SearchTracker:
    """Implements `events.Observer` for one search.

    Args:
        run: The parent run.
        study: Study name, for names and tags.
        uid: The study's own id: a deleted and remade study of one name is another study.
        tags: Tags that children share with their parent (data digest, mode).
    """

    def __init__(self, run: Run, study: str, uid: str, tags: Mapping[str, Any]) -> None:
        self.run, self.study, self.uid, self.shared = run, study, uid, dict(tags)
        self.children: dict[int, Run] = {}
        self.logged: set[tuple[int, int]] = set()  # (trial, epoch) that this process wrote
        self.last = 0  # number of the last trial, the parent's step
        run.tags({STUDY: study, "dermonas.study_id": uid})

    def adopt(self, trials: Iterable[TrialEvent]) -> None:
        """Take over an earlier search of this study: end its parents, re-parent and complete its children.

        Args:
            trials: Every trial of the study, in number order.
        """
        for parent in self._runs("search"):
            if parent.info.run_id != self.run.id:
                old = Run(self.run.client, parent.info.run_id, self.run.experiment_id)
                old.tags({CONTINUED: self.run.id})
                old.end("KILLED")
        known = {int(child.data.tags[TRIAL]): child for child in self._runs("trial")}
        best = float("inf")
        for event in trials:
            self.last = max(self.last, event.number)
            if event.state == "duplicate":
                continue
            child = known.get(event.number)
            if child is not None:
                self.children[event.number] = Run(self.run.client, child.info.run_id, self.run.experiment_id)
                self.children[event.number].tags({PARENT: self.run.id})
            if event.state != "running" and (child is None or child.info.status == "RUNNING"):
                self._finish_child(event)
            if event.state == "complete" and event.value is not None:
                best = min(best, event.value)
                self.run.metrics({"search/best_score": best, "search/score": event.value}, event.number)

    def _runs(self, stage: str) -> list[MlflowRun]:
        return runs_with(self.run.client, self.run.experiment_id, {"dermonas.study_id": self.uid, STAGE: stage})

    def _child(self, event: TrialEvent) -> Run:
        if event.number not in self.children:
            tags = {
                **{tag: value for tag, value in resolve_tags().items() if value is not None},
                **self.shared,
                PARENT: self.run.id,
                STAGE: "trial",
                STUDY: self.study,
                "dermonas.study_id": self.uid,
                TRIAL: str(event.number),
                GENOTYPE: event.digest,
            }
            with store_errors():
                made = self.run.client.create_run(
                    self.run.experiment_id, tags=tags, run_name=f"trial-{event.number:03d}-{event.digest[:8]}"
                )
            self.children[event.number] = Run(self.run.client, made.info.run_id, self.run.experiment_id)
        return self.children[event.number]

    def started(self, stage: str, total: int | None, info: Mapping[str, Any]) -> None:
        """Nothing to write: the entry point opened the parent run."""

    def trial(self, event: TrialEvent) -> None:
        """Open or end a child, and bring the parent's best and counts up to date."""
        self.last = max(self.last, event.number)
        if event.state == "running":
            with store_errors():
                self.run.client.update_run(self._child(event).id, status="RUNNING")
            return
        if event.state != "duplicate":
            self._finish_child(event)
        metrics = {f"search/{key[6:]}": float(value) for key, value in event.info.items() if key.startswith("total/")}
        if event.info.get("best") is not None:
            metrics["search/best_score"] = event.info["best"]
        if event.state == "complete" and event.value is not None:
            metrics["search/score"] = event.value
        self.run.metrics(metrics, event.number)

    def _finish_child(self, event: TrialEvent) -> None:
        child, info = self._child(event), event.info
        for epoch, score in enumerate(event.epochs):
            if (event.number, epoch) not in self.logged:
                child.metrics({"search/score": score}, epoch)
        metrics = {"search/seconds": event.seconds}
        for key, name, unit in (
            ("device_seconds", "search/device_seconds", 1.0),
            ("code_scaled", "search/score_code_scaled", 1.0),
            ("parameters", "model/params_m", 1e-6),
            ("dead_parameters", "model/dead_params_m", 1e-6),
            ("multiply_adds", "model/macs_g", 1e-9),
        ):
            if key in info:
                metrics[name] = info[key] * unit
        child.metrics(metrics)
        tags = {GENOTYPE: event.digest, "dermonas.state": event.state}
        if "error" in info:
            tags[ERROR] = info["error"]
        child.tags(tags)
        if "theta" in info:
            child.params({"theta": " ".join(map(str, info["theta"]))})
        child.end(_STATUS[event.state])

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log a child's score as it trains."""
        if number in self.children:
            self.children[number].metrics({f"search/{key}": value for key, value in metrics.items()}, epoch)
            self.logged.add((number, epoch))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file with the parent run."""
        self.run.artifact(path, folder)

    def finished(self, stage: str, metrics: Mapping[str, float]) -> None:
        """Log the stage's final figures, at the last trial's step: best-so-far stays a curve from trial 0."""
        self.run.metrics(metrics, self.last)
