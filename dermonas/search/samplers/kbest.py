"""Thetas in decreasing order of a separable score, one at a time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from dermonas.search.samplers.base import unevaluated
from dermonas.space.domain import Domain, Theta

POPS = 20_000  # thetas looked at before the search for an unevaluated one falls back to the prior


def best_first(scores: Sequence[np.ndarray]) -> Iterator[Theta]:
    """Yield every theta once, by decreasing sum of per-position scores.

    A state is a vector of ranks (0 = the position's best choice). With positions ordered by the gap between
    their best and second choice, three moves at the last raised position reach each state from exactly one
    state that costs no more: raise it once more; raise the next one too; move a single raise on to the next.
    So a theta costs O(log) and memory grows by at most two states a theta, where plain neighbour expansion
    would push one state a position.

    Args:
        scores: One float array a position, one finite score a choice.

    Yields:
        Choice indices in position order. Equal sums come in an arbitrary but fixed order.

    Raises:
        ValueError: If a position has no choice or a score is not finite.

    Source: E. L. Lawler, A procedure for computing the K best solutions, Management Science 18 (1972); the
        one-parent form is the usual one for sums over independent choices.
    """
    if any(score.size == 0 or not np.isfinite(score).all() for score in scores):
        raise ValueError("every position needs at least one choice and finite scores")
    orders = [np.argsort(-score, kind="stable") for score in scores]
    # losses[p][r]: what rank r costs at position p; never negative, never decreasing in r.
    losses = [(score[order[0]] - score[order]).tolist() for score, order in zip(scores, orders, strict=True)]
    free = sorted((p for p, loss in enumerate(losses) if len(loss) > 1), key=lambda p: losses[p][1])
    steps = [losses[p] for p in free]
    best = [int(order[0]) for order in orders]

    def theta(ranks: tuple[int, ...]) -> Theta:
        choice = best.copy()
        for position, rank in zip(free, ranks, strict=False):
            choice[position] = int(orders[position][rank])
        return tuple(choice)

    yield theta(())
    if not free:
        return
    # ranks end at the last raised position: trailing zeros are left out.
    heap: list[tuple[float, tuple[int, ...]]] = [(steps[0][1], (1,))]
    while heap:
        loss, ranks = heapq.heappop(heap)
        yield theta(ranks)
        here, rank = len(ranks) - 1, ranks[-1]
        if rank + 1 < len(steps[here]):
            heapq.heappush(heap, (loss - steps[here][rank] + steps[here][rank + 1], (*ranks[:-1], rank + 1)))
        if here + 1 < len(steps):
            raised = loss + steps[here + 1][1]
            heapq.heappush(heap, (raised, (*ranks, 1)))
            if rank == 1:
                heapq.heappush(heap, (raised - steps[here][1], (*ranks[:-1], 0, 1)))


def best_unevaluated(
    domain: Domain,
    scores: Sequence[np.ndarray],
    evaluated: frozenset[str],
    rng: np.random.Generator,
    pops: int = POPS,
) -> Theta:
    """Return the theta with the highest sum of scores whose network is not among `evaluated`.

    Args:
        domain: The searched space.
        scores: One float array a position.
        evaluated: Functional digests to skip.
        rng: Used only where none of the first `pops` thetas is new: then a new one is drawn from the prior.
        pops: How many thetas to look at, 1 or more.

    Returns:
        An unevaluated theta, or a prior draw in a space that is searched through.
    """
    for theta in islice(best_first(scores), pops):
        if domain.digest(theta) not in evaluated:
            return theta
    return unevaluated(domain, evaluated, rng)
