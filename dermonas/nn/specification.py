"""What a classifier is made of, as plain values, and the network built from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from dermonas.errors import ConfigError
from dermonas.nn.network import DIVISOR, Network, Stem, check_resolution
from dermonas.seeding import forked
from dermonas.space.genotype import Genotype


@dataclass(frozen=True)
class NetworkSpec:
    """A classifier without its weights.

    Every network built from one gives logits (batch, classes) in evaluation, has `logits_and_map(x)`, and a
    `classifier`: the linear layer behind global average pooling, or None where it ends otherwise.

    Attributes:
        kind: "cells" (a `Network`) or "timm" (a `Baseline`).
        name: The genotype's name, or timm's model name.
        classes: Classes.
        resolution: Side of the input in pixels.
        genotype: As `Genotype.to_dict` gives it; None for timm, as are the following.
        stem: Kind of stem.
        channels: C.
        layers: Cells.
    """

    kind: Literal["cells", "timm"]
    name: str
    classes: int
    resolution: int
    genotype: Mapping[str, Any] | None = None
    stem: Stem | None = None
    channels: int | None = None
    layers: int | None = None

    def __post_init__(self) -> None:
        parts = (self.genotype, self.stem, self.channels, self.layers)
        if self.kind == "cells":
            if any(part is None for part in parts) or self.stem not in DIVISOR:
                raise ConfigError(f"network {self.name} of cells needs genotype, stem, channels and layers")
            check_resolution(self.resolution, self.stem)
        elif self.kind != "timm" or any(part is not None for part in parts):
            raise ConfigError(f"network {self.name}: kind is cells or timm, and timm's have no cells")
        if self.classes < 2:
            raise ConfigError(f"network {self.name} has {self.classes} classes, a classifier needs 2")

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) over everything but the name."""
        values = {**self.to_dict(), "name": self.name if self.kind == "timm" else ""}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        values = {key: getattr(self, key) for key in self.__dataclass_fields__}
        return {**values, "genotype": None if self.genotype is None else dict(self.genotype)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkSpec:
        """Rebuild from `to_dict`.

        Raises:
            ConfigError: unknown or missing keys, or values that make no network.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"network specification: {error}") from error

    def build(self, *, auxiliary: bool = False, seed: int = 0) -> nn.Module:
        """Build the network with random weights keyed by `seed`; torch's global generator stays as it is.

        Args:
            auxiliary: Whether to add the auxiliary head (kind "cells").
            seed: Of the weights.

        Raises:
            ConfigError: no such timm model, or an auxiliary head for one.
        """
        if self.kind == "timm":
            from dermonas.nn.baselines import baseline  # timm takes seconds to import

            if auxiliary:
                raise ConfigError(f"{self.name} has no auxiliary head; set auxiliary 0")
            return baseline(self.name, self.classes, seed=seed)
        assert self.genotype is not None  # as all below, by __post_init__
        assert self.stem is not None
        assert self.channels is not None
        assert self.layers is not None
        with forked(seed, "network"):
            return Network(
                Genotype.from_dict(self.genotype),
                stem=self.stem,
                channels=self.channels,
                layers=self.layers,
                classes=self.classes,
                auxiliary=self.resolution if auxiliary else None,
                seed=seed,
            )
