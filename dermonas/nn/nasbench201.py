"""NAS-Bench-201's networks, from the cells of `dermonas.space.nasbench201`.

They are not searched by dermonas: an audit scores them, because their accuracies are known and spread wide.

Source: Dong and Yang, NAS-Bench-201 (ICLR 2020), section 2.1 and figure 1; settings 16 channels, 5 cells a stage.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dermonas.errors import ConfigError
from dermonas.nn.initialise import initialise
from dermonas.nn.operations import Block
from dermonas.space.domain import Theta
from dermonas.space.nasbench201 import EDGES, OPERATIONS, NasBench201Space
from dermonas.space.theta import check_theta

_STAGES = 3


class NasBench201Network(nn.Module):
    """Stem, three stages of equal cells with a residual block between two, last activation, pool, classifier.

    Args:
        theta: Six choices, one an edge.
        channels: Of the first stage, at least 1 (published: 16); each later stage has twice as many.
        layers: Cells and residual blocks together, 3 N + 2 with N >= 1 cells a stage (published: N = 5, so 17).
        classes: Of the classifier, or None for a trunk that returns features.
        seed: Weights are initialised from (seed, module path); None keeps torch's own initialisation.

    Raises:
        ConfigError: Impossible channels or layers.
        GenotypeError: An impossible theta.
    """

    def __init__(
        self, theta: Theta, *, channels: int, layers: int, classes: int | None = None, seed: int | None = 0
    ) -> None:
        super().__init__()
        space = NasBench201Space()
        check_theta(space.name, space.choices, theta)
        cells, left = divmod(layers - (_STAGES - 1), _STAGES)
        if channels < 1 or cells < 1 or left:
            raise ConfigError(
                f"channels {channels} must be at least 1 and layers {layers} one of 5, 8, 11, ... (3 N + 2) for "
                "NAS-Bench-201's networks"
            )
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        body: list[nn.Module] = []
        width = channels
        for stage in range(_STAGES):
            if stage:
                body.append(_Residual(width, 2 * width))
                width *= 2
            body += [_Cell(theta, width) for _ in range(cells)]
        self.cells = nn.ModuleList(body)
        self.last = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())
        self.features_out = width
        self.classifier = None if classes is None else nn.Linear(width, classes)
        if seed is not None:
            initialise(self, seed)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch out"]:
        """Return pooled features (no classes) or logits."""
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        pooled = self.last(x).mean(dim=(2, 3))
        return pooled if self.classifier is None else self.classifier(pooled)


class _Cell(nn.Module):
    """Four nodes, each the sum of its edges; an edge without operation is left out."""

    def __init__(self, theta: Theta, channels: int) -> None:
        super().__init__()
        chosen = zip(EDGES, theta, strict=True)
        self.edges = nn.ModuleDict(
            {
                f"{source}-{target}": _operation(OPERATIONS[choice], channels)
                for (source, target), choice in chosen
                if OPERATIONS[choice] != "none"
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for target in range(1, 4):
            terms = [
                self.edges[name](nodes[source])
                for source in range(target)
                if (name := f"{source}-{target}") in self.edges
            ]
            nodes.append(
                torch.stack(terms).sum(dim=0) if len(terms) > 1 else terms[0] if terms else torch.zeros_like(x)
            )
        return nodes[-1]


class _Residual(nn.Module):
    """ResNet's basic block that halves the map, with pooling and a 1x1 convolution as shortcut."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = _convolution(channels_in, channels_out, 3, stride=2)
        self.second = _convolution(channels_out, channels_out, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels_in, channels_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + self.shortcut(x)


def _convolution(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False)
    return Block(nn.ReLU(), convolution, nn.BatchNorm2d(channels_out))


def _operation(name: str, channels: int) -> nn.Module:
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return _convolution(channels, channels, 1 if name == "nor_conv_1x1" else 3)
