"""The arms of the robustness study, without anything heavy: settings name them.

Source: CSNAS IV-C and Fig 3 (spec/csnas.md 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ObjectiveName = Literal["supervised", "contrastive"]


@dataclass(frozen=True)
class Arm:
    """One of Fig 3's arms.

    Attributes:
        name: As in the paper.
        objective: What scores a genotype.
        share: Of the training images that the search sees, in (0, 1].
    """

    name: str
    objective: ObjectiveName
    share: float


ARMS = {
    arm.name: arm
    for arm in (
        Arm("SL-10", "supervised", 0.1),
        Arm("SL-100", "supervised", 1.0),
        Arm("CSSL-10", "contrastive", 0.1),
        Arm("CSSL-100", "contrastive", 1.0),
    )
}
"""By name, in the paper's order. SL is supervised, CSSL contrastive self-supervised learning."""

SAMPLERS = ("random", "tpe")
"""Random first: the searches of TPE then find their baseline."""
