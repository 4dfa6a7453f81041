"""What a sampler needs to know of a search space, and no more.

A domain is a product of finite choices: theta is a tuple with one choice index per position. Many
thetas can describe one network; `canonical` picks one of them and `digest` names the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

Theta = tuple[int, ...]


class Domain(Protocol):
    """A finite product space with a functional identity."""

    @property
    def name(self) -> str:
        """A short stable name, part of the default study name."""

    @property
    def choices(self) -> tuple[int, ...]:
        """Number of choices at each position; theta[i] lies in range(choices[i])."""

    def canonical(self, theta: Theta) -> Theta:
        """Return the canonical theta of the network that `theta` describes.

        Raises:
            GenotypeError: If theta has the wrong length or a choice out of range.
        """

    def digest(self, theta: Theta) -> str:
        """Return the functional digest: equal exactly when two thetas build the same function."""

    def sample(self, rng: np.random.Generator) -> Theta:
        """Draw one theta from the uniform prior over choices (not canonicalised)."""

    def neighbours(self, theta: Theta) -> Iterator[Theta]:
        """Yield the canonical thetas one live edit away from `theta`, each once, never `theta`."""
