"""Noise-contrastive losses over one positive and K negatives, without loops over images.

Source: CSNAS Eq 2 to 4, PIRL; spec/csnas.md 2.2 and 2.3.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Nce = Literal["infonce", "pirl"]

# A logit that no cosine / temperature reaches and whose exp is exactly 0 beside any that one does.
_NEVER = -1.0e6


def draw_negatives(images: int, count: int, generator: torch.Generator) -> Int64[Tensor, " drawn"]:
    """Draw the bank rows that a batch shares as negatives, without replacement.

    One row more than `count` is drawn, so that every image can leave one out: its own row where that
    was drawn, the last one otherwise (`negative_mask`). Each image then has exactly `count` negatives,
    uniform without replacement over the other rows.

    Args:
        images: n, rows of the bank.
        count: K; at most n - 1 are possible, more are clipped.
        generator: CPU generator keyed to (seed, epoch, step).
    """
    return torch.randperm(images, generator=generator)[: min(count, images - 1) + 1]


def negative_mask(own: Int64[Tensor, " batch"], drawn: Int64[Tensor, " drawn"]) -> Bool[Tensor, "batch drawn"]:
    """Return which drawn rows are negatives of which image: all but its own row, else all but the last."""
    is_own = own[:, None] == drawn[None, :]
    leaves_last = ~is_own.any(dim=1)
    is_last = torch.arange(len(drawn), device=drawn.device) == len(drawn) - 1
    return ~(is_own | (leaves_last[:, None] & is_last))


def nce_loss(
    anchor: Float[Tensor, "batch width"],
    query: Float[Tensor, "batch width"],
    negatives: Float[Tensor, "drawn width"],
    mask: Bool[Tensor, "batch drawn"],
    temperature: float = 0.07,
    kind: Nce = "infonce",
) -> Float[Tensor, " batch"]:
    """Return each image's loss that pulls `query` to its `anchor` and away from the negatives.

    With s the cosine and l_j the softmax over [s(anchor, query), s(query, negative_1), ...] / temperature:
    "infonce" is -log l_0 (the authors' code); "pirl" adds -sum_j log(1 - l_j) over the negatives (Eq 3),
    whose scale differs, so scores of the two kinds are not comparable.
    For equal embeddings "infonce" is log(1 + K).

    Args:
        anchor: Bank rows of the images, detached by the caller.
        query: z of the image or z^t of its views.
        negatives: Candidate negatives, shared by the batch.
        mask: True where a negative counts for an image.
        temperature: tau > 0.
        kind: "infonce" or "pirl".
    """
    query = F.normalize(query, dim=1)
    positive = (F.normalize(anchor, dim=1) * query).sum(dim=1, keepdim=True)
    similarity = query @ F.normalize(negatives, dim=1).T
    logits = torch.cat([positive, similarity], dim=1) / temperature
    logits = torch.cat([logits[:, :1], logits[:, 1:].masked_fill(~mask, _NEVER)], dim=1)
    total = torch.logsumexp(logits, dim=1)
    loss = total - logits[:, 0]
    if kind == "infonce":
        return loss
    # log(1 - l_j) = log-sum-exp of the other logits - log-sum-exp of all; "the others" by running
    # sums from both sides, which stays exact where 1 - l_j would cancel.
    before = torch.logcumsumexp(logits, dim=1)[:, :-1]
    after = torch.logcumsumexp(logits.flip(1), dim=1).flip(1)[:, 2:]
    after = torch.cat([after, after.new_full((len(after), 1), _NEVER)], dim=1)
    rest = torch.logaddexp(before, after) - total[:, None]
    return loss - torch.where(mask, rest, 0.0).sum(dim=1)
