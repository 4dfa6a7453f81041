"""The scores by name: what each says of a candidate, and what it needs.

In a search every score is the lower the better; those that say good with a large number are turned round.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from dermonas.space.genotype import Cell, Genotype

if TYPE_CHECKING:
    from dermonas.objective.agreement import Agreement
    from dermonas.objective.candidate import Architecture

ScoreName = Literal[
    "train_loss", "relative_loss", "sized_loss", "heldout_loss", "view_agreement", "alignment_uniformity",
    "naswot", "naswot_normalised", "synflow", "parameters",
]  # fmt: skip

SCORES: dict[str, str] = {
    "train_loss": "the papers' score: mean contrastive loss of the last epoch's images",
    "relative_loss": "the last epoch's loss over the first one's: how fast, not how low",
    "sized_loss": "train_loss less size_weight times log parameters",
    "heldout_loss": "contrastive loss of views of held-out images against each other",
    "view_agreement": "share of held-out images whose view is nearer to another image's than to its own other view",
    "alignment_uniformity": "distance of a held-out image's two views plus log potential of different images",
    "naswot": "untrained: minus log determinant of agreeing ReLU codes",
    "naswot_normalised": "the same with each ReLU map weighted alike",
    "synflow": "untrained: minus log synaptic flow",
    "parameters": "minus log of computed parameters",
}

UNTRAINED: tuple[str, ...] = ("naswot", "naswot_normalised", "synflow", "parameters")
"""Need no training: one look at the built network."""

HELD_OUT: tuple[str, ...] = ("heldout_loss", "view_agreement", "alignment_uniformity")
"""Need images that training does not see."""

TRAINED: tuple[str, ...] = tuple(name for name in SCORES if name not in UNTRAINED)


def trained_scores(
    losses: list[float], parameters: int, size_weight: float, held: Agreement | None
) -> dict[str, float]:
    """Return the scores of a candidate after its last epoch so far.

    Args:
        losses: Mean training loss of each epoch, at least one.
        parameters: Computed ones.
        size_weight: Of log parameters in `sized_loss`.
        held: Measures on held-out images; without them their scores are left out.
    """
    found = {
        "train_loss": losses[-1],
        "relative_loss": losses[-1] / losses[0] if losses[0] else math.nan,
        "sized_loss": losses[-1] - size_weight * math.log(parameters),
    }
    if held is not None:
        found |= {
            "heldout_loss": held.loss,
            "view_agreement": held.miss,
            "alignment_uniformity": held.alignment + held.uniformity,
        }
    return found


def operation_counts(architecture: Architecture) -> dict[str, int]:
    """Count operations of the live nodes of a genotype's cells, or of a NAS-Bench-201 cell's edges.

    Returns:
        For a genotype, by cell ("normal", "reduce"): separable convolutions, dilated ones, pools and skips; for a
        NAS-Bench-201 cell: 3x3 and 1x1 convolutions, pools, skips and missing edges.
    """
    if isinstance(architecture, Genotype):
        return {
            f"{name}_{kind}": _count(cell, prefix)
            for name, cell in (("normal", architecture.normal), ("reduce", architecture.reduce))
            for kind, prefix in _KINDS.items()
        }
    return {name: sum(choice == number for choice in architecture) for number, name in enumerate(_KINDS_201)}


_KINDS = {"separable": ("sep_",), "dilated": ("dil_",), "pools": ("max_pool", "avg_pool"), "skips": ("skip_",)}
_KINDS_201 = ("missing", "skips", "convolutions_1x1", "convolutions_3x3", "pools")  # in the space's own order


def _count(cell: Cell, prefixes: tuple[str, ...]) -> int:
    return sum(edge.operation.startswith(prefixes) for node in cell.live_nodes for edge in cell.nodes[node])
