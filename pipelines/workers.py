"""The worker processes of a search on this machine: started, watched, replaced, and ended with it.

Each gets its order as a line of JSON on its standard input. The pipe stays open: when it closes, the process that
started it is gone, and the worker ends too. An error comes back as a line on its standard output.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

import dermonas.errors
from dermonas.errors import DermonasError, SearchError
from dermonas.search.config import SearchConfig
from dermonas.search.storage import let_go
from pipelines.command import INTERRUPTED
from pipelines.recipe import plain
from pipelines.search_task import Task, share_of

_log = logging.getLogger(__name__)

_POLL = 0.2  # seconds between two looks at the workers and the study
_GOODBYE = 30.0  # seconds in which a worker that is told to end must have ended


@dataclass
class Worker:
    """One process.

    Attributes:
        index: Its place, from 0: a replacement takes the place of the one that died.
        process: The process.
    """

    index: int
    process: subprocess.Popen[str]


def work(task: Task, look: Callable[[], None]) -> None:
    """Have `workers` processes search the task's study until it is done; call `look` again and again meanwhile.

    One that dies is replaced: its trial is taken up again, a bounded number of times (`max_attempts`), and fails
    then, of which `max_failures` are tolerated; as many deaths in all end the search.

    Raises:
        SearchError: Workers die, or one ended with an error that is none of dermonas's.
        DermonasError: What a worker raised.
    """
    config = task.config
    bound = config.max_attempts * (config.max_failures + 1)
    order = json.dumps({"config": plain(_order(task)), "recipe": str(task.recipe.path), "controller": task.controller})
    crew = [Worker(index, _start(index, config, order)) for index in range(config.workers)]
    deaths = 0
    try:
        while crew:
            time.sleep(_POLL)
            look()
            for worker in list(crew):
                code = worker.process.poll()
                if code is None:
                    continue
                crew.remove(worker)
                if code >= 0 and code != INTERRUPTED:
                    _check(worker, code)
                    continue
                deaths += 1
                how = signal.Signals(-code).name if code < 0 else "an interrupt"
                if deaths > bound:
                    raise SearchError(
                        f"{deaths} worker processes died, the last by {how}: too little memory? "
                        "Use fewer workers, or a smaller batch_size"
                    )
                _log.warning("worker %d died by %s: starting another", worker.index, how)
                crew.append(Worker(worker.index, _start(worker.index, config, order)))
    except BaseException as error:
        let_go(error)  # no worker could give its trial back
        raise
    finally:
        _end(crew)


def _order(task: Task) -> SearchConfig:
    """Return the settings of one worker."""
    config = task.config
    controller = config.controller
    return replace(
        config,
        data=task.folder,
        controller=controller or (task.found.run_id if task.found is not None else ""),
        threads=share_of(config.threads, config.workers),
        workers=1,
    )


def _start(index: int, config: SearchConfig, order: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(share_of(config.threads, config.workers))}
    environment.pop("MLFLOW_RUN_ID", None)
    if config.device != "cpu" and torch.cuda.is_available():
        environment["CUDA_VISIBLE_DEVICES"] = _cards()[index % torch.cuda.device_count()]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        process_group=0,  # Ctrl-C is for the parent, which ends its workers
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it died at once: seen by its exit code
        process.stdin.write(order + "\n")
        process.stdin.flush()
    return process


def _cards() -> list[str]:
    """Return the names of the cards that this process sees."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(card) for card in range(torch.cuda.device_count())]


def _check(worker: Worker, code: int) -> None:
    """Raise what a worker that ended told."""
    assert worker.process.stdout is not None
    lines = worker.process.stdout.read().splitlines()
    if code == 0:
        return
    try:
        told = json.loads(lines[-1])
        kind, message = getattr(dermonas.errors, told["error"], SearchError), str(told["message"])
    except (IndexError, KeyError, TypeError, ValueError):
        kind, message = SearchError, f"worker {worker.index} ended with code {code}; what it printed stands above"
    assert issubclass(kind, DermonasError)
    raise kind(message)


def _end(crew: list[Worker]) -> None:
    """End all workers: each leaves its trial to be taken up again."""
    for worker in crew:
        worker.process.terminate()
    end = time.monotonic() + _GOODBYE
    for worker in crew:
        try:
            worker.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
