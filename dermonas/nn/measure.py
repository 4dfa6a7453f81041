"""What a network costs: parameters, multiply-adds, latency."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dermonas.nn.network import Network


@dataclass(frozen=True)
class Cost:
    """The cost of one network at one resolution.

    Attributes:
        parameters: Built parameters without the auxiliary head, dead ones included (as papers count).
        dead_parameters: Those among them that never influence the output.
        multiply_adds: Multiply-adds of the built convolutions and linear layers for one image, dead
            ones included (as papers count), without the auxiliary head.
        dead_multiply_adds: Those among them that are never computed.
        latency_ms: Median time of one forward pass of one image, or None when not measured.
    """

    parameters: int
    dead_parameters: int
    multiply_adds: int
    dead_multiply_adds: int
    latency_ms: float | None = None


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """Return (parameters without the auxiliary head, dead parameters among them); other networks have neither."""
    if not isinstance(network, Network):
        return sum(p.numel() for p in network.parameters()), 0
    auxiliary = set() if network.auxiliary is None else {id(p) for p in network.auxiliary.parameters()}
    total = sum(p.numel() for p in network.parameters() if id(p) not in auxiliary)
    dead = sum(p.numel() for module in network.dead_modules() for p in module.parameters())
    return total, dead


def count_multiply_adds(module: nn.Module, resolution: int) -> int:
    """Count the multiply-adds of convolutions and linear layers in one evaluation pass of one image."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            total += layer.weight.numel()

    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    was_training = module.training
    try:
        module.eval()
        with torch.no_grad():
            module(_image(module, resolution))
    finally:
        module.train(was_training)
        for handle in handles:
            handle.remove()
    return total


def measure_latency(module: nn.Module, resolution: int, repeats: int = 7) -> float:
    """Return the median milliseconds of one forward pass of one image on the module's device."""
    image = _image(module, resolution)
    was_training = module.training
    times = []
    try:
        module.eval()
        with torch.no_grad():
            for _ in range(repeats + 2):  # the first two warm caches
                _synchronise(image)
                start = time.perf_counter()
                module(image)
                _synchronise(image)
                times.append(time.perf_counter() - start)
    finally:
        module.train(was_training)
    return 1000 * sorted(times[2:])[repeats // 2]


def measure(network: nn.Module, resolution: int, *, latency: bool = False) -> Cost:
    """Measure a network on its own device.

    Args:
        network: Ours, or any other that takes (1, 3, resolution, resolution).
        resolution: Side of the square input in pixels.
        latency: Whether to time it (a few forward passes).
    """
    parameters, dead = count_parameters(network)
    computed = count_multiply_adds(network, resolution)
    built = computed
    if isinstance(network, Network):
        network.compute_dead(True)
        try:
            built = count_multiply_adds(network, resolution)
        finally:
            network.compute_dead(False)
    return Cost(
        parameters=parameters,
        dead_parameters=dead,
        multiply_adds=built,
        dead_multiply_adds=built - computed,
        latency_ms=measure_latency(network, resolution) if latency else None,
    )


def _image(module: nn.Module, resolution: int) -> Tensor:
    device = next(module.parameters()).device
    return torch.zeros(1, 3, resolution, resolution, device=device)


def _synchronise(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
