"""Which differences are more than chance: every searched network against every baseline.

Two tests a pair, which ask different things:

- The paired lesion bootstrap compares two ways to train: the mean over the seeds of each, on the same resamples of
  lesions. It treats the trainings as they are and the lesions as drawn, so it says what other lesions would have
  shown of these trainings; how far other seeds would have come out elsewhere is in the standard deviation beside it.
  The seeds of two models share nothing (other networks, other weights), so they are not paired with each other.
- McNemar's test compares two classifiers, so each model sends one training, the first of its runs, whatever it
  scored. It takes images as independent and is too sure where lesions have several.

Holm's correction runs over all bootstrap tests of the comparison (accuracy and balanced accuracy of all pairs), and
over all McNemar tests apart: they ask for the accuracy a second time and would weaken both for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dermonas.comparison.candidates import Candidate, Result
from dermonas.comparison.scores import Scored
from dermonas.errors import ConfigError
from dermonas.metrics.counts import decide
from dermonas.metrics.inputs import Bools
from dermonas.metrics.intervals import GroupBootstrap
from dermonas.metrics.paired import McNemar, PairedDifference, difference_of, holm, mcnemar

TESTED = ("accuracy", "balanced_accuracy")
"""Figures whose differences are tested."""

# A bootstrap p-value is at least 2 / (replicates + 1) and Holm multiplies the smallest by the number of tests:
# with 200 resamples a test the smallest that can be shown is .01, and .05 is five resamples away from it.
RESAMPLES_A_TEST = 200


@dataclass(frozen=True)
class Pair:
    """Two models on the same images.

    Attributes:
        first: Place of the model among the candidates.
        second: Place of the one that it is held against.
        differences: First minus second by figure (`TESTED`).
        corrected: p-values of `differences` after Holm; None where there is no interval, hence no test.
        mcnemar: Of the first training of each.
        mcnemar_corrected: Its p-value after Holm.
    """

    first: int
    second: int
    differences: Mapping[str, PairedDifference]
    corrected: Mapping[str, float | None]
    mcnemar: McNemar
    mcnemar_corrected: float


def pairs_of(candidates: Sequence[Candidate], reference: str | None) -> tuple[tuple[int, int], ...]:
    """Return what is held against what, as places among the candidates, always at one label fraction.

    Args:
        candidates: With distinct names.
        reference: A name, against which all others are held; None holds every network of cells against every timm
            model.

    Raises:
        ConfigError: No candidate of the reference's name.
    """
    known = [candidate.name for candidate in candidates]
    if reference is not None and reference not in known:
        raise ConfigError(f"reference {reference!r} is not compared here: {', '.join(dict.fromkeys(known))} are")

    def held(one: Candidate, other: Candidate) -> bool:
        if one.label_fraction != other.label_fraction:
            return False
        if reference is None:
            return one.kind == "cells" and other.kind == "timm"
        return other.name == reference != one.name

    places = range(len(candidates))
    return tuple((i, k) for i in places for k in places if held(candidates[i], candidates[k]))


def tested(
    candidates: Sequence[Candidate],
    scored: Sequence[Mapping[str, Scored]],
    pairs: Sequence[tuple[int, int]],
    bootstrap: GroupBootstrap,
    level: float,
) -> tuple[Pair, ...]:
    """Test pairs of aligned candidates.

    Args:
        candidates: Aligned.
        scored: Their figures, on the resamples of `bootstrap`.
        pairs: See `pairs_of`.
        bootstrap: Of the images' lesions.
        level: Of the intervals.
    """
    found = [
        Pair(
            first=i,
            second=k,
            differences={name: _difference(scored[i][name], scored[k][name], bootstrap, level) for name in TESTED},
            corrected={},
            mcnemar=mcnemar(_right(candidates[i].runs[0]), _right(candidates[k].runs[0])),
            mcnemar_corrected=1.0,
        )
        for i, k in pairs
    ]
    raw = {
        f"{place} {name}": difference.p_value
        for place, pair in enumerate(found)
        for name, difference in pair.differences.items()
        if not np.isnan(difference.p_value)
    }
    bootstrapped = holm(raw)
    exact = holm({str(place): pair.mcnemar.p_value for place, pair in enumerate(found)})
    return tuple(
        replace(
            pair,
            corrected={name: bootstrapped.get(f"{place} {name}") for name in TESTED},
            mcnemar_corrected=exact[str(place)],
        )
        for place, pair in enumerate(found)
    )


def _difference(first: Scored, second: Scored, bootstrap: GroupBootstrap, level: float) -> PairedDifference:
    return difference_of(first.score.mean, second.score.mean, first.draws - second.draws, bootstrap, level)


def _right(run: Result) -> Bools:
    return np.asarray(decide(run.probabilities) == run.labels)
