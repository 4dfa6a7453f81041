"""How a positive is drawn, in whatever space: distances in turn, a few attempts at each, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dermonas.controller.language import MAX_EDITS, Booleans, Fallback, Positives, Thetas, Uniforms, pick

ATTEMPTS = 3
"""Tries at a distance before the positive is given up (paper) or another distance is taken.
Source: spec/nao.md 2 (C, the positive generator)."""

Attempt = Callable[[Thetas, np.ndarray, Uniforms], tuple[Thetas, Booleans]]
"""(anchors, distance of each, uniforms) -> (edited cells, whether the edit worked), a row a positive."""

Changed = Callable[[Thetas, Thetas], Booleans]
"""(anchors, edited cells) -> whether they are different networks, a row a positive."""


def draws(an_attempt: int) -> int:
    """Return the uniform numbers a positive needs where an attempt needs `an_attempt`."""
    return 2 + MAX_EDITS * ATTEMPTS * an_attempt


def draw_positives(
    anchors: Thetas, uniforms: Uniforms, fallback: Fallback, attempt: Attempt, changed: Changed
) -> Positives:
    """Draw positives of each anchor; see `Language.positives`.

    Args:
        anchors: (anchors, positions).
        uniforms: (anchors, count, draws).
        fallback: "redraw" or "paper".
        attempt: Makes one edit of a given distance.
        changed: Compares networks; not asked in "paper".
    """
    count = uniforms.shape[1]
    numbers = uniforms.reshape(len(anchors) * count, -1)
    source = np.repeat(anchors, count, axis=0)
    found = source.copy()
    distance = np.zeros(len(source), np.int8)
    first = pick(numbers[:, 0], MAX_EDITS)
    turn = 1 + pick(numbers[:, 1], MAX_EDITS - 1)  # the other distances follow upward or downward, cyclically
    tries = numbers[:, 2:].reshape(len(source), MAX_EDITS, ATTEMPTS, -1)
    left = np.arange(len(source))
    for change in range(MAX_EDITS if fallback == "redraw" else 1):
        wanted = (first + change * turn) % MAX_EDITS + 1
        for number in range(ATTEMPTS):
            edited, good = attempt(source[left], wanted[left], tries[left, change, number])
            if fallback == "redraw":
                good &= changed(source[left], edited)
            done = left[good]
            found[done] = edited[good]
            distance[done] = wanted[done]
            left = left[~good]
            if not len(left):
                break
    shape = (len(anchors), count)
    return Positives(found.reshape(*shape, -1), distance.reshape(shape))
