"""Random search: the baseline that every sampler is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dermonas.search.samplers.base import DomainSampler
from dermonas.search.samplers.history import Record
from dermonas.space.domain import Theta


class RandomSampler(DomainSampler):
    """Draws every theta from the uniform prior; the history only ends a stall."""

    name = "random"

    def propose(self, records: Sequence[Record], number: int, rng: np.random.Generator) -> Theta:
        """Draw from the prior."""
        return self.domain.sample(rng)
