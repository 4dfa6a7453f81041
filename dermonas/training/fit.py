"""Train a network, or go on where a killed training stopped."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import random
import signal
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from dermonas.data.samples import class_weights
from dermonas.errors import ConfigError, StorageError
from dermonas.events import Observer, Silent
from dermonas.seeding import forked
from dermonas.training.checkpoints import BEST, LAST, Keeper, best_epoch, exhausted, load_last, read_history
from dermonas.training.hardware import Hardware, together
from dermonas.training.loaders import Loaders, TrainData, check_shares
from dermonas.training.module import TrainModule
from dermonas.training.settings import TrainSettings


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        history: By epoch: train/loss, learning_rate, drop_path, and validation/accuracy, /balanced_accuracy and /loss.
        best: The best epoch on validation, from 0.
        stopped_early: Whether `patience` ended it.
        weights: File of the best weights; see `checkpoints.load_best`.
    """

    history: tuple[Mapping[str, float], ...]
    best: int
    stopped_early: bool
    weights: Path


def fit(
    network: nn.Module,
    data: TrainData,
    settings: TrainSettings,
    folder: Path,
    observer: Observer,
    resume: bool = True,
    *,
    hardware: Hardware | None = None,
    number: int = 0,
    bar: bool = False,
) -> Trained:
    """Train a network in place; afterwards it holds the last epoch's weights, in channels-last memory.

    The same call after a kill goes on behind the last finished epoch and, on the CPU, ends with the weights of an
    uninterrupted run, bit for bit. A finished training is only loaded. No global random state is left changed.

    On several devices every process calls this, whoever started them; the first one alone writes and tells.

    Args:
        network: See `module.TrainModule`; a resume replaces its weights.
        data: Train and validation samples.
        settings: The settings.
        folder: Made when absent; takes `last.ckpt` and `best.pt`.
        observer: Hears started("train", epochs), each epoch, the artifact best.pt, and finished.
        resume: False starts anew, over whatever the folder holds.
        hardware: Where; one device by default.
        number: The run's number for the observer.
        bar: Show Lightning's bar over the steps of each epoch, on standard output.

    Returns:
        What came of it.

    Raises:
        ConfigError: settings that do not fit network or data, or a folder of another training.
        DataError: a class without train image under `balance` "loss".
        ProcessLost: another process of the same training ended.
        StorageError: the disk refuses, or a checkpoint is damaged.
        TrainingDiverged: the loss is not finite.
    """
    hardware = hardware or Hardware()
    check_shares(data, settings.batch_size, hardware.replicas)
    if hardware.further():  # the first one tells
        observer = Silent()
    weights = class_weights(data.train.labels, data.classes) if settings.balance == "loss" else None
    network.to(memory_format=torch.channels_last)
    module = TrainModule(network.train(), settings, len(data.classes), weights)
    identity = {**_flat(settings.as_dict()), "data": data.digest, "network": _shape(network)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            for name in (LAST, BEST):
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error
    history = read_history(folder, identity) or []
    first = len(history)
    observer.started("train", settings.epochs, {"first_epoch": first, "epochs": history.copy()})
    if first == settings.epochs or exhausted(history, settings):
        load_last(network, folder)
    else:
        keeper = Keeper(folder, observer, number, identity, history)
        loaders = Loaders(data, settings, first, hardware.workers)
        with _quietly(), _random_states_kept(), forked(settings.seed, "training"):
            trainer = _trainer(settings, folder, hardware, keeper, bar)
            with together(trainer):
                trainer.fit(module, loaders, ckpt_path=folder / LAST if first else None, weights_only=True)
    if settings.drop_path:
        network.set_drop_path(0.0, None)  # type: ignore[operator]
    best = best_epoch(history, settings.select)
    observer.artifact(folder / BEST)
    observer.finished("train", {"best_epoch": float(best), **history[best]})
    return Trained(tuple(history), best, len(history) < settings.epochs, folder / BEST)


def _trainer(settings: TrainSettings, folder: Path, hardware: Hardware, keeper: Keeper, bar: bool) -> lightning.Trainer:
    replicas = hardware.replicas
    cuda = torch.cuda.is_available() and hardware.accelerator in ("auto", "cuda", "gpu")
    if settings.precision == "float16" and not cuda:  # Lightning would take bfloat16 without a word
        raise ConfigError("precision float16 needs CUDA; use auto, float32 or bfloat16")
    if hardware.sync_batchnorm and not cuda:
        raise ConfigError("sync_batchnorm true needs CUDA; leave it out")
    kinds = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
    precision: Any = kinds.get(settings.precision, "bf16-mixed" if cuda else "32-true")
    shared = hardware.sync_batchnorm
    try:
        return lightning.Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            num_nodes=hardware.num_nodes,
            # Validation shares are not padded; processes that sent each other buffers would wait for the shorter one.
            strategy=DDPStrategy(broadcast_buffers=False) if replicas > 1 else "auto",
            precision=precision,
            max_epochs=settings.epochs,
            gradient_clip_val=settings.clip_norm or None,
            gradient_clip_algorithm="norm",
            sync_batchnorm=cuda and replicas > 1 if shared is None else shared,
            use_distributed_sampler=False,  # ours shares the keys itself
            num_sanity_val_steps=0,
            default_root_dir=folder,
            callbacks=[keeper],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=bar,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"cannot train with {hardware} in {settings.precision}: {reason}") from error


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return flat


def _shape(network: nn.Module) -> str:
    """Return 16 hex digits over the names and shapes of a network's tensors."""
    text = ";".join(f"{name}{tuple(value.shape)}" for name, value in network.state_dict().items())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    """Restore Python's and NumPy's global states, which Lightning may draw from; torch's are forked beside this."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep Lightning's banners and advice out of the output, and its way of ending a process out of a library."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # it exits with 1 and leaves Ctrl-C ignored
            signal.signal(signal.SIGINT, interrupt)
            raise KeyboardInterrupt from None
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
