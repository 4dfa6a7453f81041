"""A sampler that proposes what it is told."""

from __future__ import annotations

from dermonas.search.samplers.base import DomainSampler


class Scripted(DomainSampler):
    """Proposes a given list of thetas, by trial number."""

    name = "scripted"

    def __init__(self, domain, thetas, mode="modern") -> None:
        super().__init__(domain, 0, mode)
        self.thetas = thetas

    def propose(self, records, number, rng):
        return self.thetas[number % len(self.thetas)]
