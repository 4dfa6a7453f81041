"""How well a candidate treats images that it was not trained on, without labels. Lower is better throughout.

Source: alignment and uniformity, Wang and Isola, Understanding Contrastive Representation Learning (ICML 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dermonas.data.views import Views
from dermonas.errors import ConfigError
from dermonas.objective.candidate import Candidate
from dermonas.seeding import numpy_generator

_SHARPNESS = 2.0  # t of the uniformity, the paper's


@dataclass(frozen=True)
class Agreement:
    """Measures of a candidate on held-out images.

    Attributes:
        loss: InfoNCE of an image's views against the held-out images, in [0, inf); log n tells nothing.
        miss: Share of images one of whose views is nearer to another image's other view than to its own, in [0, 1].
        alignment: Mean squared distance of the two views' features on the unit sphere, in [0, 4].
        uniformity: Log of the mean Gaussian potential of two images' features, in [-4 t, 0] with t = 2.
    """

    loss: float
    miss: float
    alignment: float
    uniformity: float


@torch.no_grad()
def agreement(candidate: Candidate, views: Views, temperature: float, batch_size: int) -> Agreement:
    """Measure a candidate on held-out images, by batch statistics as it was trained.

    Args:
        candidate: In train mode; keeps its state.
        views: Of held-out images, at least 2; always the same ones (those of "epoch" 0).
        temperature: Of the loss.
        batch_size: Images a pass.
    """
    views.begin_epoch(0)
    originals, combined, first, second = [], [], [], []
    for index in batched(torch.arange(len(views), device=views.device), batch_size):
        pair = views.pair(index)
        maps = [candidate.trunk(view) for view in pair]
        first.append(maps[0])
        second.append(maps[1])
        combined.append(candidate.heads.combine([candidate.heads(features) for features in maps]))
        originals.append(candidate.embed(views.original(index)))
    z, z_views, left, right = (
        F.normalize(torch.cat(parts).float(), dim=1) for parts in (originals, combined, first, second)
    )
    own = torch.arange(len(z), device=z.device)
    loss = F.cross_entropy(z_views @ z.T / temperature, own)
    return Agreement(
        loss=float(loss),
        miss=float(_misses(left @ right.T)),
        alignment=float((left - right).square().sum(dim=1).mean()),
        uniformity=float((uniformity(left) + uniformity(right)) / 2),
    )


def hold_out(images: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images that are trained on, and those that are not, drawn by seed.

    Raises:
        ConfigError: Fewer than 2 would be held out.
    """
    count = round(share * len(images))
    if count < 2:
        raise ConfigError(
            f"heldout {share} of {len(images)} images leaves {count}, at least 2 are needed: "
            "use more images or a larger heldout"
        )
    order = numpy_generator(seed, "held-out images").permutation(len(images))
    return images[np.sort(order[count:])], images[np.sort(order[:count])]


def batched(order: Tensor, size: int) -> list[Tensor]:
    """Split (n,) into parts of `size`; a last one of one image, which has no batch statistics, joins the one before."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def uniformity(features: Float[Tensor, "n width"]) -> Tensor:
    """Return log E exp(-t |x - y|^2) over pairs of different images, for features on the unit sphere."""
    squares = torch.pdist(features).square()
    return torch.logsumexp(-_SHARPNESS * squares, dim=0) - torch.log(torch.tensor(float(len(squares))))


def _misses(similarity: Tensor) -> Tensor:
    own = torch.arange(len(similarity), device=similarity.device)
    there = similarity.argmax(dim=1) != own
    back = similarity.argmax(dim=0) != own
    return (there.double().mean() + back.double().mean()) / 2
