"""Where a network is trained, and what becomes of several processes that train one when one of them fails."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import lightning.pytorch as lightning
import torch

from dermonas.errors import ConfigError, DermonasError

_log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds that a process has to end on its own after another one failed: a few steps of a large network."""


class ProcessLost(DermonasError):
    """Another process of the same training ended."""


@dataclass(frozen=True)
class Hardware:
    """Where to train; by Lightning's own flags. Not part of a run's identity.

    Attributes:
        accelerator: "auto", "cpu", "cuda", ...
        devices: Devices a machine, and so processes.
        num_nodes: Machines.
        workers: Processes that read images, for each device.
        sync_batchnorm: Share batch statistics among devices; None does where there are several CUDA devices, whose
            small shares of a batch make poor statistics.

    Raises:
        ConfigError: a count below its least value.
    """

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    workers: int = 0
    sync_batchnorm: bool | None = None

    def __post_init__(self) -> None:
        for key, least in (("devices", 1), ("num_nodes", 1), ("workers", 0)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key} {getattr(self, key)} must be at least {least}")

    @property
    def replicas(self) -> int:
        """Processes that share each batch."""
        return self.devices * self.num_nodes

    def further(self) -> bool:
        """Tell whether this is another process than the first of several, which alone writes and tells.

        Source: the marks in the environment of torchrun (RANK), Lightning's launcher (LOCAL_RANK, NODE_RANK) and SLURM
        (SLURM_PROCID); the later ones may stand there for other reasons when an earlier one does.
        """
        names: tuple[str, ...] = ("SLURM_PROCID", "NODE_RANK")
        if "RANK" in os.environ:
            names = ("RANK",)
        elif "LOCAL_RANK" in os.environ:
            names = ("LOCAL_RANK", "NODE_RANK")
        return self.replicas > 1 and any(int(os.environ.get(name) or 0) for name in names)


@contextlib.contextmanager
def together(trainer: lightning.Trainer) -> Iterator[None]:
    """End the processes that Lightning starts inside with this one, and this one with them.

    Raises:
        ProcessLost: instead of torch's error, which does not say who ended.
    """
    watch = _Watch(trainer)
    watch.start()
    try:
        yield
    except BaseException as error:
        # What a collective call raises has no type of its own under gloo; NCCL's is a RuntimeError too.
        lost = isinstance(error, RuntimeError) and any(mark in str(error) for mark in ("gloo", "NCCL", "TCPStore"))
        ended = watch.end(GRACE if lost else 0.0)
        if lost:
            raise ProcessLost(
                f"another process of this training ended{ended}: its own message says why; "
                "the same command goes on behind the last finished epoch"
            ) from error
        raise
    finally:
        watch.stop()


class _Watch(threading.Thread):
    """Looks after further processes in the place of Lightning's own watcher.

    That one kills this process within five seconds after another one failed, which leaves no time to tell of it. This
    one does so only where this process waits for ever, as for one that never came.
    """

    def __init__(self, trainer: lightning.Trainer) -> None:
        super().__init__(daemon=True)
        self.trainer = trainer
        self.processes: list[subprocess.Popen[bytes]] = []
        self.over = threading.Event()

    def run(self) -> None:
        """Look every tenth of a second."""
        while not self.over.wait(0.1):
            self.take()
            joined = torch.distributed.is_available() and torch.distributed.is_initialized()
            failed = [process for process in self.processes if process.poll() or (process.poll() == 0 and not joined)]
            if failed and not self.over.wait(GRACE):
                _log.error("a further process ended%s; this one waits for it in vain and ends", _codes(failed))
                for process in self.processes:
                    process.send_signal(signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)

    def take(self) -> None:
        """Take the processes from the list that Lightning's watcher reads too."""
        started = getattr(self.trainer.strategy.launcher, "procs", [])
        while started:
            self.processes.append(started.pop(0))

    def stop(self) -> None:
        """End the thread; Lightning's watcher then has nothing left either."""
        self.over.set()
        self.join()
        self.take()

    def end(self, patience: float) -> str:
        """Have the processes end, within `patience` seconds by themselves; return how those ended that failed."""
        self.stop()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
        found = _codes([process for process in self.processes if process.poll()])
        for process in self.processes:
            process.send_signal(signal.SIGKILL)  # nothing where it has ended
            process.wait()
        return found


def _codes(failed: list[subprocess.Popen[bytes]]) -> str:
    codes = [process.returncode for process in failed]
    told = [f"by signal {-code}" if code < 0 else f"with code {code}" for code in codes]
    return f" {', '.join(told)}" if told else ""
