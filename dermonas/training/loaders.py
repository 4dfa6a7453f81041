"""What a training run reads: train and validation samples, in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as lightning
import numpy as np
from torch.utils.data import DataLoader, Sampler

from dermonas.data.samples import Key, KeyedSampler, Samples
from dermonas.errors import ConfigError, DataError
from dermonas.seeding import torch_generator
from dermonas.training.settings import TrainSettings


@dataclass(frozen=True, eq=False)
class TrainData:
    """The samples of a run. There is no field for test.

    Attributes:
        train: Samples with `data.augmentation.Augment`.
        validation: Samples with `data.augmentation.Evaluate`.
        classes: Class names in label order.

    Raises:
        DataError: a label beyond the classes.
    """

    train: Samples
    validation: Samples
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("train", "validation"):
            highest = int(getattr(self, name).labels.max())
            if highest >= len(self.classes):
                raise DataError(f"{name} has label {highest} but there are {len(self.classes)} classes")

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) over classes, rows and labels: whether a resume continues on the same samples."""
        digest = hashlib.sha256("\x1f".join(self.classes).encode())
        for samples in (self.train, self.validation):
            for numbers in (samples.rows, samples.labels):
                digest.update(np.ascontiguousarray(numbers, dtype="<i8").tobytes())
        return digest.hexdigest()


def check_shares(data: TrainData, batch_size: int, replicas: int) -> None:
    """Refuse what cannot be shared among processes.

    Raises:
        ConfigError: the batch size is no multiple of `replicas` or leaves one image a process, as the train samples may
            do; or a process would have nothing to validate.
    """
    size, rest = divmod(batch_size, replicas)
    if rest or size < 2:
        raise ConfigError(f"batch_size {batch_size} must be a multiple of {replicas} devices, 2 each at least")
    if len(data.train) <= replicas:
        raise ConfigError(f"train has {len(data.train)} images for {replicas} devices; batch norm needs 2 on each")
    if len(data.validation) < replicas:
        raise ConfigError(f"validation has {len(data.validation)} images for {replicas} devices; it needs one for each")


class _InOrder(Sampler[Key]):
    """Every sample once, shared among processes without padding: figures stay exact."""

    def __init__(self, count: int, rank: int, replicas: int) -> None:
        self.keys = [Key(0, sample, 0) for sample in range(rank, count, replicas)]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.keys)


class Loaders(lightning.LightningDataModule):
    """Batches of the samples for each process.

    Args:
        data: The samples.
        settings: For batch size, balance and seed.
        first_epoch: Where training starts: Lightning begins to read before it sets the sampler's epoch.
        workers: Worker processes a loader; 0 reads in the training process.
    """

    def __init__(self, data: TrainData, settings: TrainSettings, first_epoch: int = 0, workers: int = 0) -> None:
        super().__init__()
        self.data, self.settings, self.first_epoch, self.workers = data, settings, first_epoch, workers

    def _processes(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the train batches, in the order of (seed, epoch)."""
        rank, replicas = self._processes()
        size = self.settings.batch_size // replicas
        labels = self.data.train.labels
        sampler = KeyedSampler(labels, self.settings.seed, self.settings.balance, rank=rank, replicas=replicas)
        sampler.set_epoch(self.first_epoch)
        # Batch norm cannot take a last batch of one image: it is left out (another one each epoch).
        return self._loader(self.data.train, sampler, size, drop_last=len(sampler) % size == 1)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation batches, in their order."""
        rank, replicas = self._processes()
        sampler = _InOrder(len(self.data.validation), rank, replicas)
        return self._loader(self.data.validation, sampler, self.settings.batch_size // replicas)

    def _loader(self, samples: Samples, sampler: Sampler[Key], size: int, drop_last: bool = False) -> DataLoader[Any]:
        return DataLoader(
            samples,
            batch_size=size,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            drop_last=drop_last,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            # Workers draw nothing from it; without one a loader would draw from the global generator.
            generator=torch_generator(self.settings.seed, "loader"),
        )
