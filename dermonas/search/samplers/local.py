"""Local search: climb by neighbours, and from a local optimum start again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dermonas.errors import ConfigError
from dermonas.search.samplers.base import DomainSampler, unevaluated
from dermonas.search.samplers.history import Record
from dermonas.space.domain import Domain, Theta

STARTS = 10  # draws of which the best starts a climb: naszilla's num_init


class LocalSampler(DomainSampler):
    """Hill climbing over a domain's neighbours, to the first better one, with restarts.

    A climb starts at the best of `starts` prior draws of unevaluated networks. Neighbours of the place reached are
    proposed in random order; the first that is better is the next place, and one already known to be better is moved
    to without a query. Where no neighbour is better, the climb is over and the next one starts.

    Trials that left no record (failed, or running beside this one) are presumed to be neighbours: once as many of
    them in a row went by as there are neighbours left, the climb is over too. So a neighbour that always fails does
    not hold the search, and parallel asks do not crowd around the last neighbours.

    Args:
        domain: The searched space.
        seed: The search's seed.
        mode: "paper" or "modern"; in modern mode a pruned trial is known, and worse than every complete one.
        starts: Draws of which the best starts a climb, 1 or more.
        zero_start: Propose all zeros for trial 0.

    Raises:
        ConfigError: If the mode is unknown or starts is below 1.

    Source: White et al., Local Search is State of the Art for Neural Architecture Search Benchmarks (2020), with the
        first improvement instead of the whole neighbourhood's best (their code's default, query_full_nbhd false).
        Restarts and known neighbours are ours; their code stops at the first optimum.
    """

    name = "local"

    def __init__(
        self, domain: Domain, seed: int, mode: str = "modern", *, starts: int = STARTS, zero_start: bool = False
    ) -> None:
        super().__init__(domain, seed, mode, zero_start=zero_start)
        if starts < 1:
            raise ConfigError(f"starts is {starts}: use 1 or more")
        self.starts = starts
        self._climb = _Climb(domain, starts)

    def propose(self, records: Sequence[Record], number: int, rng: np.random.Generator) -> Theta:
        """Return a random neighbour yet to evaluate of the place reached, or a draw for the next climb's start."""
        climb = self._replayed(records)
        if climb.over(number):
            return unevaluated(self.domain, frozenset(climb.known), rng)
        left = list(climb.left.values())
        return left[int(rng.integers(len(left)))]

    def _replayed(self, records: Sequence[Record]) -> _Climb:
        """Return the climb after `records`, going on from the last call's where they begin with the same records."""
        done = len(self._climb.records)
        if self._climb.records != records[:done]:
            self._climb, done = _Climb(self.domain, self.starts), 0
        for record in records[done:]:
            self._climb.add(record)
        return self._climb


class _Climb:
    """Where a search stands after the records added so far; a function of them alone.

    Attributes:
        records: The records added, in order.
        known: The best record of each network, by digest.
        place: The record climbed to, None while the draws for a start are made.
        left: Neighbours of the place that no record is of, by digest.
    """

    def __init__(self, domain: Domain, starts: int) -> None:
        self.domain, self.starts = domain, starts
        self.records: list[Record] = []
        self.known: dict[str, Record] = {}
        self.place: Record | None = None
        self.left: dict[str, Theta] = {}
        self._drawn: list[Record] = []

    def over(self, number: int) -> bool:
        """Return whether trial `number` is a draw for a start: nowhere yet, or no neighbour is left to try."""
        last = self.records[-1].number if self.records else -1
        return self.place is None or max(0, number - 1 - last) >= len(self.left)

    def add(self, record: Record) -> None:
        """Take in the next record."""
        if self.place is not None and self.over(record.number):
            self.place, self._drawn = None, []
        self.records.append(record)
        before = self.known.get(record.digest)
        if before is None or record.key < before.key:
            self.known[record.digest] = record
        self.left.pop(record.digest, None)
        if self.place is None:
            self._drawn.append(record)
            if len(self._drawn) == self.starts:
                self._go(min(self._drawn, key=lambda drawn: drawn.key))
        elif record.key < self.place.key:
            self._go(record)

    def _go(self, place: Record) -> None:
        """Move to a record, and on to the best of its known neighbours while that is better."""
        better: Record | None = place
        while better is not None:
            self.place = better
            neighbours = {self.domain.digest(theta): theta for theta in self.domain.neighbours(better.theta)}
            known = [self.known[digest] for digest in neighbours if digest in self.known]
            best = min(known, key=lambda record: record.key, default=better)
            better = best if best.key < self.place.key else None
        self.left = {digest: theta for digest, theta in neighbours.items() if digest not in self.known}
