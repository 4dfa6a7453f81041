"""The label-free objective: contrastive training of a candidate against a memory bank.

Source: CSNAS section III (PIRL objective); settings and their sources in spec/csnas.md 2 to 4.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from dermonas.contrastive.heads import Projection
from dermonas.contrastive.memory import MemoryBank
from dermonas.contrastive.nce import Nce, draw_negatives, nce_loss, negative_mask
from dermonas.data.views import Preset, Views
from dermonas.errors import ConfigError
from dermonas.events import Observer
from dermonas.imaging.normalise import IMAGENET_MEAN, IMAGENET_STD
from dermonas.nn.measure import measure
from dermonas.nn.network import check_resolution
from dermonas.objective.agreement import agreement, batched, hold_out
from dermonas.objective.candidate import Architecture, Candidate, autocast_of, optimizer_of
from dermonas.objective.score import NotFinite, Score
from dermonas.objective.scores import HELD_OUT, UNTRAINED, ScoreName, trained_scores
from dermonas.seeding import forked, torch_generator

Negatives = Literal["memory", "batch"]
Precision = Literal["auto", "float32", "bfloat16"]
_CHOICES = {
    "projection": Projection, "nce": Nce, "negatives": Negatives, "views": Preset, "precision": Precision,
    "score": ScoreName,
}  # fmt: skip
_SIZED = "sized_loss"


@dataclass(frozen=True)
class ContrastiveSettings:
    """The contrastive objective's settings; defaults are the paper's where it states them.

    Attributes:
        epochs: Passes over the search set per candidate (not stated in the paper; 10 in its code).
        batch_size: Images a step, K (paper 150).
        learning_rate: SGD's, constant (paper .001).
        momentum: SGD's (paper .9); no weight decay.
        temperature: tau (paper .07).
        balance: lambda, the weight of the views' loss against the image's (paper .5).
        width: p, the width of a representation (paper 128).
        projection: "linear" (code) or "mlp" (the paper's word).
        nce: "infonce" (code) or "pirl" (Eq 3 in full).
        negatives: "memory" (bank rows, 2 (K - 1) of them) or "batch" (the other images' views).
        views: "paper" or "code" preset of `data.views`.
        resolution: Side of a view in pixels (32).
        channels: C of the candidate (32; ISIC preset 16).
        layers: Cells of the candidate (8).
        score: What candidates are ranked by, a key of `objective.scores.SCORES`; the papers' is "train_loss".
        heldout: Share of the images that training never sees; for scores of held-out images alone.
        size_weight: Of log parameters; for "sized_loss" alone.
        precision: "float32", "bfloat16" autocast, or "auto": bfloat16 on CUDA, float32 on CPU, where
            autocast measured slower (depthwise backward).
        seed: Seed of weights, order, views and negatives, the same for every candidate (and, in a search, of
            the proposals).
    """

    epochs: int = 10
    batch_size: int = 150
    learning_rate: float = 0.001
    momentum: float = 0.9
    temperature: float = 0.07
    balance: float = 0.5
    width: int = 128
    projection: Projection = "linear"
    nce: Nce = "infonce"
    negatives: Negatives = "memory"
    views: Preset = "paper"
    resolution: int = 32
    channels: int = 32
    layers: int = 8
    precision: Precision = "auto"
    score: ScoreName = "train_loss"
    heldout: float = 0.2
    size_weight: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for key, least in (("epochs", 1), ("width", 1), ("layers", 3)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key} {getattr(self, key)} must be at least {least}")
        if self.channels < 2 or self.channels % 2:
            raise ConfigError(f"channels {self.channels} must be even and at least 2")
        if self.batch_size < 2:
            raise ConfigError(f"batch_size {self.batch_size} must be at least 2, or there are no negatives")
        for key in ("learning_rate", "temperature"):
            if not 0 < getattr(self, key) < math.inf:
                raise ConfigError(f"{key} {getattr(self, key)} must be finite and greater than 0")
        for key, top in (("momentum", 1.0), ("balance", 1.0)):
            if not 0 <= getattr(self, key) <= top:
                raise ConfigError(f"{key} {getattr(self, key)} must lie in [0, {top:g}]")
        for key, kind in _CHOICES.items():
            if getattr(self, key) not in get_args(kind):
                raise ConfigError(f"{key} {getattr(self, key)!r} is unknown; use one of {', '.join(get_args(kind))}")
        check_resolution(self.resolution, "cifar")
        self._check_score()

    def _check_score(self) -> None:
        if self.score in UNTRAINED and self.epochs != 1:
            raise ConfigError(f"epochs is {self.epochs}, but {self.score} trains nothing: set epochs to 1")
        if not 0 < self.heldout < 1:
            raise ConfigError(f"heldout {self.heldout} must lie between 0 and 1")
        if not math.isfinite(self.size_weight):
            raise ConfigError(f"size_weight {self.size_weight} must be finite")
        for key, reader in (("heldout", self.score in HELD_OUT), ("size_weight", self.score == _SIZED)):
            if not reader and getattr(self, key) != getattr(ContrastiveSettings, key):
                raise ConfigError(f"{key} is {getattr(self, key)}, which {self.score} does not read: leave it out")


def chance(settings: ContrastiveSettings, images: int) -> float | None:
    """Return the score of embeddings that tell nothing, log(1 + K) for InfoNCE; None for other losses and scores."""
    if settings.nce == "pirl" or settings.score != "train_loss":
        return None
    return math.log(1 + min(2 * (settings.batch_size - 1), images - 1))


class ContrastiveObjective:
    """Scores genotypes on one search set; every candidate sees the same order, views and weights.

    Args:
        images: uint8 (n, S, S, 3), n >= 2, S = `data.views.cached_resolution(views, resolution)`.
        settings: The settings.
        device: Training device.
        mean: Channel means for normalisation (default ImageNet's, as the papers' code).
        std: Channel standard deviations.
        all_scores: Whether every epoch reports all scores that training gives, by name, beside the settings' own.

    Raises:
        ConfigError: Fewer than 4 images to train on, or fewer than 2 held out where a score needs them.
    """

    def __init__(
        self,
        images: np.ndarray,
        settings: ContrastiveSettings,
        device: torch.device,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        *,
        all_scores: bool = False,
    ) -> None:
        self.settings = settings
        self.device = device
        self.all_scores = all_scores
        held: np.ndarray | None = None
        if all_scores or settings.score in HELD_OUT:
            images, held = hold_out(images, settings.heldout, settings.seed)
        if len(images) < 4:
            raise ConfigError(f"a contrastive search needs at least 4 images, the search set has {len(images)}")

        def views(pictures: np.ndarray) -> Views:
            return Views(pictures, settings.views, settings.resolution, mean, std, settings.seed, device)

        self.views, self.held_out = views(images), None if held is None else views(held)
        self._autocast = autocast_of(settings, device)

    def build(self, architecture: Architecture) -> Candidate:
        """Build a candidate on the device, in train mode, channels-last."""
        with forked(self.settings.seed, "construction"):
            candidate = Candidate(architecture, self.settings, len(self.views))
        candidate.to(memory_format=torch.channels_last)
        return candidate.to(self.device).train()

    def score(self, architecture: Architecture, observer: Observer, number: int = 0) -> Score:
        """Train a candidate for `epochs` and score it by the last one. See `Objective`."""
        start = time.perf_counter()
        candidate = self.build(architecture)
        optimizer = self.optimizer(candidate)
        cost = measure(candidate.trunk, self.settings.resolution)
        losses: list[float] = []
        epochs: list[float] = []
        with forked(self.settings.seed, "training"):
            self.fill_bank(candidate)
            for epoch in range(self.settings.epochs):
                losses.append(self.train_epoch(candidate, optimizer, epoch))
                if not math.isfinite(losses[-1]):
                    raise NotFinite(f"loss is {losses[-1]} in epoch {epoch}; a lower learning_rate may help")
                scores = self._scores(candidate, losses, cost.parameters - cost.dead_parameters)
                epochs.append(scores[self.settings.score])
                observer.epoch(number, epoch, {"score": epochs[-1], **(scores if self.all_scores else {})})
        batches = len(self.batches(epoch=0))
        return Score(
            value=epochs[-1],
            epochs=tuple(epochs),
            code_scaled=losses[-1] * len(self.views) / batches,
            device_seconds=time.perf_counter() - start,
            parameters=cost.parameters,
            dead_parameters=cost.dead_parameters,
            multiply_adds=cost.multiply_adds,
        )

    def _scores(self, candidate: Candidate, losses: list[float], parameters: int) -> dict[str, float]:
        settings, held = self.settings, None
        if self.held_out is not None:
            with self._autocast:
                held = agreement(candidate, self.held_out, settings.temperature, settings.batch_size)
        return trained_scores(losses, parameters, settings.size_weight, held)

    def optimizer(self, candidate: Candidate) -> torch.optim.Optimizer:
        """See `candidate.optimizer_of`."""
        return optimizer_of(candidate, self.settings)

    @torch.no_grad()
    def fill_bank(self, candidate: Candidate) -> None:
        """Fill the memory bank with z of every flipped original, by batch statistics."""
        self.views.begin_epoch(-1)
        for index in self.batches(epoch=-1):
            with self._autocast:
                z = candidate.embed(self.views.original(index))
            candidate.bank.fill(index, z)

    def train_epoch(self, candidate: Candidate, optimizer: torch.optim.Optimizer, epoch: int) -> float:
        """Train one epoch; return the per-image mean loss. The host waits for the device only here."""
        self.views.begin_epoch(epoch)
        candidate.bank.begin_epoch()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for step, index in enumerate(self.batches(epoch)):
            total += self.step(candidate, optimizer, index, epoch, step) * len(index)
        return float(total) / len(self.views)

    def step(
        self, candidate: Candidate, optimizer: torch.optim.Optimizer, index: Tensor, epoch: int, step: int
    ) -> Tensor:
        """Take one optimisation step on the images `index`; return the detached mean loss."""
        first, second = self.views.pair(index)
        with self._autocast:
            z = candidate.embed(self.views.original(index))
            views = [candidate.embed(first), candidate.embed(second)]
            z_views = candidate.heads.combine(views)
        z, z_views = z.float(), z_views.float()
        negatives, mask = self._negatives(candidate.bank, views, index, epoch, step)
        anchor = candidate.bank.rows[index]
        settings = self.settings
        by_views = nce_loss(anchor, z_views, negatives, mask, settings.temperature, settings.nce).mean()
        by_image = nce_loss(anchor, z, negatives, mask, settings.temperature, settings.nce).mean()
        loss = settings.balance * by_views + (1 - settings.balance) * by_image
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        candidate.bank.update(index, z.detach())
        return loss.detach()

    def _negatives(
        self, bank: MemoryBank, views: list[Tensor], index: Tensor, epoch: int, step: int
    ) -> tuple[Tensor, Tensor]:
        if self.settings.negatives == "batch":
            own = torch.eye(len(index), dtype=torch.bool, device=self.device)
            return torch.cat([view.float() for view in views]), ~torch.cat([own, own], dim=1)
        generator = torch_generator(self.settings.seed, "negatives", epoch, step)
        count = 2 * (self.settings.batch_size - 1)
        drawn = draw_negatives(len(self.views), count, generator).to(self.device)
        return bank.rows[drawn], negative_mask(index, drawn)

    def batches(self, epoch: int) -> list[Tensor]:
        """Split the epoch's order into batches; a last batch of one image joins the one before."""
        order = torch.randperm(len(self.views), generator=torch_generator(self.settings.seed, "order", epoch))
        return batched(order.to(self.device), self.settings.batch_size)
