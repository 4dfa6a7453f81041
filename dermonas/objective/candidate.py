"""What is scored: a trunk of the searched or of a benchmark's space, with heads and memory bank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dermonas.contrastive.heads import ProjectionHeads
from dermonas.contrastive.memory import MemoryBank
from dermonas.nn.initialise import initialise
from dermonas.nn.nasbench201 import NasBench201Network
from dermonas.nn.network import Network
from dermonas.space.domain import Theta
from dermonas.space.genotype import Genotype

if TYPE_CHECKING:
    from dermonas.objective.contrastive import ContrastiveSettings

Architecture = Genotype | Theta
"""A genotype of the searched space, or a cell of NAS-Bench-201 as its six choices."""


def trunk_of(architecture: Architecture, channels: int, layers: int, seed: int) -> Network | NasBench201Network:
    """Build what returns pooled features, with weights keyed by (seed, module path).

    Raises:
        ConfigError: Impossible channels or layers.
    """
    if isinstance(architecture, Genotype):
        return Network(architecture, stem="cifar", channels=channels, layers=layers, seed=seed)
    return NasBench201Network(architecture, channels=channels, layers=layers, seed=seed)


def by_batch_statistics(trunk: nn.Module) -> None:
    """Have a trunk normalise by batch statistics throughout, as a search does.

    Running ones lag behind in so few steps; not kept, they cannot be moved by a gradient-free pass such as the memory
    bank's first (a defect of the papers' code).
    """
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False


def autocast_of(settings: ContrastiveSettings, device: torch.device) -> torch.autocast:
    """Return the context in which a candidate computes by the settings' precision."""
    half = settings.precision == "bfloat16" or (settings.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


def optimizer_of(candidate: nn.Module, settings: ContrastiveSettings) -> torch.optim.Optimizer:
    """Plain momentum SGD on trunk and heads: no schedule, no decay, no clipping."""
    live = [parameter for parameter in candidate.parameters() if parameter.requires_grad]
    return torch.optim.SGD(live, lr=settings.learning_rate, momentum=settings.momentum)


class Candidate(nn.Module):
    """A candidate trunk with its projection heads and memory bank: all state of one scoring."""

    def __init__(self, architecture: Architecture, settings: ContrastiveSettings, images: int) -> None:
        super().__init__()
        self.trunk = trunk_of(architecture, settings.channels, settings.layers, settings.seed)
        self.heads = ProjectionHeads(self.trunk.features_out, settings.width, 2, settings.projection)
        initialise(self.heads, settings.seed)
        self.bank = MemoryBank(images, settings.width)
        by_batch_statistics(self.trunk)

    def embed(self, x: Tensor) -> Tensor:
        """Return z = g(f(x)), (batch, width)."""
        return self.heads(self.trunk(x))
