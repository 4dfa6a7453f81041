"""The objective that looks at a network once and trains nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from dermonas.data.views import Views
from dermonas.errors import ConfigError
from dermonas.events import Observer
from dermonas.imaging.normalise import IMAGENET_MEAN, IMAGENET_STD
from dermonas.nn.measure import count_parameters, measure
from dermonas.objective.candidate import Architecture, trunk_of
from dermonas.objective.contrastive import ContrastiveObjective, ContrastiveSettings
from dermonas.objective.score import NotFinite, Objective, Score
from dermonas.objective.scores import UNTRAINED
from dermonas.objective.zero_cost import naswot, synflow
from dermonas.seeding import forked, torch_generator


class Timed(NamedTuple):
    """A score, the lower the better, and the seconds that it took (see `clock_of`)."""

    value: float
    seconds: float


class UntrainedObjective:
    """Scores freshly built networks; every candidate sees the same images and shares weights as in a search.

    Args:
        images: uint8 (n, S, S, 3) with S as `data.views.cached_resolution` says; `batch_size` of them are looked at.
        settings: `score` is one of `UNTRAINED`.
        device: Where it runs.
        mean: Channel means for normalisation.
        std: Channel standard deviations.

    Raises:
        ConfigError: Another score.
    """

    def __init__(
        self,
        images: np.ndarray,
        settings: ContrastiveSettings,
        device: torch.device,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        if settings.score not in UNTRAINED:
            raise ConfigError(f"score {settings.score!r} needs training; untrained ones are {', '.join(UNTRAINED)}")
        self.settings = settings
        self.device = device
        order = torch.randperm(len(images), generator=torch_generator(settings.seed, "order", 0))
        shown = np.sort(order[: settings.batch_size].numpy())
        views = Views(images[shown], settings.views, settings.resolution, mean, std, settings.seed, device)
        views.begin_epoch(0)
        self.batch = views.original(torch.arange(len(shown), device=device))

    def timed(self, architecture: Architecture) -> dict[str, Timed]:
        """Return all untrained scores, infinite where one cannot be had, and what each costs, building included."""
        return {name: self._timed(architecture, name)[0] for name in UNTRAINED}

    def score(self, architecture: Architecture, observer: Observer, number: int = 0) -> Score:
        """Build a candidate and look at it. See `Objective`."""
        start = time.perf_counter()
        found, trunk = self._timed(architecture, self.settings.score)
        value = found.value
        if not math.isfinite(value):
            raise NotFinite(f"{self.settings.score} is {value}: the network cannot tell two of the images apart")
        cost = measure(trunk, self.settings.resolution)
        observer.epoch(number, 0, {"score": value})
        return Score(
            value=value,
            epochs=(value,),
            code_scaled=value,
            device_seconds=time.perf_counter() - start,
            parameters=cost.parameters,
            dead_parameters=cost.dead_parameters,
            multiply_adds=cost.multiply_adds,
        )

    def _timed(self, architecture: Architecture, name: str) -> tuple[Timed, torch.nn.Module]:
        settings, clock = self.settings, clock_of(self.device)
        start = clock()
        with forked(settings.seed, "construction"):
            trunk = trunk_of(architecture, settings.channels, settings.layers, settings.seed)
        trunk.to(memory_format=torch.channels_last).to(self.device)
        if name == "parameters":
            parameters, dead = count_parameters(trunk)
            value = math.log(parameters - dead)
        elif name == "synflow":
            value = synflow(trunk, settings.resolution)
        else:
            value = naswot(trunk, self.batch)[name == "naswot_normalised"]
        return Timed(-value, clock() - start), trunk


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return what tells a scoring's seconds: those of all cores on a CPU, where others may be at work; else time."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def objective_of(images: np.ndarray, settings: ContrastiveSettings, device: torch.device) -> Objective:
    """Return the objective that gives the settings' score."""
    kind = UntrainedObjective if settings.score in UNTRAINED else ContrastiveObjective
    return kind(images, settings, device)
