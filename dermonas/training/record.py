"""A trained model in a folder: what it is, what it was trained on, and its weights. No lightning here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dermonas.data.augmentation import AugmentSettings
from dermonas.errors import ConfigError, StorageError
from dermonas.nn.specification import NetworkSpec

RECORD, WEIGHTS = "record.json", "best.pt"
FORMAT = 1
"""Version of the record; a reader refuses another."""


@dataclass(frozen=True)
class ModelRecord:
    """A trained model without its weights.

    Attributes:
        name: What tables call it: a genotype's or timm model's name, with "(random)" for a baseline from scratch.
        network: How to build it.
        classes: Class names in label order.
        view: `data.augmentation.Evaluate` of this gives the network's input.
        dataset: Name of the data set.
        dataset_digest: Of the manifest that it was trained on.
        synthetic: Whether those images were generated.
        seed: Of the training.
        label_fraction: Share of the train rows whose labels it saw, in (0, 1].
        start: Where the first weights came from: "random", or a pretrained file in words.
        search_run: MLflow run of the search that found the genotype, or "".
    """

    name: str
    network: NetworkSpec
    classes: tuple[str, ...]
    view: AugmentSettings
    dataset: str
    dataset_digest: str
    synthetic: bool
    seed: int
    label_fraction: float = 1.0
    start: str = "random"
    search_run: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            "format": FORMAT,
            **values,
            "network": self.network.to_dict(),
            "classes": list(self.classes),
            "view": dataclasses.asdict(self.view),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelRecord:
        """Rebuild from `to_dict`.

        Raises:
            ConfigError: another format, unknown or missing keys.
        """
        kept = dict(values)
        if kept.pop("format", None) != FORMAT:
            raise ConfigError(f"model record is of format {values.get('format')}, not {FORMAT}: train anew")
        try:
            view: dict[str, Any] = {key: tuple(x) if isinstance(x, list) else x for key, x in kept.pop("view").items()}
            network = NetworkSpec.from_dict(kept.pop("network"))
            classes = tuple(kept.pop("classes"))
            return cls(network=network, classes=classes, view=AugmentSettings(**view), **kept)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"model record is incomplete ({error}): train anew") from error


def write_record(record: ModelRecord, folder: Path) -> Path:
    """Write `record.json`, whole or not at all.

    Raises:
        StorageError: the disk refuses.
    """
    path = folder / RECORD
    fresh = folder / f".{RECORD}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(record.to_dict(), indent=2) + "\n", encoding="utf-8")
        return fresh.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def read_record(folder: Path) -> ModelRecord:
    """Read `record.json`.

    Raises:
        StorageError: it is absent or no JSON.
        ConfigError: see `ModelRecord.from_dict`.
    """
    path = folder / RECORD
    try:
        return ModelRecord.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read ({error}): train anew") from error


def load_model(folder: Path) -> tuple[nn.Module, ModelRecord]:
    """Return a trained model in evaluation mode on the CPU, and its record.

    Args:
        folder: Holds record.json and best.pt.

    Raises:
        StorageError: either is absent, damaged, or of another network.
    """
    record = read_record(folder)
    weights = folder / WEIGHTS
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise StorageError(f"{weights} does not exist: train first") from error
    except Exception as error:  # a damaged file raises almost anything
        raise StorageError(f"{weights} is damaged ({' '.join(str(error).split())[:200]}): train anew") from error
    network = record.network.build(auxiliary=any(key.startswith("auxiliary.") for key in state))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise StorageError(f"{weights} does not fit {record.name}: {str(error).splitlines()[-1].strip()}") from error
    return network.eval(), record
