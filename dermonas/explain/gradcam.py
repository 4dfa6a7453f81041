"""Grad-CAM for any convolutional classifier, by pytorch-grad-cam. The only importer of that library.

For our own networks use `dermonas.explain.cam`: there Grad-CAM is the same map with its negative part
cut off, at the price of a backward pass. Heads that are more than pooling and one linear layer have
no exact map; Grad-CAM is what is left.

Source: Selvaraju et al. 2017, Grad-CAM, eq. 1 and 2.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam import GradCAM  # type: ignore[import-untyped]
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # type: ignore[import-untyped]
from torch import Tensor, nn

from dermonas.errors import ConfigError
from dermonas.explain.cam import scale

# A map's sides shrink alike: they may differ by this many positions (rounding, padding) or this share of a side.
# Channels last, (7, 7, 768) read as (features, h, w), does not pass.
_ROUNDING, _SHARE = 2, 0.5


def gradcam(
    model: nn.Module, images: Tensor, classes: Tensor | int | None = None, layer: str | None = None
) -> tuple[Tensor, Tensor]:
    """Return Grad-CAM maps and the classes that they explain.

    The model is run in eval mode. Afterwards modes, requires_grad flags and gradients of its parameters are
    as before and no hook is left; the caller's grad mode does not matter. Cost: one forward
    and one backward pass, and one more forward pass where `layer` or `classes` is None.

    Args:
        model: Gives logits (batch, classes) for images.
        images: (batch, 3, height, width), normalised; cast to the device and dtype of the parameters.
        classes: Class to explain, one for all images or integers (batch,); None for the predicted ones.
        layer: Name of the target layer as in `model.named_modules()`; None for `target_layer`'s choice.

    Returns:
        Maps float32 (batch, height, width) on 0..1, and classes int64 (batch,), both on the CPU. A map without a
        positive place is zeros.

    Raises:
        ConfigError: A layer that does not exist, does not run exactly once, gives no 4-d map or does not
            reach the logits; a class that the model does not have; a model without parameters or logits.
        ValueError: `images` is not (batch, 3, height, width).
    """
    images = _as_input(model, images)
    if layer is None or classes is None:
        logits, trace = _trace(model, images)
        layer = _choose(model, trace, images) if layer is None else layer
        classes = logits.argmax(dim=1) if classes is None else classes
    module = _named(model, layer)
    index = torch.as_tensor(classes).cpu()
    index = index.expand(len(images)) if index.ndim == 0 else index
    if index.shape != (len(images),) or index.is_floating_point() or index.dtype == torch.bool:
        shape = tuple(index.shape)
        raise ValueError(f"classes must be one integer or integers ({len(images)},), not {index.dtype} {shape}")
    index = index.long()
    with _evaluating(model), torch.inference_mode(False), torch.enable_grad():
        cam = _Checked(model, layer, module)
        try:
            # A leaf of our own carries the gradient, so that the parameters need none; a copy of it goes in,
            # because a leaf cannot be changed in place.
            source = images.detach().clone().requires_grad_().clone()
            found = cam.forward(source, [_Target(int(i)) for i in index])
        finally:
            cam.activations_and_grads.release()  # the library's `with` would do, but swallows IndexErrors
            del cam
    return scale(torch.from_numpy(found)), index.clone()


def target_layer(model: nn.Module, images: Tensor) -> str:
    """Name the layer that `gradcam` explains by default: the last one with a spatial 4-d output.

    Last in order of execution, containers included (a stage rather than its last activation). Maps
    of one position (pooled, squeeze-and-excitation) are passed over, and so are layers that run
    more than once.

    Raises:
        ConfigError: No such layer; a layer inside a block that itself gives one position, because the images are
            too small for the model's last stage; or the last spatial output is not a map (batch, features, h, w):
            tokens of a transformer (batch, tokens, features), or channels last (batch, h, w, features).
    """
    images = _as_input(model, images)
    return _choose(model, _trace(model, images)[1], images)


@dataclass(frozen=True)
class _Output:
    """One module's output in one forward pass."""

    layer: str
    shape: tuple[int, ...]


class _Target(ClassifierOutputTarget):
    """A class's logit, refused in one line where it does not exist."""

    def __call__(self, output: Tensor) -> Tensor:
        if output.ndim != 1 or not 0 <= self.category < len(output):
            shape = ", ".join(map(str, output.shape))
            raise ConfigError(f"class {self.category} does not exist; the model gives ({shape}) logits an image")
        return output[self.category]


