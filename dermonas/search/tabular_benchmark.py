"""A published table as a search sees it: what a query answers, what is reported, and the best there is."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from dermonas.data.benchmarks.nasbench101 import NasBench101Table, read_nasbench101
from dermonas.data.benchmarks.nasbench201 import NasBench201Table, read_nasbench201
from dermonas.errors import ConfigError, DataError
from dermonas.seeding import numpy_generator
from dermonas.space.domain import Domain, Theta

_log = logging.getLogger(__name__)

DomainName = Literal["nasbench201", "nasbench101"]
Noise = Literal["draw", "first"]

GRAPHS = 423_624
"""Of NAS-Bench-101, all of which the official file holds."""

SOURCES: dict[str, str] = {
    "nasbench201": "nasbench201_tss.csv.gz (index, arch and the 12- and 200-epoch accuracies of 15,625 cells; the "
    "project's shared/data/nb201 has it, its README names the origin)",
    "nasbench101": "nasbench_only108.tfrecord (the official record file, 499 MB, from "
    "https://storage.googleapis.com/nasbench/nasbench_only108.tfrecord)",
}
"""The file of each domain, and where it comes from."""


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A table and how it is asked.

    A partial NAS-Bench-101 file is taken as it is: its space is still the whole one, and the search ends with one
    line at the first graph that the file lacks. A made-up score for such graphs would steer the search.

    Attributes:
        table: The accuracies.
        noise: NAS-Bench-101 only. "draw": a query answers one of the repeats, drawn by (seed, graph), so a graph
            answers alike whenever a seed's samplers ask; "first": the first repeat.
        path: The file, for messages.

    Source: spec/nao.md 1 and row 15 of section 7 (the benchmark draws anew at each query).
    """

    table: NasBench201Table | NasBench101Table
    noise: Noise
    path: Path

    @property
    def space(self) -> Domain:
        """The searched space."""
        return self.table.space

    def validation(self, theta: Theta, seed: int) -> float:
        """Return the accuracy in [0, 1] that a query of the search with this seed answers.

        Raises:
            DataError: If the table lacks the graph.
        """
        if isinstance(self.table, NasBench201Table):
            return self.table.validation(theta)
        repeat = 0
        if self.noise == "draw":
            rng = numpy_generator(seed, "repeat", self.space.digest(theta))
            repeat = int(rng.integers(self.table.repeats))
        try:
            return self.table.validation(theta, repeat)
        except DataError as error:
            raise DataError(f"{self.path}: {error} (the whole {SOURCES['nasbench101']})") from error

    def test(self, theta: Theta) -> float:
        """Return the accuracy in [0, 1] that is reported of a network.

        Raises:
            DataError: If the table lacks the graph or its test accuracies.
        """
        return self.table.test(theta)

    @cached_property
    def best_test(self) -> float:
        """The highest test accuracy in the table, in [0, 1]; of NAS-Bench-101 the mean over repeats."""
        test = self.table.test_accuracy
        return float((test if test.ndim == 1 else test.mean(axis=1)).max())

    @cached_property
    def best_validation(self) -> float:
        """The highest validation accuracy that a query can answer, in [0, 1]."""
        validation = self.table.validation_accuracy
        return float((validation if self.noise == "draw" or validation.ndim == 1 else validation[:, 0]).max())

    @cached_property
    def digest(self) -> str:
        """16 hex digits over the table's networks and accuracies, whatever file they came from."""
        digest = hashlib.sha256("\n".join(self.table.rows).encode())
        for accuracies in (self.table.validation_accuracy, self.table.test_accuracy):
            digest.update(accuracies.tobytes())
        return digest.hexdigest()[:16]


def read_benchmark(domain: DomainName, path: Path | None, dataset: str, noise: Noise) -> Benchmark:
    """Read a domain's table.

    Args:
        domain: Which.
        path: The file.
        dataset: Of NAS-Bench-201, see its reader; NAS-Bench-101 has cifar10 alone.
        noise: See `Benchmark`.

    Raises:
        ConfigError: If there is no file; says which is meant and where it comes from.
        DataError: If it cannot be read.
    """
    if path is None or not path.is_file():
        where = "null" if path is None else f"{path}, which is no file"
        raise ConfigError(f"table is {where}: give {SOURCES[domain]}")
    if domain == "nasbench201":
        return Benchmark(read_nasbench201(path, dataset), noise, path)
    table = read_nasbench101(path)
    if len(table.rows) < GRAPHS:
        _log.warning(
            "%s holds %d of %d graphs: a search ends at the first that it lacks", path, len(table.rows), GRAPHS
        )
    return Benchmark(table, noise, path)
