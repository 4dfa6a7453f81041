"""The observer that writes a search to MLflow: a parent run, and a child run for each scored trial.

The study is the truth, MLflow its picture: a restart completes what a kill left out. Duplicates and
what lies beyond a bound cost nothing and get no child; they are counted in the parent. Of several
processes each writes the children of its own trials, and one leads: it alone writes the parent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Run as MlflowRun
from mlflow.tracking.context.registry import resolve_tags

from dermonas.events import AGAIN, ELSEWHERE, TrialEvent
from dermonas.search.owner import alive, me
from dermonas.tracking.lookup import CONTINUED, runs_with
from dermonas.tracking.runs import ERROR, PARENT, STAGE, Run

STUDY, TRIAL, GENOTYPE = "dermonas.study", "dermonas.trial", "dermonas.genotype"
WORKER, PROCESS = "worker", "dermonas.process"
_FREE = ("duplicate", "bounded")  # states of trials that were not scored
_STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "running": "RUNNING"}


class SearchTracker:
    """Implements `events.Observer` for one process of a search.

    Args:
        run: The parent run; of a process that does not lead, its own.
        study: Study name, for names and tags.
        uid: The study's own id: a deleted and remade study of one name is another study.
        tags: Tags that children share with their parent (data digest, mode).

    Attributes:
        parent: Id of the run under which children are made.
        leads: Whether this process writes the parent.
    """

    def __init__(self, run: Run, study: str, uid: str, tags: Mapping[str, Any]) -> None:
        self.run, self.study, self.uid, self.shared = run, study, uid, dict(tags)
        self.children: dict[int, Run] = {}
        self.logged: set[tuple[int, int]] = set()  # (trial, epoch) that this process wrote
        self.last = 0  # number of the last trial, the parent's step
        self.parent, self.leads = run.id, False

    def follow(self, parent: str, *, own_run: bool) -> None:
        """Work under another process's run.

        Args:
            parent: Its id.
            own_run: Whether this process's run is shown under it; false where the run is the parent's own.
        """
        self.parent, self.leads = parent, False
        if own_run:
            about = {STUDY: self.study, "dermonas.study_id": self.uid, PROCESS: json.dumps(me())}
            self.run.tags({PARENT: parent, STAGE: WORKER, **about})

    def lead(self, trials: Iterable[TrialEvent]) -> None:
        """Write the parent from now on, with this process's run for it: take over an earlier search of the study.

        Args:
            trials: Every trial of the study, in number order.
        """
        self.parent, self.leads = self.run.id, True
        self.run.untag(PARENT)
        self.run.tags({STAGE: "search", STUDY: self.study, "dermonas.study_id": self.uid})
        self._adopt(trials)

    def complete(self, trials: Iterable[TrialEvent]) -> None:
        """Mend what a worker that died left of its children, and end its run."""
        known = {int(child.data.tags[TRIAL]): child for child in self._runs("trial")}
        for event in trials:
            child = known.get(event.number)
            if event.state in (*_FREE, "running"):
                continue
            if child is not None:
                self._take(event.number, child)
            if child is None or child.info.status == "RUNNING":
                self._finish_child(event)
        for worker in self._runs(WORKER):
            if worker.info.status == "RUNNING" and not alive(json.loads(worker.data.tags[PROCESS])):
                dead = Run(self.run.client, worker.info.run_id, self.run.experiment_id)
                dead.tags({ERROR: "the process died without a word"})
                dead.end("KILLED")

    def _take(self, number: int, child: MlflowRun) -> None:
        self.children[number] = Run(self.run.client, child.info.run_id, self.run.experiment_id)
        if child.data.tags.get(PARENT) != self.parent:
            self.children[number].tags({PARENT: self.parent})

    def _adopt(self, trials: Iterable[TrialEvent]) -> None:
        """End an earlier search's parents, re-parent and complete its children."""
        for parent in self._runs("search"):
            if parent.info.run_id != self.run.id:
                old = Run(self.run.client, parent.info.run_id, self.run.experiment_id)
                old.tags({CONTINUED: self.run.id})
                old.end("KILLED")
        known = {int(child.data.tags[TRIAL]): child for child in self._runs("trial")}
        best = float("inf")
        for event in trials:
            self.last = max(self.last, event.number)
            if event.state in _FREE:
                continue
            child = known.get(event.number)
            if child is not None:
                self._take(event.number, child)
            if event.state != "running" and (child is None or child.info.status == "RUNNING"):
                self._finish_child(event)
            if event.state == "complete" and event.value is not None:
                best = min(best, event.value)
                self.run.metrics({"search/best_score": best, "search/score": event.value}, event.number)

    def _runs(self, stage: str, also: Mapping[str, str] | None = None) -> list[MlflowRun]:
        tags = {"dermonas.study_id": self.uid, STAGE: stage, **(also or {})}
        return runs_with(self.run.client, self.run.experiment_id, tags)

    def _child(self, event: TrialEvent) -> Run:
        if event.number not in self.children and event.info.get(AGAIN):
            for child in self._runs("trial", {TRIAL: str(event.number)}):
                self._take(event.number, child)
        if event.number not in self.children:
            tags = {
                **{tag: value for tag, value in resolve_tags().items() if value is not None},
                **self.shared,
                PARENT: self.parent,
                STAGE: "trial",
                STUDY: self.study,
                "dermonas.study_id": self.uid,
                TRIAL: str(event.number),
                GENOTYPE: event.digest,
            }
            self.children[event.number] = self.run.beside(f"trial-{event.number:03d}-{event.digest[:8]}", tags)
        return self.children[event.number]

    def started(self, stage: str, total: int | None, info: Mapping[str, Any]) -> None:
        """Nothing to write: the entry point opened the parent run."""

    def trial(self, event: TrialEvent) -> None:
        """Open or end a child, and bring the parent's best and counts up to date."""
        self.last = max(self.last, event.number)
        if event.state == "running":
            self._child(event).reopen()
            return
        if event.state not in _FREE and not event.info.get(ELSEWHERE):
            self._finish_child(event)
        if not self.leads:
            return
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