class _Checked(GradCAM):
    """Grad-CAM that says in one line why a layer cannot be explained."""

    def __init__(self, model: nn.Module, layer: str, module: nn.Module) -> None:
        self.layer = layer
        # Copies: a ReLU in place after the layer would change what the library keeps. float32: NumPy has no bfloat16.
        super().__init__(model, [module], reshape_transform=lambda kept: kept.detach().float().clone())

    def compute_cam_per_layer(self, images: Tensor, targets: list[Any], eigen_smooth: bool) -> list[np.ndarray]:
        kept, gradients = self.activations_and_grads.activations, self.activations_and_grads.gradients
        if len(kept) != 1:
            raise ConfigError(f"layer {self.layer} runs {len(kept)} times in a forward pass; name one that runs once")
        if kept[0].ndim != 4:
            shape = tuple(kept[0].shape)
            raise ConfigError(f"layer {self.layer} gives {shape}; Grad-CAM needs (batch, features, h, w)")
        if not gradients:
            raise ConfigError(f"layer {self.layer} does not reach the logits; name one that does")
        return super().compute_cam_per_layer(images, targets, eigen_smooth)


def _as_input(model: nn.Module, images: Tensor) -> Tensor:
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images must be (batch, 3, height, width), not {tuple(images.shape)}")
    first = next((p for p in model.parameters() if p.is_floating_point()), None)
    if first is None:
        raise ConfigError(f"{type(model).__name__} has no parameters: nothing to explain")
    return images.to(device=first.device, dtype=first.dtype)


def _named(model: nn.Module, layer: str) -> nn.Module:
    modules = dict(model.named_modules())
    if not layer or layer not in modules:
        near = [name for name in modules if name and name.rpartition(".")[2] == layer.rpartition(".")[2]]
        hint = ", ".join((near or [name for name in modules if name and "." not in name])[:6])
        raise ConfigError(f"layer {layer!r} is not in {type(model).__name__}; there are {hint}")
    return modules[layer]


def _trace(model: nn.Module, images: Tensor) -> tuple[Tensor, list[_Output]]:
    """Run the model once; return logits and the output of every module in order of completion."""
    trace: list[_Output] = []

    def note(layer: str, output: object) -> None:
        if isinstance(output, Tensor):
            trace.append(_Output(layer, tuple(output.shape)))

    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: note(name, output))
        for name, module in model.named_modules()
        if name
    ]
    try:
        with _evaluating(model), torch.no_grad():
            logits = model(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(f"{type(model).__name__} gives {found} in eval mode; Grad-CAM needs logits (batch, classes)")
    return logits, trace


def _choose(model: nn.Module, trace: list[_Output], images: Tensor) -> str:
    runs = Counter(output.layer for output in trace)
    height, width = images.shape[2:]
    for output in reversed(trace):
        if runs[output.layer] > 1:
            continue
        shape = output.shape
        if len(shape) == 3 and shape[0] == len(images) and shape[1] > 1:
            raise ConfigError(f"layer {output.layer} gives tokens {shape}: no Grad-CAM for this kind of model")
        if len(shape) != 4 or shape[2] * shape[3] == 1:
            continue
        if abs(shape[2] - shape[3] * height / width) > max(_ROUNDING, _SHARE * shape[2]):
            raise ConfigError(f"layer {output.layer} gives {shape}, not (batch, features, h, w); name another layer")
        block = output.layer.rpartition(".")[0]
        single = any(o.layer == block and len(o.shape) == 4 and o.shape[2] * o.shape[3] == 1 for o in trace)
        if single and not isinstance(model.get_submodule(block), nn.Sequential):  # a sequence may end in pooling
            raise ConfigError(
                f"block {block} gives one position at {height} x {width} pixels: "
                "name an earlier layer, or take larger images"
            )
        return output.layer
    raise ConfigError(f"no layer gives a 4-d map of more than one position at {height} x {width} pixels")


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode and take gradients from no parameter; restore all of it afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    kept = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _, _ in kept:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training  # not train(): that would reach into children, which have modes of their own
        for parameter, wanted, gradient in kept:
            parameter.requires_grad_(wanted)
            parameter.grad = gradient  # the library calls zero_grad, which drops what a training step had gathered
