"""An exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class Ema(nn.Module):
    """The average of a network over its steps; it is evaluated, never trained.

    After update n (from 1) the average is a <- d a + (1 - d) w with d = min(decay, (1 + n) / (10 + n)): the warm-up
    keeps the random start out of the average of a short run. Running statistics are averaged alike; integers copied.

    Args:
        network: Copied as it is.
        decay: In (0, 1), a step.

    Source: Polyak averaging as timm's ModelEma; the warm-up from TensorFlow's ExponentialMovingAverage(num_updates).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.updates = 0
        self.eval()

    def train(self, mode: bool = True) -> Ema:
        """Stay in eval mode, whatever holds this module is told."""
        return super().train(False)

    def get_extra_state(self) -> Any:
        """Return the number of updates, which a resume needs."""
        return self.updates

    def set_extra_state(self, state: Any) -> None:
        """Take the number of updates back."""
        self.updates = int(state)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one step of the network into the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, theirs in zip(_tensors(self.network), _tensors(network), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]
