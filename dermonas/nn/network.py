"""Networks of stacked cells: the candidate of a search, and the CIFAR and ImageNet classifiers.

Source: spec/csnas.md 1.5 (DARTS networks; reductions at 1/3 and 2/3 of the depth).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dermonas.errors import ConfigError
from dermonas.nn.auxiliary import AuxiliaryHead
from dermonas.nn.cell import Cell
from dermonas.nn.droppath import DropPath
from dermonas.nn.initialise import initialise
from dermonas.space.genotype import Genotype

Stem = Literal["cifar", "imagenet"]
DIVISOR: dict[str, int] = {"cifar": 4, "imagenet": 32}  # halvings: 2 reductions, and 3 more in the ImageNet stems


def check_resolution(resolution: int, stem: Stem) -> None:
    """Refuse a resolution that FactorizedReduce would have to halve while odd.

    Raises:
        ConfigError: If `resolution` (pixels) is not a positive multiple of 4 (cifar) or 32 (imagenet).
    """
    divisor = DIVISOR[stem]
    if resolution < divisor or resolution % divisor:
        raise ConfigError(f"resolution {resolution} does not fit the {stem} stem; use a multiple of {divisor}")


class Network(nn.Module):
    """Stem, `layers` cells, global average pool, and a linear classifier when `classes` is given.

    Args:
        genotype: The cells.
        stem: "cifar" (one 3x3 convolution at full resolution; also the search candidate's) or
            "imagenet" (three stride-2 convolutions).
        channels: Channels of the first cell's nodes (C).
        layers: Number of cells; reductions stand at layers // 3 and 2 * layers // 3 and double C.
        classes: Classes of the classifier, or None for a trunk that returns features.
        auxiliary: The input resolution in pixels if an auxiliary head is wanted, else None.
        seed: Weights are initialised from (seed, module path): networks that share a module start
            it from the same weights. None keeps torch's own initialisation.
    """

    def __init__(
        self,
        genotype: Genotype,
        *,
        stem: Stem,
        channels: int,
        layers: int,
        classes: int | None = None,
        auxiliary: int | None = None,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        if channels < 2 or channels % 2 or layers < 3:
            raise ConfigError(f"channels {channels} must be even and layers {layers} at least 3")
        if auxiliary is not None and classes is None:
            raise ConfigError("an auxiliary head needs classes")
        self.genotype = genotype
        self.stem_kind: Stem = stem
        self.drop_path = DropPath()
        self._compute_dead = False
        prev_prev, prev, reduction_prev = self._build_stem(stem, channels)
        self.reductions = (layers // 3, 2 * layers // 3)
        self.cells = nn.ModuleList()
        width = channels
        for i in range(layers):
            reduction = i in self.reductions
            width *= 2 if reduction else 1
            structure = genotype.reduce if reduction else genotype.normal
            cell = Cell(structure, prev_prev, prev, width, reduction, reduction_prev, self.drop_path)
            self.cells.append(cell)
            prev_prev, prev, reduction_prev = prev, cell.channels_out, reduction
            if i == self.reductions[1]:
                auxiliary_channels = prev
        self.features_out = prev
        self.classifier = None if classes is None else nn.Linear(prev, classes)
        self.auxiliary: AuxiliaryHead | None = None
        if auxiliary is not None and classes is not None:
            check_resolution(auxiliary, stem)
            self.auxiliary = AuxiliaryHead(auxiliary_channels, classes, stem, auxiliary // DIVISOR[stem])
        self._live = self._live_outputs()
        for module in self.dead_modules():
            module.requires_grad_(False)
        if seed is not None:
            initialise(self, seed)

    def _build_stem(self, stem: Stem, channels: int) -> tuple[int, int, bool]:
        """Build the stem; return channels of both cell inputs and whether the second is at half resolution."""
        if stem == "cifar":
            width = 3 * channels
            self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
            return width, width, False
        half = channels // 2
        self.stem0 = nn.Sequential(
            nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.stem1 = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        return channels, channels, True

    def _live_outputs(self) -> frozenset[int]:
        """Indices of needed outputs: 0 and 1 are the stem's, 2 + k is cell k's."""
        live = {len(self.cells) + 1}
        if self.auxiliary is not None:
            live.add(2 + self.reductions[1])
        for k in reversed(range(len(self.cells))):
            if 2 + k in live:
                live |= {k + source for source in self.cells[k].structure.live_sources}  # type: ignore[union-attr]
        return frozenset(live)

    def dead_modules(self) -> list[nn.Module]:
        """Every outermost built module that cannot influence the output."""
        dead: list[nn.Module] = []
        for k, cell in enumerate(self.cells):
            dead += cell.dead_modules() if 2 + k in self._live else [cell]  # type: ignore[operator]
        if self.stem_kind == "imagenet" and 1 not in self._live:
            dead.append(self.stem1)
        return dead

    def set_drop_path(self, probability: float, generator: torch.Generator | None = None) -> None:
        """Set the drop-path probability in [0, 1) of every cell, and the CPU generator of its masks."""
        if not 0.0 <= probability < 1.0:
            raise ConfigError(f"drop path probability {probability} must lie in [0, 1)")
        self.drop_path.probability = probability
        self.drop_path.generator = generator

    def compute_dead(self, flag: bool) -> None:
        """Compute dead modules too (their results are dropped): for counting what is built."""
        self._compute_dead = flag
        for cell in self.cells:
            cell.compute_dead = flag  # type: ignore[assignment]

    def _computed(self, output: int) -> bool:
        return output in self._live or self._compute_dead

    def feature_maps(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch features h w"], Tensor | None]:
        """Return the last cell's output and, where an auxiliary head exists, the map that feeds it.

        All that reads another output begins with a ReLU, so each is kept behind one.
        """
        if self.stem_kind == "cifar":
            first = F.relu(self.stem(x))
            outputs: list[Tensor | None] = [first, first]
        else:
            first = F.relu(self.stem0(x))
            outputs = [first, F.relu(self.stem1(first)) if self._computed(1) else None]
        last_cell = len(self.cells) - 1
        for k, cell in enumerate(self.cells):
            computed = self._computed(2 + k)
            out = cell(outputs[k], outputs[k + 1], rectified=True, rectify=k < last_cell) if computed else None
            outputs.append(out)
        last = outputs[-1]
        assert last is not None
        return last, outputs[2 + self.reductions[1]] if self.auxiliary is not None else None

    def features(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        """Return globally average-pooled features."""
        return self.feature_maps(x)[0].mean(dim=(2, 3))

    def logits_and_map(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch features h w"]]:
        """Return logits and the last cell's output, from which the class activation map follows exactly."""
        if self.classifier is None:
            raise ConfigError("a trunk without classes has no logits")
        last, _ = self.feature_maps(x)
        return self.classifier(last.mean(dim=(2, 3))), last

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Tensor | tuple[Tensor, Tensor]:
        """Return features (no classes), logits, or in training with an auxiliary head (logits, auxiliary logits)."""
        last, middle = self.feature_maps(x)
        pooled = last.mean(dim=(2, 3))
        if self.classifier is None:
            return pooled
        logits = self.classifier(pooled)
        if self.training and self.auxiliary is not None:
            return logits, self.auxiliary(middle)
        return logits
