"""Projection heads g (one image) and l (the views together).

Source: PIRL (Misra & van der Maaten 2020) as used by CSNAS; spec/csnas.md 2.1.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Projection = Literal["linear", "mlp"]


def _head(features_in: int, features_out: int, kind: Projection) -> nn.Module:
    if kind == "linear":
        return nn.Linear(features_in, features_out)
    return nn.Sequential(nn.Linear(features_in, features_in), nn.ReLU(), nn.Linear(features_in, features_out))


class ProjectionHeads(nn.Module):
    """g: R^features -> R^p for every image, l: R^(views p) -> R^p for the concatenated views.

    Args:
        features: Width of the trunk's pooled features.
        width: p, the width of a representation (paper 128).
        views: M, the views of an image (paper 2).
        kind: "linear" (one layer with bias, as in the authors' code) or "mlp" (one hidden ReLU layer,
            as the paper's word says).
    """

    def __init__(self, features: int, width: int = 128, views: int = 2, kind: Projection = "linear") -> None:
        super().__init__()
        self.image = _head(features, width, kind)
        self.views = _head(views * width, width, kind)

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch width"]:
        """Project the features of single images: g."""
        return self.image(features)

    def combine(self, projected: list[Float[Tensor, "batch width"]]) -> Float[Tensor, "batch width"]:
        """Combine the projections of an image's views: l."""
        return self.views(torch.cat(projected, dim=1))
