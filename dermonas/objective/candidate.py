"""What is scored: a trunk of the searched or of a benchmark's space, with heads and memory bank."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


class Candidate(nn.Module):
    """A candidate trunk with its projection heads and memory bank: all state of one scoring."""

    def __init__(self, architecture: Architecture, settings: ContrastiveSettings, images: int) -> None:
        super().__init__()
        self.trunk = trunk_of(architecture, settings.channels, settings.layers, settings.seed)
        self.heads = ProjectionHeads(self.trunk.features_out, settings.width, 2, settings.projection)
        initialise(self.heads, settings.seed)
        self.bank = MemoryBank(images, settings.width)
        # A search normalises by batch statistics throughout, so running ones are not kept; this also
        # keeps the bank's first, gradient-free pass from moving them (a defect of the papers' code).
        for module in self.trunk.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False

    def embed(self, x: Tensor) -> Tensor:
        """Return z = g(f(x)), (batch, width)."""
        return self.heads(self.trunk(x))
