"""A packaged program made quicker for a server's CPU, with the same answers: batch norms folded, channels last.

The package keeps the program as it was exported, which other loaders run; a server prepares it once it is loaded.
Measured by `python -m benchmarks.serve`.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from dermonas.serving.program import TOLERANCE, Program
from dermonas.serving.rest.logs import event
from dermonas.serving.served import Served

_BATCHES = (1, 3)  # that both programs are asked about


@dataclass(frozen=True, eq=False)
class _ChannelsLast:
    """A program that is fed with channels last, and answers with them in their usual place."""

    program: Program

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self.program(images.contiguous(memory_format=torch.channels_last))
        return logits, features.contiguous()


def tuned(served: Served) -> Served:
    """Return a model with its program prepared, or as it was where that cannot be done or changes an answer."""
    original = served.program
    if not isinstance(original, fx.GraphModule):
        return served
    try:
        program = _ChannelsLast(_prepared(original))
        differs = _difference(original, program, served.description.size)
    except Exception as error:  # graphs hold almost anything; the original one runs in any case
        event(logging.WARNING, "program not tuned", error=type(error).__name__)
        return served
    if not differs <= 1:
        event(logging.WARNING, "program not tuned", difference=differs)
        return served
    return replace(served, program=program)


def _prepared(original: fx.GraphModule) -> fx.GraphModule:
    module = copy.deepcopy(original)
    with torch.no_grad():
        for node in list(module.graph.nodes):
            if node.target is torch.ops.aten.batch_norm.default:
                _fold(module, node)
        module.graph.eliminate_dead_code()
        module.graph.lint()
        module.recompile()
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module


def _fold(module: fx.GraphModule, norm: fx.Node) -> None:
    """Put a batch norm in evaluation mode into the convolution before it, where that serves it alone."""
    source, *statistics = norm.args[:5]
    training, eps = norm.args[5], norm.args[7]
    if training or not isinstance(source, fx.Node) or source.target is not torch.ops.aten.conv2d.default:
        return
    if len(source.users) != 1 or not isinstance(eps, float):
        return
    # In float64, rounded once: the tolerance is then for the order of sums alone.
    weight, bias, mean, variance = (_value(module, one) for one in statistics)
    kernel, shift = _value(module, source.args[1]), _value(module, source.args[2] if len(source.args) > 2 else None)
    if kernel is None or mean is None or variance is None:
        return
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
    folded = (0 if shift is None else shift) - mean
    names = _fresh(module, norm.name)
    module.register_buffer(names[0], (kernel * scale[:, None, None, None]).float())
    module.register_buffer(names[1], (folded * scale + (0 if bias is None else bias)).float())
    with module.graph.inserting_before(source):
        own = tuple(module.graph.get_attr(name) for name in names)
    source.args = (source.args[0], *own, *source.args[3:])
    norm.replace_all_uses_with(source)


def _value(module: fx.GraphModule, argument: Any) -> Tensor | None:
    """Return a constant of the graph in float64, None where there is none."""
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    found: Any = module
    for part in str(argument.target).split("."):
        found = getattr(found, part)
    return torch.as_tensor(found).detach().double()


def _fresh(module: fx.GraphModule, name: str) -> tuple[str, str]:
    names = f"folded_{name}_weight", f"folded_{name}_bias"
    if any(hasattr(module, one) for one in names):
        raise ValueError("names are taken")
    return names


def _difference(original: Program, program: Program, size: int) -> float:
    """Return the largest difference of logits and maps on noise, in units of what is tolerated."""
    generator, worst = torch.Generator().manual_seed(0), 0.0
    with torch.inference_mode():
        for batch in _BATCHES:
            images = torch.randn(batch, 3, size, size, generator=generator)
            for wanted, found in zip(original(images), program(images), strict=True):
                allowed = TOLERANCE * (1 + wanted.abs().max())
                worst = max(worst, float(((found - wanted).abs() / allowed).max()))
    return worst
