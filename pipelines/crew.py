"""This process's part in the runs of a search: it leads, or works under the run of a process that does."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from dermonas.events import TrialEvent
from dermonas.search.leader import Leadership, seconds_since
from dermonas.search.study import UID, Study
from dermonas.search.trials import event_of
from dermonas.tracking.runs import Run
from dermonas.tracking.search import SearchTracker
from pipelines.command import check_interrupt
from pipelines.search_task import Task

_log = logging.getLogger(__name__)

_POLL = 0.5  # seconds between two looks at a leader that writes its report


class Crew:
    """Implements `events.Observer`: writes runs, and takes the lead where the leading process has ended.

    Args:
        run: This process's run.
        study: The study.
        task: The search.
        inside: Whether another process started this one to work for it: it then has no run of its own.
    """

    def __init__(self, run: Run, study: Study, task: Task, *, inside: bool = False) -> None:
        self.run, self.study, self.task = run, study, task
        self.since = time.time()
        self.leadership = Leadership(study, run.id)
        self.tracker = SearchTracker(run, task.name, study.user_attrs[UID], task.tags)
        self.search_run, self.inside = "", inside
        self._pulse = self.leadership.pulse()
        self._look()

    @property
    def leads(self) -> bool:
        """Whether this process writes the search's run."""
        return self.tracker.leads

    def _events(self) -> list[TrialEvent]:
        return [event_of(trial, self.task.space) for trial in self.study.get_trials(deepcopy=False)]

    def _look(self) -> None:
        """Learn who leads; lead, where nobody does."""
        if self.leads:
            return
        leader = self.leadership.leader()
        if leader is None and not self.inside and self.leadership.take(anew=not self.search_run):
            if self.search_run:
                _log.warning("the process that led the search has ended: its run goes on as %s", self.run.id)
            self._pulse.__enter__()
            self.search_run = self.run.id
            self.tracker.lead(self._events())
            return
        leader = leader or self.leadership.leader() or self.leadership.ended()
        if leader is not None and leader != self.search_run:
            self.search_run = leader
            self.tracker.follow(leader, own_run=not self.inside)
            if not self.inside:
                _log.info("study %s is being searched: joining run %s", self.study.study_name, leader)

    def must_report(self) -> bool:
        """Return whether this process has to end the search's run; else wait until the one that leads has."""
        self._look()
        while not self.leads:
            if self.leadership.ended() == self.search_run:
                return False
            time.sleep(_POLL)
            self._look()
        self.tracker.complete(self._events())
        return True

    def seconds(self, own: Mapping[str, float]) -> dict[str, float]:
        """Return the seconds by phase of this process and of all that worked beside it."""
        others = seconds_since(self.study, self.since)
        return {phase: own.get(phase, 0.0) + others.get(phase, 0.0) for phase in {**own, **others}}

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the lead; of a search that is over after its run has ended."""
        if not self.leads:
            return
        self._pulse.__exit__(kind, error, at)
        if kind is None:
            self.run.end()
            self.leadership.resign(ended=True)
        else:
            with contextlib.suppress(Exception):  # the study may be what failed
                self.leadership.resign(ended=False)

    def started(self, stage: str, total: int | None, info: Mapping[str, object]) -> None:
        """Nothing to write: the entry point opened the run."""

    def trial(self, event: TrialEvent) -> None:
        """Write a trial to its run."""
        check_interrupt()
        self._look()
        self.tracker.trial(event)

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write an epoch to its trial's run."""
        check_interrupt()
        self.tracker.epoch(number, epoch, metrics)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file with the search's run."""
        self.tracker.artifact(path, folder)

    def finished(self, stage: str, metrics: Mapping[str, float]) -> None:
        """Write the final figures."""
        self.tracker.finished(stage, metrics)
