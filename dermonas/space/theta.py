"""The one check that every domain makes of a theta that it is handed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dermonas.errors import GenotypeError
from dermonas.space.domain import Theta

_INTEGER = (int, np.integer)  # samplers may hand over NumPy integers; 1.0 is a mistake


def check_theta(name: str, choices: Sequence[int], theta: Theta) -> None:
    """Check that `theta` lies in the domain.

    Args:
        name: The domain's name, for the message.
        choices: Number of choices at each position.
        theta: What to check.

    Raises:
        GenotypeError: If theta has the wrong length or a choice out of range; names the position.
    """
    if len(theta) != len(choices):
        raise GenotypeError(f"{name}: theta has {len(theta)} positions; give {len(choices)}")
    for position, (value, count) in enumerate(zip(theta, choices, strict=True)):
        if not isinstance(value, _INTEGER) or not 0 <= value < count:
            raise GenotypeError(f"{name}: theta[{position}] is {value!r}; use 0 to {count - 1}")
