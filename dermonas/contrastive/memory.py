"""The memory bank: one representation per image, averaged over epochs."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class MemoryBank(nn.Module):
    """A bias-corrected exponential average (weight 1/2) of each image's representation.

    With S the running sum and c the count: at the start z fills S and c = 1; at the start of each
    epoch c <- 1 + c / 2; after a step, the rows of its batch become S <- z + S / 2 and row = S / c.
    Rows are not normalised (the losses use the cosine). The whole state is in `state_dict`.

    Source: spec/csnas.md 2.4 (the authors' code; PIRL uses m <- m / 2 + f / 2).

    Args:
        images: n, the number of rows.
        width: p, the width of a row.
    """

    sums: Tensor
    rows: Tensor
    count: Tensor

    def __init__(self, images: int, width: int) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(images, width))
        self.register_buffer("rows", torch.zeros(images, width))
        self.register_buffer("count", torch.ones(()))

    @torch.no_grad()
    def fill(self, index: Int64[Tensor, " batch"], z: Float[Tensor, "batch width"]) -> None:
        """Set the initial representation of some images."""
        z = z.to(self.sums.dtype)
        self.sums[index] = z
        self.rows[index] = z

    @torch.no_grad()
    def begin_epoch(self) -> None:
        """Age the count; call once before each epoch's first step."""
        self.count.mul_(0.5).add_(1.0)

    @torch.no_grad()
    def update(self, index: Int64[Tensor, " batch"], z: Float[Tensor, "batch width"]) -> None:
        """Average new representations into the rows of a batch (each image once)."""
        sums = z.to(self.sums.dtype) + 0.5 * self.sums[index]
        self.sums[index] = sums
        self.rows[index] = sums / self.count
