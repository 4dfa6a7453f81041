"""Progress on standard error: a bar on a terminal, one line a trial, epoch or stretch of iterations elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from dermonas.events import Silent, TrialEvent


class SearchProgress(Silent):
    """Shows distinct trials done, best score, rate and time left.

    Args:
        epochs: Epochs of a trial, for the running trial's share.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.bar: tqdm[Any] | None = None
        self.total = 0
        self.done = 0
        self.before = 0
        self.start = time.monotonic()

    def started(self, stage: str, total: int | None, info: Mapping[str, Any]) -> None:
        """Begin at what earlier runs of the study have done."""
        self.total, self.before = total or 0, int(info.get("distinct", 0))
        self.done, self.start = self.before, time.monotonic()
        if self.before:
            print(f"study {info['study']}: going on after {self.before} distinct trials", file=sys.stderr)
        if sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=self.before, unit="trial", dynamic_ncols=True, file=sys.stderr)

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Show the running trial."""
        if self.bar is not None:
            self.bar.set_description(f"trial {number} epoch {epoch + 1}/{self.epochs} {metrics['score']:.4f}")

    def trial(self, event: TrialEvent) -> None:
        """Advance on a distinct trial; pruned and failed ones are only named, others counted."""
        if event.state == "running":
            return
        best = event.info.get("best")
        if event.state == "complete":
            self.done += 1
        if self.bar is not None:
            parts = ([] if best is None else [f"best {best:.4f}"]) + _refused(event)
            self.bar.set_postfix_str(", ".join(parts))
            self.bar.update(event.state == "complete")
        elif event.state not in ("duplicate", "bounded"):
            print(self._line(event, best), file=sys.stderr, flush=True)

    def _line(self, event: TrialEvent, best: float | None) -> str:
        new = self.done - self.before
        told = "".join(f", {part}" for part in ([] if best is None else [f"best {best:.4f}"]) + _refused(event))
        left = _left((time.monotonic() - self.start) / new * (self.total - self.done)) if new else ""
        value = "" if event.value is None else f" {event.value:.4f}"
        return (
            f"[{self.done}/{self.total}] trial {event.number} {event.state}{value} "
            f"({event.digest[:8]}, {event.seconds:.1f} s){told}{left}"
        )

    def finished(self, stage: str, metrics: Mapping[str, float]) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


class TrainProgress(Silent):
    """One line an epoch: loss, the best validation figure and time left; on a terminal Lightning's bar shows the steps.

    Args:
        name: The run's name.
        select: Which validation figure chooses the best epoch.
    """

    def __init__(self, name: str, select: str) -> None:
        self.name, self.select = name, select
        self.total = self.first = 0
        self.best: float | None = None
        self.start = time.monotonic()

    def started(self, stage: str, total: int | None, info: Mapping[str, Any]) -> None:
        """Begin at what an earlier run has done."""
        self.total, self.first, self.start = total or 0, int(info["first_epoch"]), time.monotonic()
        for metrics in info["epochs"]:
            self._judge(metrics)
        if self.first:
            print(f"{self.name}: {self.first} of {self.total} epochs are done", file=sys.stderr)

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tell an epoch's figures."""
        figure = self._judge(metrics)
        told = f"loss {metrics['train/loss']:.4f}, {self.select.replace('_', ' ')} {figure:.4f} (best {self.best:.4f})"
        each = (time.monotonic() - self.start) / (epoch + 1 - self.first)
        left = _left(each * (self.total - epoch - 1))
        print(
            f"[{epoch + 1}/{self.total}] {self.name} {told}, {each:.1f} s an epoch{left}", file=sys.stderr, flush=True
        )

    def _judge(self, metrics: Mapping[str, float]) -> float:
        figure = metrics[f"validation/{self.select}"]
        better = min if self.select == "loss" else max
        self.best = figure if self.best is None else better(self.best, figure)
        return figure


class ControllerProgress(Silent):
    """Shows a pretraining's losses, accuracies, rate and time left: a bar, or about twenty lines, the last always.

    Args:
        name: The run's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: tqdm[Any] | None = None
        self.total = self.before = self.shown = 0
        self.start = time.monotonic()

    def started(self, stage: str, total: int | None, info: Mapping[str, Any]) -> None:
        """Begin at what an earlier run has done."""
        self.total, self.before = total or 0, int(info["resumed_at"])
        self.shown, self.start = self.before, time.monotonic()
        if self.before:
            print(f"{self.name}: {self.before} of {self.total} iterations are done", file=sys.stderr)
        if sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=self.before, unit="it", dynamic_ncols=True, file=sys.stderr)

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tell the figures of the iterations since the report before."""
        done, values = epoch + 1, {key.removeprefix("pretrain/"): value for key, value in metrics.items()}
        told = (
            f"reconstruction {values['reconstruction']:.4f}, metric {values['metric']:.4f}, "
            f"accuracy {values['token_accuracy']:.4f} (masked {values['masked_accuracy']:.4f})"
        )
        if self.bar is not None:
            self.bar.set_postfix_str(told, refresh=False)
            self.bar.update(done - self.bar.n)
        elif done == self.total or 20 * (done - self.shown) >= self.total:
            self.shown = done
            rate = (done - self.before) / max(time.monotonic() - self.start, 1e-9)
            left = _left((self.total - done) / rate)
            line = f"[{done}/{self.total}] {self.name} {told}, {rate:.1f} it/s{left}"
            print(line, file=sys.stderr, flush=True)

    def finished(self, stage: str, metrics: Mapping[str, float]) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


def _refused(event: TrialEvent) -> list[str]:
    count = event.info.get("total/bounded", 0)
    return [f"{count} too large"] if count else []


def _left(seconds: float) -> str:
    if seconds <= 0:
        return ""
    return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"
