"""When a registered model abstains: thresholds of probability and of distance, fixed on validation images."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermonas.data.manifest import Manifest
from dermonas.errors import DataError
from dermonas.seeding import numpy_generator
from dermonas.serving.abstention import threshold_for
from dermonas.serving.description import Description
from dermonas.serving.distance import Distance, threshold_of
from dermonas.serving.look import look
from dermonas.serving.score import read_images
from dermonas.serving.served import Served
from pipelines.register_config import RegisterConfig

_log = logging.getLogger(__name__)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model makes of some images, and what they look like to it.

    Attributes:
        probabilities: (n, classes), temperature-scaled.
        looks: (n, features), see `serving.look`.
    """

    probabilities: Floats
    looks: Floats

    @classmethod
    def by(cls, served: Served, files: Sequence[Path]) -> Seen:
        """Return what a model makes of image files, at least one."""
        parts = [
            (served.probabilities(served.logits(views).logits), look(views))
            for views in served.views(read_images(files))
        ]
        return cls(np.concatenate([one for one, _ in parts]), np.concatenate([two for _, two in parts]))


def distance_of(served: Served, manifest: Manifest, config: RegisterConfig) -> Distance | None:
    """Learn what training images look like to a model; None where that rule is left out or cannot be learned."""
    if config.familiar is None:
        return None
    rows = manifest.split_frame("train")
    rows = rows[manifest.label_indices(rows) >= 0]
    if len(rows) > config.familiar_images:
        drawn = numpy_generator(config.seed, "familiar").choice(len(rows), config.familiar_images, replace=False)
        rows = rows.iloc[np.sort(drawn)]
    try:
        if rows.empty:
            raise DataError("there is no labelled training image")
        looks = np.concatenate([look(views) for views in served.views(read_images(manifest.paths(rows)))])
        return Distance.fit(looks, manifest.label_indices(rows))
    except DataError as error:
        _log.warning("the model abstains by probability alone: %s", error)
        return None


def abstaining(description: Description, config: RegisterConfig, seen: Seen, distance: Distance | None) -> Description:
    """Return a description with its thresholds.

    Args:
        description: Without them.
        config: Shares of validation images to answer.
        seen: The validation images.
        distance: From the training images, or None.
    """
    if config.abstain_below is not None:
        below, rule = config.abstain_below, "set by hand"
    else:
        below = threshold_for(seen.probabilities, config.coverage)
        rule = f"{config.coverage:.0%} of the validation images reach it"
    found = dataclasses.replace(description, abstain_below=below, abstain_rule=rule)
    if distance is None or config.familiar is None:
        return found
    above = threshold_of(distance.of(seen.looks), config.familiar)
    nearer = f"{config.familiar:.0%} of the validation images are no farther"
    return dataclasses.replace(found, unfamiliar_above=above, unfamiliar_rule=nearer)


def in_words(description: Description) -> str:
    """Return when a model abstains, for its card."""
    text = (
        f"The model abstains where its largest probability is below {description.abstain_below:.3f} "
        f"({description.abstain_rule})"
    )
    if description.unfamiliar_above is None:
        return f"{text}."
    return (
        f"{text}, and where an image is unlike the training images: where its colours and contrasts are farther "
        f"from the nearest class than {description.unfamiliar_above:.3g} ({description.unfamiliar_rule}). The second "
        "rule catches images of other kinds; it is no promise for lesions of kinds that were never seen."
    )
