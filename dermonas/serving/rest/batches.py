"""One thread that owns the model: whatever waits becomes one batch, so that requests at the same time share a step."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dermonas.errors import DermonasError
from dermonas.serving.rest.pixels import normalised
from dermonas.serving.served import BATCH, Output, Served


@dataclass(frozen=True, eq=False)
class _Job:
    """Images of one request, and who waits for what the program says of them."""

    served: Served
    pixels: Tensor
    tta: bool
    answer: Future[Output] = field(default_factory=Future)

    @property
    def kind(self) -> tuple[int, bool]:
        return id(self.served), self.tta


class Batches:
    """Runs programs on images, in batches over requests.

    It waits for nothing: a lone job is a batch, and under load a batch is what came while the one before ran.

    Args:
        told: Called with the images of each step.
    """

    def __init__(self, told: Callable[[int], None] = lambda images: None) -> None:
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._told = told
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def submit(self, served: Served, pixels: Tensor, *, tta: bool = False) -> Future[Output]:
        """Return the future of what a model says of images, n <= `BATCH`; cancel it to forget it.

        Args:
            served: The model.
            pixels: uint8 (n, size, size, 3); see `pixels.stacked`.
            tta: See `Served.logits`.
        """
        job = _Job(served, pixels, tta)
        self._waiting.put(job)
        return job.answer

    def close(self) -> None:
        """End the thread once all that waits is done."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        held: _Job | None = None
        open_ = True
        while open_ or held:
            first = held or self._waiting.get()
            held = None
            if first is None:
                return
            jobs, images = [first], len(first.pixels)
            while images < BATCH:
                try:
                    job = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    open_ = False
                    break
                if images + len(job.pixels) > BATCH:
                    held = job  # begins the next batch
                    break
                jobs.append(job)
                images += len(job.pixels)
            self._run([job for job in jobs if job.answer.set_running_or_notify_cancel()])

    def _run(self, jobs: list[_Job]) -> None:
        for kind in dict.fromkeys(job.kind for job in jobs):
            self._step([job for job in jobs if job.kind == kind])

    def _step(self, jobs: list[_Job]) -> None:
        """Answer jobs of one model in one step; where that fails, each by itself, so that none fails for another."""
        try:
            served = jobs[0].served
            pixels = torch.cat([job.pixels for job in jobs])
            views = normalised(pixels, served.description.mean, served.description.std)
            output = served.logits(views, tta=jobs[0].tta)
        except Exception as error:  # the thread must outlive whatever a program raises
            if len(jobs) > 1 and isinstance(error, DermonasError):
                for job in jobs:
                    self._step([job])
                return
            for job in jobs:
                job.answer.set_exception(error)
            return
        self._told(len(output.logits))
        start = 0
        for job in jobs:
            rows = slice(start, start + len(job.pixels))
            job.answer.set_result(output.rows(rows))
            start = rows.stop
