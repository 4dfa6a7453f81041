"""The auxiliary classifier that training adds after two thirds of the cells."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class AuxiliaryHead(nn.Sequential):
    """ReLU, pool, 1x1 conv to 128, BN, ReLU, 2x2 conv to 768, [BN on CIFAR only], ReLU, linear.

    The published pool is 5x5 with stride 3 (CIFAR, map of 8x8) or 2 (ImageNet, map of 7x7) and gives
    2x2. Where the map is smaller than that, an adaptive pool to 2x2 takes its place (a deviation, for
    resolutions that the papers do not use).

    Source: spec/csnas.md 1.5.
    """

    def __init__(self, channels: int, classes: int, stem: str, map_size: int) -> None:
        stride, smallest = (3, 8) if stem == "cifar" else (2, 7)
        pool: nn.Module = nn.AvgPool2d(5, stride, padding=0, count_include_pad=False)
        if map_size < smallest:
            pool = nn.AdaptiveAvgPool2d(2)
        layers: list[nn.Module] = [
            nn.ReLU(),
            pool,
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
        ]
        if stem == "cifar":
            layers.append(nn.BatchNorm2d(768))
        layers += [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(768, classes)]
        super().__init__(*layers)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Map the feature map after two thirds of the cells to logits."""
        return super().forward(x)
