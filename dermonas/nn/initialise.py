"""Initialisation keyed by module path: common random numbers for candidates that share modules."""

from __future__ import annotations

import math

import torch
from torch import nn

from dermonas.seeding import torch_generator


def initialise(module: nn.Module, seed: int) -> None:
    """Re-initialise every convolution, linear layer and batch norm from (seed, its path in `module`).

    The distributions are torch's defaults (Kaiming uniform with a = sqrt(5); batch norm to one and
    zero); only the source of randomness differs. No global generator is read or moved.
    """
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            generator = torch_generator(seed, "weights", path)
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            if layer.bias is not None:
                bound = 1 / math.sqrt(layer.weight[0].numel())
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            with torch.no_grad():
                layer.weight.fill_(1.0)
                layer.bias.zero_()
