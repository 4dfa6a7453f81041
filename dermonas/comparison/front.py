"""The Pareto front: what no other beats at once in cost and score."""

from __future__ import annotations

from collections.abc import Sequence


def pareto(costs: Sequence[float], scores: Sequence[float]) -> tuple[int, ...]:
    """Return the places that nothing dominates, cheapest first.

    One dominates another if it costs no more and scores no less, and is better in one of the two. Equal ones do
    not dominate each other: both stay.

    Args:
        costs: (n,) the lower the better.
        scores: (n,) the higher the better.
    """
    order = sorted(range(len(costs)), key=lambda place: (costs[place], -scores[place], place))
    front: list[int] = []
    for place in order:
        last = front[-1] if front else None
        same = last is not None and (costs[place], scores[place]) == (costs[last], scores[last])
        if last is None or same or scores[place] > scores[last]:
            front.append(place)
    return tuple(front)
