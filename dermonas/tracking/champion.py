"""Who is champion: two models on the same validation images, and the rule by which the alias moves."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

from numpy.typing import ArrayLike

from dermonas.errors import ConfigError
from dermonas.metrics.intervals import GroupBootstrap
from dermonas.metrics.paired import paired_bootstrap
from dermonas.metrics.statistic import balanced_accuracy

PROBABILITY = 0.9
"""Share of lesion resamples in which a challenger must be better. Source: issue 4."""


@dataclass(frozen=True)
class Decision:
    """Whether a new version becomes champion, and on what grounds. Figures are None where nothing was compared.

    Attributes:
        champion: Whether it does.
        reason: In words.
        forced: Whether it does only because someone said so.
        against: Version of the champion it was measured against, or "".
        balanced_accuracy: The challenger's on the validation images, in [0, 1].
        champion_balanced_accuracy: The old champion's on the same images.
        difference: Challenger minus champion.
        difference_lo: Lower bound of its 95 % bootstrap interval over lesions.
        difference_hi: Upper bound.
        probability_better: Share of resamples in which the challenger is higher, equal ones counting half.
        images: Validation images.
    """

    champion: bool
    reason: str
    forced: bool = False
    against: str = ""
    balanced_accuracy: float | None = None
    champion_balanced_accuracy: float | None = None
    difference: float | None = None
    difference_lo: float | None = None
    difference_hi: float | None = None
    probability_better: float | None = None
    images: int = 0

    def to_json(self) -> str:
        """Return it as JSON text, for a version's tag."""
        return json.dumps(asdict(self), allow_nan=False)


def unopposed(
    reason: str, labels: ArrayLike, probabilities: ArrayLike, *, against: str = "", forced: bool = False
) -> Decision:
    """Return the decision for a version that is compared with none, for instance the first one.

    Args:
        reason: Why it becomes champion.
        labels: (n,) class indices of the validation images.
        probabilities: (n, classes) of the version.
        against: Version of the champion that it replaces without a comparison, or "".
        forced: Whether someone said so.
    """
    own = balanced_accuracy(labels, probabilities)
    return Decision(True, reason, forced, against, balanced_accuracy=own.value, images=own.rows)


def decide(
    labels: ArrayLike,
    challenger: ArrayLike,
    champion: ArrayLike,
    groups: Sequence[Hashable],
    *,
    against: str,
    force: str = "",
    replicates: int = 2000,
    seed: int = 0,
) -> Decision:
    """Compare two models on the same images and decide.

    The challenger becomes champion if its balanced accuracy is higher and, on lesions drawn anew, it is higher in at
    least `PROBABILITY` of the resamples; or if it is forced. Resamples that lack a class say nothing; where they are
    most, as with a lesion or two a class, nobody wins without force.

    Args:
        labels: (n,) class indices.
        challenger: (n, classes) probabilities.
        champion: (n, classes) probabilities of the present champion.
        groups: (n,) lesions.
        against: The champion's version.
        force: Why to make it champion whatever the figures, or "".
        replicates: Resamples.
        seed: Of the resamples.

    Raises:
        DataError: Arrays that do not fit each other.

    Source: issue 4.
    """
    first, second = balanced_accuracy(labels, challenger), balanced_accuracy(labels, champion)
    bootstrap = GroupBootstrap(groups, first.rows, replicates=replicates, seed=seed)
    found = paired_bootstrap(first, second, bootstrap)
    higher, gap = found.probability_first_higher, found.difference
    figures = f"balanced accuracy {found.first:.4f}, version {against} has {found.second:.4f}"
    shown = f"probability of improvement {higher:.3f}"
    if math.isnan(higher):
        shown = "too few lesions of some class for an interval"
    won = found.first > found.second and higher >= PROBABILITY
    if won:
        reason = f"{figures}; {shown}, at least {PROBABILITY}"
    elif force:
        reason = f"forced: {force} ({figures}; {shown})"
    elif found.first > found.second:
        below = "" if math.isnan(higher) else f", below {PROBABILITY}"
        reason = f"{figures}; {shown}{below}: the difference may be chance"
    else:
        reason = f"{figures}; not higher"
    return Decision(
        champion=won or bool(force),
        reason=reason,
        forced=bool(force) and not won,
        against=against,
        balanced_accuracy=found.first,
        champion_balanced_accuracy=found.second,
        difference=gap.estimate,
        difference_lo=_finite(gap.lo),
        difference_hi=_finite(gap.hi),
        probability_better=_finite(higher),
        images=first.rows,
    )


def check_same_split(ours: str, theirs: str, champion: str, run: str) -> None:
    """Refuse to compare on validation images that the champion was not registered with.

    Args:
        ours: Digest of the validation split here; see `registry.validation_digest`.
        theirs: The champion's tag.
        champion: Its name and version, in words.
        run: MLflow run id of its training.

    Raises:
        ConfigError: They differ; names both and the mend.
    """
    if ours != theirs:
        raise ConfigError(
            f"{champion}, the champion, was registered with validation split {theirs[:12] or 'unknown'}, this data has "
            f"{ours[:12]}: register the champion again on this data (--run {run} --data FOLDER --force true --reason "
            "...) and then repeat, or give --force true --reason WHY to replace it without a comparison"
        )


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
