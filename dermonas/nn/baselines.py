"""timm's networks as baselines; the only importer of timm."""

from __future__ import annotations

from torch import nn


def baseline(name: str, classes: int, *, seed: int = 0) -> nn.Module:
    """Build one with random weights."""
    raise NotImplementedError
