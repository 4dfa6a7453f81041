"""Drop path: randomly remove whole edges of a cell during training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class DropPath:
    """The drop-path state that every cell of one network shares.

    One object, so that a schedule set on the network reaches the cells (in the papers' code the
    probability was set on a wrapper and never did; spec/csnas.md 5).

    Attributes:
        probability: Chance in [0, 1) that an edge's output is dropped for one sample.
        generator: CPU generator of the masks, keyed by the caller to (seed, epoch, step).
    """

    def __init__(self) -> None:
        self.probability = 0.0
        self.generator: torch.Generator | None = None

    def __call__(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """Zero whole samples of `x` with `probability`, scale the others by 1 / (1 - probability)."""
        if self.probability == 0.0:
            return x
        keep = 1.0 - self.probability
        mask = torch.bernoulli(torch.full((x.shape[0], 1, 1, 1), keep), generator=self.generator)
        return x * (mask / keep).to(device=x.device, dtype=x.dtype, non_blocking=True)
