"""What a training run leaves in its folder: the last epoch to resume from, and the best weights.

A reader sees the old file or the new one, never a half-written one; the best weights are written before the last
epoch, so a run killed between the two repeats an epoch and writes the same again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import nn

from dermonas.errors import ConfigError, StorageError
from dermonas.events import Observer
from dermonas.training.module import TrainModule
from dermonas.training.settings import TrainSettings

LAST = "last.ckpt"
"""Everything a resume needs: weights, average, momentum, position, and the figures of the epochs so far."""
BEST = "best.pt"
"""State dict of the evaluated network at the best epoch."""
_KEY = "dermonas"

History = list[dict[str, float]]


def best_epoch(history: Sequence[Mapping[str, float]], select: str) -> int:
    """Return the epoch with the best validation figure: highest, lowest for "loss"; the earliest of equals."""
    sign = -1.0 if select == "loss" else 1.0
    return max(range(len(history)), key=lambda epoch: (sign * history[epoch][f"validation/{select}"], -epoch))


def exhausted(history: Sequence[Mapping[str, float]], settings: TrainSettings) -> bool:
    """Tell whether `patience` epochs have passed since the best."""
    if not settings.patience or not history:
        return False
    return len(history) - 1 - best_epoch(history, settings.select) >= settings.patience


def atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside its place, flush it to the disk, and move it there.

    Raises:
        StorageError: the disk refuses.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(fresh)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise StorageError(f"cannot write {path}: {reason}; free space or choose another folder") from error
    finally:
        fresh.unlink(missing_ok=True)


def read_history(folder: Path, identity: Mapping[str, Any]) -> History | None:
    """Return the figures of the epochs in a folder's last checkpoint, or None where there is none.

    Args:
        folder: The run's folder.
        identity: What the run is: settings, data and network; see `fit`.

    Raises:
        ConfigError: the folder belongs to another run; names the keys that differ.
        StorageError: the checkpoint is damaged.
    """
    path = folder / LAST
    if not path.is_file():
        return None
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)[_KEY]
        history, before = list(stored["history"]), dict(stored["identity"])
    except Exception as error:  # a damaged file raises almost anything
        reason = " ".join(str(error).split())[:200]
        raise StorageError(f"{path} is damaged ({reason}): delete it to train anew") from error
    differing = [
        f"{key} ({before.get(key)}, now {identity.get(key)})"
        for key in sorted({*before, *identity})
        if before.get(key) != identity.get(key)
    ]
    if differing:
        raise ConfigError(f"{folder} holds a training with another {', '.join(differing)}: choose another folder")
    return history


def load_last(network: nn.Module, folder: Path) -> None:
    """Load the weights after the last finished epoch into a network."""
    state = torch.load(folder / LAST, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    prefix = "network."
    network.load_state_dict({key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)})


def load_best(network: nn.Module, folder: Path) -> None:
    """Load the weights of the best validation epoch (averaged ones, with `ema_decay`) into a network.

    Raises:
        StorageError: there are none, or they are of another network.
    """
    path = folder / BEST
    if not path.is_file():
        raise StorageError(f"{path} does not exist: train first")
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise StorageError(f"{path} does not fit this network: {str(error).splitlines()[-1].strip()}") from error


class Keeper(lightning.Callback):
    """After each epoch: tell the observer, keep the weights, stop early.

    Args:
        folder: The run's folder.
        observer: Hears of every epoch before it is kept, so none is lost by a kill between the two.
        number: The run's number for the observer.
        identity: Stored with the weights; see `read_history`.
        history: The figures of the epochs before a resume; grows by one an epoch.
    """

    def __init__(
        self, folder: Path, observer: Observer, number: int, identity: Mapping[str, Any], history: History
    ) -> None:
        self.folder, self.observer, self.number = folder, observer, number
        self.identity, self.history = dict(identity), history

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Refuse processes that found other epochs in the folder: they would wait for each other for ever.

        Raises:
            ConfigError: machines that do not share the folder.
        """
        known = torch.tensor([len(self.history), -len(self.history)], device=trainer.strategy.root_device)
        most, least = trainer.strategy.reduce(known, reduce_op="max").tolist()
        if most != -least:
            raise ConfigError(
                f"{self.folder} holds {-least} epochs for one process and {most} for another: "
                "choose a folder that all machines share"
            )

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put history and identity into the checkpoint."""
        checkpoint[_KEY] = {"history": self.history, "identity": self.identity}

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell, keep, and stop; validation has ended by now."""
        assert isinstance(pl_module, TrainModule)
        metrics, settings = pl_module.epoch_metrics(), pl_module.settings
        epoch = len(self.history)
        self.history.append(metrics)
        if trainer.is_global_zero:
            self.observer.epoch(self.number, epoch, metrics)
            if best_epoch(self.history, settings.select) == epoch:
                state = pl_module.evaluated.state_dict()
                atomically(self.folder / BEST, lambda path: torch.save(state, path))
            atomically(self.folder / LAST, trainer.save_checkpoint)
        else:  # Lightning gathers: every process has to call it
            trainer.save_checkpoint(self.folder / LAST)
        trainer.should_stop = exhausted(self.history, settings)
