"""Tiny classifiers and seeded noise for the tests of explain."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dermonas.seeding import forked, torch_generator

CLASSES = 5


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch_generator(seed, "test"))


class Pooled(nn.Module):
    """Convolutions, global average pool, linear: what has an exact CAM. With kernel 1, mirrors commute."""

    def __init__(self, kernel: int = 3, stride: int = 2) -> None:
        super().__init__()
        with forked(3, "test"):
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, kernel, stride, kernel // 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, kernel)
            )
            self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(dim=(2, 3)))
