"""Scores of networks that were never trained. None reads labels; here the higher, the better.

Source: NASWOT, Mellor et al., Neural Architecture Search without Training (ICML 2021); synflow, Tanaka et al., Pruning
neural networks without any data (NeurIPS 2020), as a score of networks in Abdelfattah et al., Zero-Cost Proxies for
Lightweight NAS (ICLR 2021).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class _Codes(TorchDispatchMode):
    """Adds up, over all ReLU maps, on how many units two images agree (on or off)."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.agreements = torch.zeros(images, images, dtype=torch.float64)
        self.shares = torch.zeros(images, images, dtype=torch.float64)
        self.maps = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.relu.default:
            code = (out > 0).flatten(1).float()
            on = code @ code.T
            units, active = code.shape[1], code.sum(dim=1)
            # Agreeing off: all units less those that are on in the first, in the second, counted back once.
            agree = (units + 2 * on - active[:, None] - active[None, :]).double().cpu()
            self.agreements += agree
            self.shares += agree / units
            self.maps += 1
        return out


@torch.no_grad()
def naswot(trunk: nn.Module, images: Float[Tensor, "batch 3 height width"]) -> tuple[float, float]:
    """Return the log-determinant of how alike ReLU codes of different images are, plain and normalised.

    The network runs in train mode (batch statistics) at its initial weights. A map that several operations read
    behind one ReLU counts once; the paper's code counts it once for each.

    Args:
        trunk: Freshly built.
        images: A batch, normalised.

    Returns:
        log |K| with K the number of agreeing units, as the paper has it, which weighs a layer by its units; and log
        |K'| with K' the mean over ReLU maps of the share of agreeing units. -inf where two images cannot be told apart.
    """
    was_training, track = trunk.training, _tracking(trunk)
    trunk.train()
    codes = _Codes(len(images))
    try:
        for norm in track:
            norm.track_running_stats = False
        with codes:
            trunk(images)
    finally:
        trunk.train(was_training)
        for norm, kept in track.items():
            norm.track_running_stats = kept
    normalised = codes.shares / max(codes.maps, 1)
    return _log_determinant(codes.agreements), _log_determinant(normalised)


def synflow(trunk: nn.Module, resolution: int) -> float:
    """Return log of the sum of weight x gradient of a network whose weights are all taken positive.

    Each parameter is replaced by its absolute value and the image by ones; batch norm, at its initial statistics,
    passes its input on. The trunk's pooled features, not logits, are summed.

    Args:
        trunk: Freshly built; comes back as it was.
        resolution: Side of the image in pixels.
    """
    was_training = trunk.training
    kept = {name: value.detach().clone() for name, value in trunk.state_dict().items()}
    dtype = next(trunk.parameters()).dtype
    trunk.eval().double()
    try:
        with torch.no_grad():
            for parameter in trunk.parameters():
                parameter.abs_()
        live = [parameter for parameter in trunk.parameters() if parameter.requires_grad]
        ones = torch.ones(1, 3, resolution, resolution, dtype=torch.float64, device=live[0].device)
        gradients = torch.autograd.grad(trunk(ones).sum(), live, allow_unused=True)
        total = sum(
            float((parameter.detach() * gradient).abs().sum())
            for parameter, gradient in zip(live, gradients, strict=True)
            if gradient is not None
        )
    finally:
        trunk.to(dtype).train(was_training)
        trunk.load_state_dict(kept)
    return float(torch.tensor(total, dtype=torch.float64).log())


def _tracking(trunk: nn.Module) -> dict[nn.BatchNorm2d, bool]:
    return {m: m.track_running_stats for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)}


def _log_determinant(kernel: Tensor) -> float:
    sign, log = torch.linalg.slogdet(kernel)
    return float(log) if sign > 0 else float("-inf")
