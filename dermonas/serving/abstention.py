"""When a model had better not answer: the threshold of its largest probability, fixed on validation images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from dermonas.errors import ConfigError, DataError


def threshold_for(probabilities: ArrayLike, coverage: float) -> float:
    """Return the largest threshold that still answers a share of these images.

    The rule: sort the largest probability of each validation image and cut where at least `coverage` of them lie at
    or above. New images of the same kind are then answered about as often; of others nothing is promised, for a
    network may be sure of what it has never seen.

    Args:
        probabilities: (n, classes), temperature-scaled, of validation images.
        coverage: Share to answer, in (0, 1]; 1 answers them all.

    Returns:
        In [0, 1].

    Raises:
        ConfigError: coverage is out of range.
        DataError: No images.

    Source: selective classification by confidence, Geifman and El-Yaniv, Selective Classification for Deep Neural
    Networks (NeurIPS 2017), without their bound on the risk.
    """
    if not 0 < coverage <= 1:
        raise ConfigError(f"coverage {coverage} must lie in (0, 1]")
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 2 or not len(scores):
        raise DataError("no validation image to choose the abstention threshold on: check the split sizes")
    confidence = np.sort(scores.max(axis=1))
    refused = int(np.floor((1 - coverage) * len(confidence) + 1e-9))  # rounding must not refuse one less
    return float(min(confidence[refused], 1.0))
