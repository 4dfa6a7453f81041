"""One class against the rest, for any weighting of the rows: area under the ROC curve and operating points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dermonas.metrics.inputs import Bools, Floats

# Counts are sums of whole weights, specificities are typed as decimals: 0.9 * 10 negatives must still be 9.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class OperatingPoint:
    """What calling a row positive when its score reaches a threshold gives.

    Attributes:
        threshold: A score of some row, or infinity where no row is called positive; NaN where none can be chosen
            for lack of negatives.
        sensitivity: Share of positives with score >= threshold; NaN without positives, or without a threshold.
        specificity: Share of negatives with score < threshold; NaN without negatives.
        positives: Rows of the class.
        negatives: The other rows.
    """

    threshold: float
    sensitivity: float
    specificity: float
    positives: int
    negatives: int


class Ranking:
    """Rows of one class against the rest in the order of their scores; equal scores are one block.

    Args:
        positive: (n,) rows of the class.
        scores: (n,) higher = more likely of the class.
    """

    def __init__(self, positive: Bools, scores: Floats) -> None:
        self.positives = int(positive.sum())
        self.negatives = len(positive) - self.positives
        self._order = np.argsort(-scores, kind="stable")
        self._positive = positive[self._order].astype(np.float64)
        ranked = scores[self._order]
        self._starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        self._thresholds = ranked[self._starts]

    @property
    def both(self) -> bool:
        """Whether there are positives and negatives, without which no curve exists."""
        return self.positives > 0 and self.negatives > 0

    def auroc(self, weights: Floats) -> Floats:
        """Return the area under the ROC curve, a tie counting half (the Mann-Whitney statistic).

        Args:
            weights: (b, n) row weights.

        Returns:
            (b,) in [0, 1]; NaN where positives or negatives weigh nothing.
        """
        positive, negative = self._blocks(weights)
        above = np.cumsum(negative, axis=1)
        total = above[:, -1]
        wins = (positive * (total[:, None] - above + 0.5 * negative)).sum(axis=1)
        return _divide(wins, positive.sum(axis=1) * total)

    def sensitivity_at(self, weights: Floats, specificity: float) -> Floats:
        """Return the largest sensitivity at a specificity of at least `specificity`; see `point_at`.

        Args:
            weights: (b, n) row weights; each replicate has its own threshold.
            specificity: In (0, 1).

        Returns:
            (b,) in [0, 1]; NaN where positives or negatives weigh nothing.
        """
        positive, negative = self._blocks(weights)
        caught, false = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
        total, everything = false[:, -1], caught[:, -1]
        allowed = (1 - specificity) * total + _ROUNDING * np.maximum(total, 1)
        blocks = (false <= allowed[:, None]).sum(axis=1)  # false positives only grow
        taken = np.take_along_axis(caught, np.maximum(blocks - 1, 0)[:, None], axis=1)[:, 0]
        return np.where(total > 0, _divide(np.where(blocks > 0, taken, 0.0), everything), np.nan)

    def point_at(self, specificity: float) -> OperatingPoint:
        """Return the operating point of the lowest threshold whose specificity is at least `specificity`.

        Thresholds are the scores themselves: nothing is interpolated, and rows of equal score are called alike.
        """
        if not self.negatives:
            return OperatingPoint(np.nan, np.nan, np.nan, self.positives, 0)
        positive, negative = self._blocks(np.ones((1, len(self._order))))
        caught, false = np.cumsum(positive[0]), np.cumsum(negative[0])
        blocks = int((false <= (1 - specificity) * self.negatives + _ROUNDING * self.negatives).sum())
        hits, alarms = (caught[blocks - 1], false[blocks - 1]) if blocks else (0.0, 0.0)
        return OperatingPoint(
            threshold=float(self._thresholds[blocks - 1]) if blocks else float("inf"),
            sensitivity=float(hits / (self.positives or np.nan)),
            specificity=float((self.negatives - alarms) / self.negatives),
            positives=self.positives,
            negatives=self.negatives,
        )

    def curve(self) -> tuple[Floats, Floats, Floats]:
        """Return the ROC curve for a figure.

        Returns:
            False positive rates, true positive rates and thresholds, (blocks + 1,) each, from (0, 0) at infinity
            to (1, 1); a rate without denominator is NaN throughout.
        """
        positive, negative = self._blocks(np.ones((1, len(self._order))))
        false = np.r_[0.0, np.cumsum(negative[0])] / (self.negatives or np.nan)
        true = np.r_[0.0, np.cumsum(positive[0])] / (self.positives or np.nan)
        return false, true, np.r_[np.inf, self._thresholds]

    def _blocks(self, weights: Floats) -> tuple[Floats, Floats]:
        """Sum weights of positives and negatives in each block of equal scores, best first: (b, blocks) twice."""
        ranked = weights[:, self._order]
        positive = ranked * self._positive
        if len(self._starts) < len(self._order):
            positive = np.add.reduceat(positive, self._starts, axis=1)
            ranked = np.add.reduceat(ranked, self._starts, axis=1)
        return positive, ranked - positive


def _divide(top: Floats, bottom: Floats) -> Floats:
    out = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out
