"""What a packaged model is, beside its program: classes, preprocessing, temperature, when it abstains."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermonas.errors import ConfigError, StorageError
from dermonas.imaging.normalise import Channels

PROGRAM, DESCRIPTION, HEAD, CARD = "program.pt2", "model.json", "head.npy", "card.md"
"""Files of a packaged model, in its folder `artifacts`."""

FORMAT = 2
"""Version of model.json that is written: 2 adds `unfamiliar_above` and `unfamiliar_rule`."""
READABLE = (1, 2)
"""Versions that a reader takes."""

Flip = tuple[int, ...]
"""Dimensions of a batch (batch, 3, height, width) that a view of test-time augmentation turns round; () for none."""


@dataclass(frozen=True)
class Description:
    """A packaged model without its weights.

    Attributes:
        registered: The registered model's name, such as "dermonas-isic2019".
        name: What tables call the model: a genotype's or timm model's name.
        dataset: Name of the data set.
        dataset_digest: Of the manifest that it was trained on.
        synthetic: Whether those images were generated.
        classes: Class names in label order.
        stored: Side in pixels to which an image is squashed.
        size: Side in pixels of the centre crop that the network sees; at most `stored`.
        mean: Channel means on 0..1.
        std: Channel deviations on 0..1.
        temperature: Divides the logits, positive.
        flips: Views of test-time augmentation, the plain one first; only that one where training drew no flip.
        abstain_below: The model abstains where its largest probability is below this, in [0, 1]; 0 for never.
        abstain_rule: Where that threshold comes from, in words.
        unfamiliar_above: The model abstains where an image's distance from the training images is above this; None
            for never. See `dermonas.serving.distance`.
        unfamiliar_rule: Where that threshold comes from, in words.
    """

    registered: str
    name: str
    dataset: str
    dataset_digest: str
    synthetic: bool
    classes: tuple[str, ...]
    stored: int
    size: int
    mean: Channels
    std: Channels
    temperature: float = 1.0
    flips: tuple[Flip, ...] = ((),)
    abstain_below: float = 0.0
    abstain_rule: str = ""
    unfamiliar_above: float | None = None
    unfamiliar_rule: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.stored:
            raise ConfigError(f"size {self.size} must lie between 1 and stored, {self.stored} pixels")
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise ConfigError(f"classes {', '.join(self.classes)} must be at least two different names")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ConfigError(f"temperature {self.temperature} must be positive")
        if not 0 <= self.abstain_below <= 1:
            raise ConfigError(f"abstain_below {self.abstain_below} must lie in [0, 1]")
        if self.unfamiliar_above is not None and not (0 <= self.unfamiliar_above < math.inf):
            raise ConfigError(f"unfamiliar_above {self.unfamiliar_above} must be a number of at least 0")
        if not self.flips or self.flips[0] != ():
            raise ConfigError("the first view of test-time augmentation is the plain one")

    @property
    def notice(self) -> str:
        """What every answer says of itself."""
        known = "; trained on synthetic images, it knows no other" if self.synthetic else ""
        return f"research software, not a medical device{known}"

    def write(self, folder: Path) -> Path:
        """Write model.json, whole or not at all.

        Raises:
            StorageError: The disk refuses.
        """
        path, fresh = folder / DESCRIPTION, folder / f".{DESCRIPTION}"
        try:
            fresh.write_text(json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=2) + "\n", "utf-8")
            return fresh.replace(path)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Read model.json.

        Raises:
            StorageError: It is absent, damaged or of another format.
        """
        path = folder / DESCRIPTION
        try:
            values = json.loads(path.read_text("utf-8"))
            if values.pop("format", None) not in READABLE:
                known = " or ".join(map(str, READABLE))
                raise StorageError(f"{path} is of another format than {known}: register the model again")
            return cls(**_tuples(values))
        except (OSError, ValueError, TypeError, AttributeError, ConfigError) as error:
            raise StorageError(f"{path} cannot be read ({error}): register the model again") from error


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return {**found, "flips": tuple(tuple(flip) for flip in found["flips"])} if "flips" in found else found
