"""The budgets at which an audit scores networks."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from dermonas.data.views import Preset
from dermonas.errors import ConfigError
from dermonas.objective.contrastive import ContrastiveSettings

Kind = Literal["contrastive", "supervised", "untrained"]

PAPER = "paper"
"""The budget of this name holds the papers' score, which others are compared with."""


@dataclass(frozen=True)
class Budget:
    """One way to score a network; each epoch of it is a cheaper budget of its own.

    Attributes:
        name: Letters, digits, "-" and "_"; "paper" is the papers' score.
        kind: "contrastive"; "supervised", which reads labels and is shown as a rival only; "untrained".
        images: Images of the search set, held-out ones included, drawn by seed; None is all.
        epochs: Passes; 1 for untrained.
        channels: C.
        layers: Cells.
        learning_rate: SGD's.
        batch_size: Images a step; of untrained scores, images in all.
        views: Preset of the views.
        resolution: Side in pixels.
    """

    name: str
    kind: Kind = "contrastive"
    images: int | None = None
    epochs: int = 10
    channels: int = 32
    layers: int = 8
    learning_rate: float = 0.001
    batch_size: int = 150
    views: Preset = "paper"
    resolution: int = 32

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise ConfigError(f"budget {self.name!r}: the name may hold letters, digits, - and _")
        if self.kind not in get_args(Kind):
            raise ConfigError(f"budget {self.name}: kind {self.kind!r} must be one of {', '.join(get_args(Kind))}")
        if self.images is not None and self.images < 10:
            raise ConfigError(f"budget {self.name}: images {self.images} must be at least 10, a fifth is held out")
        try:
            self.settings(seed=0)
        except ConfigError as error:
            raise ConfigError(f"budget {self.name}: {error}") from error

    def settings(self, seed: int) -> ContrastiveSettings:
        """Return the objective's settings."""
        own = {field.name for field in fields(self)} - {"name", "kind", "images"}
        more: dict[str, Any] = {"score": "naswot"} if self.kind == "untrained" else {}
        return ContrastiveSettings(**{key: getattr(self, key) for key in own}, **more, seed=seed)


def check_budgets(budgets: list[Budget]) -> None:
    """Refuse lists that no audit can be made of.

    Raises:
        ConfigError: None at all, a name twice, or no contrastive budget "paper".
    """
    names = [budget.name for budget in budgets]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"budgets: {name} stands twice; give each a name of its own")
    if not any(budget.name == PAPER and budget.kind == "contrastive" for budget in budgets):
        raise ConfigError(
            f"budgets: one must be contrastive and named {PAPER}, the score that others are compared with"
        )
