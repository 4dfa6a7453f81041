"""Bounds on a candidate's size: what lies beyond is never built on the device, let alone trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dermonas.errors import SearchError
from dermonas.nn.measure import count_multiply_adds, count_parameters
from dermonas.nn.network import Network
from dermonas.search.config import SearchConfig
from dermonas.space.genotype import Cell, Edge, Genotype

ROW = 500
"""Proposals beyond a bound in a row after which a search gives up: each costs only milliseconds, and a bound that
one network in a hundred meets is still met (all but 0.7 % of rows of 500 hold one)."""

_FREE = "max_pool_3x3"  # has neither parameters nor multiply-adds
_Cost = tuple[int, int]


class CostTable:
    """Live parameters and multiply-adds of candidates of one size, added up from a table.

    What a network costs is what it costs with pools on all edges, and for each live edge what its operation adds in
    every cell of its kind that is live. Both are differences of networks that `nn.measure` counts, without storage
    (torch's meta device), each when it is first needed; after that a genotype takes microseconds.

    Live, and not what is built: two writings of one network cost the same then, as dead nodes are left out, and it
    is what a trial computes.

    Args:
        channels: Of the candidate.
        layers: Its cells.
        resolution: Side of a view in pixels.
    """

    def __init__(self, channels: int, layers: int, resolution: int) -> None:
        self.channels, self.layers, self.resolution = channels, layers, resolution
        self._measured: dict[tuple[object, ...], _Cost] = {}

    def __call__(self, genotype: Genotype) -> _Cost:
        """Return (parameters, multiply-adds for one image) of what is computed, projection heads left out."""
        cells = (genotype.normal, genotype.reduce)
        base = self._measure(cells, None, _FREE, inner=False)
        parameters, multiply_adds = base
        for which, cell in enumerate(cells):
            for node in cell.live_nodes:
                for operation, source in cell.nodes[node]:
                    more = self._measure(cells, which, operation, inner=source >= 2)
                    parameters += more[0] - base[0]
                    multiply_adds += more[1] - base[1]
        return parameters, multiply_adds

    def _measure(self, cells: Sequence[Cell], which: int | None, operation: str, *, inner: bool) -> _Cost:
        """Count a network of pools that reads the inputs that `cells` read, with one other operation in one kind.

        Args:
            cells: Normal and reduction cell.
            which: In which of them the operation stands; None is in neither.
            operation: Its name.
            inner: Whether its edge begins at a node (stride 1) or at an input of the cell.
        """
        reads = tuple((len(cell.nodes), cell.concat, tuple(sorted(cell.live_sources))) for cell in cells)
        key = (reads, which, operation, inner)
        if key not in self._measured:
            made = [
                _pools(*read, Edge(operation, 2 if inner else read[2][0]) if index == which else None)
                for index, read in enumerate(reads)
            ]
            with torch.device("meta"):
                network = Network(Genotype(*made), stem="cifar", channels=self.channels, layers=self.layers, seed=None)
            built, dead = count_parameters(network)
            self._measured[key] = built - dead, count_multiply_adds(network, self.resolution)
        return self._measured[key]


def _pools(nodes: int, concat: tuple[int, ...], sources: Sequence[int], other: Edge | None) -> Cell:
    """Return a cell of pools, each node reading the one before, with `other` as a further edge of its node."""
    first = [Edge(_FREE, source) for source in sources]
    made = [first, *([Edge(_FREE, node + 1)] for node in range(1, nodes))]
    if other is not None:
        made[1 if other.source >= 2 else 0].append(other)
    return Cell(tuple(map(tuple, made)), concat)


class Bounds:
    """The bounds of one search.

    Args:
        max_parameters_m: Most live parameters, in millions; None is no bound.
        max_multiply_adds_m: Most live multiply-adds for one image, in millions; None is no bound.
        cost: The table for the candidates' size.
    """

    def __init__(self, max_parameters_m: float | None, max_multiply_adds_m: float | None, cost: CostTable) -> None:
        self.limits = (("parameters", max_parameters_m), ("multiply_adds", max_multiply_adds_m))
        self.cost = cost
        self._row: list[_Cost] = []

    def excess(self, genotype: Genotype) -> dict[str, int] | None:
        """Return the parameters and multiply-adds of a network beyond a bound, None of one within."""
        cost = self.cost(genotype)
        if all(limit is None or found <= limit * 1e6 for found, (_, limit) in zip(cost, self.limits, strict=True)):
            self._row.clear()
            return None
        self._row.append(cost)
        return {name: found for found, (name, _) in zip(cost, self.limits, strict=True)}

    def check_row(self) -> None:
        """Give up after too many proposals in a row beyond a bound.

        Raises:
            SearchError: Names the bounds, and the smallest network of the row in what it exceeds.
        """
        if len(self._row) < ROW:
            return
        told = []
        for index, (name, limit) in enumerate(self.limits):
            smallest = min(cost[index] for cost in self._row) / 1e6
            if limit is not None:
                told.append(f"max_{name}_m is {limit:g}, the smallest of them has {smallest:.4g}")
        raise SearchError(
            f"{len(self._row)} proposals in a row are too large: {'; '.join(told)}; raise it, or lower "
            "channels or layers, under another --study"
        )


def bounds_of(config: SearchConfig) -> Bounds | None:
    """Return a search's bounds, None where it has none."""
    if config.max_parameters_m is None and config.max_multiply_adds_m is None:
        return None
    cost = CostTable(config.channels, config.layers, config.resolution)
    return Bounds(config.max_parameters_m, config.max_multiply_adds_m, cost)
