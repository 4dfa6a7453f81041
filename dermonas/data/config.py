"""The settings of `prepare`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dermonas.data.splits import DEFAULT_SIZES
from dermonas.errors import ConfigError
from dermonas.imaging.decode import MAX_PIXELS, PILLOW_LIMIT


@dataclass(frozen=True)
class PrepareConfig:
    """What to prepare, and how.

    Attributes:
        dataset: Name of the data set, e.g. isic2019; names the MLflow experiment and chooses ImageNet's rule. Left
            empty it becomes isic2019, cifar10 or cifar100 (by what root holds), the name of the folder, or phantom.
        source: Layout: isic (official folders and tables), cifar, folder (class folders or a flat folder), phantom.
        root: Folder that holds the images; not for phantom.
        out: Folder to write the manifest to; None becomes data/<dataset>.
        split: "lesion" (groups stay together) or "paper" (by image, the paper's sizes; marked ungrouped).
        split_sizes: Train, validation, test: fractions that sum to 1, or counts that sum to the labelled images.
        search_fraction: Share of the eligible images that a search sees, in (0, 1]; None: the source's rule.
        seed: Seed of the split and of the search set's draw.
        strict: Fail when any image was quarantined.
        max_pixels: Quarantine larger images undecoded, width x height.
        near_duplicates: Look for near-duplicates among all images; the audit says when it was off.
        workers: Processes that decode; 0 is this one.
        phantom_lesions: Lesions to draw (source phantom).
        phantom_test_images: Unlabelled search images to draw (source phantom).
        phantom_size: Side of a phantom, pixels.
        phantom_seed: Seed of the phantoms, apart from `seed` so that splits can vary on the same images.
    """

    dataset: str = ""
    source: Literal["isic", "cifar", "folder", "phantom"] = "phantom"
    root: Path | None = None
    out: Path | None = None
    split: Literal["lesion", "paper"] = "lesion"
    split_sizes: tuple[float, float, float] = DEFAULT_SIZES
    search_fraction: float | None = None
    seed: int = 0
    strict: bool = False
    max_pixels: int = MAX_PIXELS
    near_duplicates: bool = True
    workers: int = min(8, os.cpu_count() or 1)
    phantom_lesions: int = 600
    phantom_test_images: int = 200
    phantom_size: int = 96
    phantom_seed: int = 0

    def __post_init__(self) -> None:
        _one_of("source", self.source, ("isic", "cifar", "folder", "phantom"))
        _one_of("split", self.split, ("lesion", "paper"))
        if not self.dataset:
            object.__setattr__(self, "dataset", _name(self.source, self.root))
        if self.dataset == "phantom" and self.source != "phantom":
            raise ConfigError(f"dataset is 'phantom', but source {self.source} is not synthetic: choose another name")
        if not all(character.isalnum() or character in "-_." for character in self.dataset):
            raise ConfigError(f"dataset is {self.dataset!r}, must be a name of letters, digits, '-', '_' and '.'")
        if self.source == "phantom" and self.root is not None:
            raise ConfigError(f"root is {self.root}, but source phantom draws its own images: leave root out")
        if self.source != "phantom" and self.root is None:
            raise ConfigError(f"root is not set: source {self.source} needs the folder that holds the images")
        self._check_sizes()
        if self.max_pixels > PILLOW_LIMIT:
            raise ConfigError(f"max_pixels is {self.max_pixels}, must be at most {PILLOW_LIMIT} (Pillow's own limit)")
        object.__setattr__(self, "out", output_folder(self))
        if self.search_fraction is not None and not 0 < self.search_fraction <= 1:
            raise ConfigError(f"search_fraction is {self.search_fraction}, must be in (0, 1] or null")
        for key, least in (("max_pixels", 1), ("workers", 0), ("phantom_lesions", 1), ("phantom_test_images", 0),
                           ("phantom_size", 16), ("seed", 0), ("phantom_seed", 0)):  # fmt: skip
            value = getattr(self, key)
            if value < least:
                raise ConfigError(f"{key} is {value}, must be at least {least}")

    def _check_sizes(self) -> None:
        sizes = self.split_sizes
        if self.split == "paper" and tuple(sizes) != DEFAULT_SIZES:
            raise ConfigError(f"split_sizes is {sizes}, but split paper has its own sizes: leave one of them out")
        if len(sizes) != 3 or any(size < 0 for size in sizes) or sizes[0] <= 0:
            raise ConfigError(f"split_sizes is {sizes}, must be three sizes >= 0 (train > 0)")
        counts = all(float(size).is_integer() for size in sizes) and sum(sizes) >= 1
        if abs(sum(sizes) - 1.0) > 1e-3 and not counts:
            raise ConfigError(f"split_sizes is {sizes}, must be fractions that sum to 1, or whole numbers of images")


def output_folder(config: PrepareConfig) -> Path:
    """Return `config.out`, which is always set once the settings are checked.

    A function and not a property: jsonargparse makes a subcommand of every public member of a class.
    """
    return config.out if config.out is not None else Path("data") / config.dataset


def _name(source: str, root: Path | None) -> str:
    """Name a data set that the recipe does not name."""
    if source in ("phantom", "isic") or root is None:
        return "isic2019" if source == "isic" else "phantom"
    if source == "cifar":
        hundred = "100" in root.name or (root / "cifar-100-python").is_dir()
        return "cifar100" if hundred else "cifar10"
    kept = (character if character.isalnum() or character in "-_." else "-" for character in root.resolve().name)
    return "".join(kept) or "folder"


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key} is {value!r}, must be one of {', '.join(allowed)}")
