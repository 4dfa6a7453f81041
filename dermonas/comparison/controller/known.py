"""Networks whose quality a published table knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermonas.controller.language import Thetas
from dermonas.data.benchmarks.nasbench101 import NasBench101Table, read_nasbench101, read_subset
from dermonas.data.benchmarks.nasbench201 import NasBench201Table, read_nasbench201
from dermonas.errors import ConfigError, DataError
from dermonas.space.modelspec import MAX_VERTICES
from dermonas.space.nasbench101_graphs import every_graph

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Known:
    """A table's networks.

    Attributes:
        cells: (networks, positions), a theta each.
        quality: (networks,) accuracy in [0, 1]; test where the table has it, else validation.
        measure: "test accuracy" or "validation accuracy": what `quality` is.
        source: Names the table for a reader.
        test: (networks,) test accuracies, or None.
        by_validation: Test accuracy of the network that is best by validation, in [0, 1], or None.
    """

    cells: Thetas
    quality: Floats
    measure: str
    source: str
    test: Floats | None
    by_validation: float | None

    @property
    def best(self) -> float | None:
        """The highest test accuracy, in [0, 1]."""
        return None if self.test is None else float(self.test.max())

    def rank(self, accuracy: float) -> int | None:
        """Return the place of a test accuracy among the networks', 1 the best; equal ones share the better place."""
        return None if self.test is None else 1 + int((self.test > accuracy + 1e-9).sum())


def read_known(domain: str, path: Path, dataset: str, vertices: int = MAX_VERTICES) -> Known:
    """Read a table for a domain.

    Args:
        domain: "nasbench201" or "nasbench101".
        path: nasbench201_tss.csv.gz; or nasbench_only108.tfrecord, or the folder of the published subset.
        dataset: Of NAS-Bench-201.
        vertices: Of the largest graphs of NAS-Bench-101 that are looked for in the table.

    Raises:
        ConfigError: A domain without tables, or an unknown data set.
        DataError: The file cannot be read, or holds no graph of the space.
    """
    if domain == "nasbench201":
        return of_nasbench201(read_nasbench201(path, dataset))
    if domain != "nasbench101":
        raise ConfigError(f"table: {domain} has none; leave it out")
    table = read_subset(path) if path.is_dir() else read_nasbench101(path)
    return of_nasbench101(table, every_graph(vertices).astype(np.uint8))


def of_nasbench201(table: NasBench201Table) -> Known:
    """Return the 6,466 classes with their 200-epoch test accuracies."""
    cells = table.space.representatives()
    rows = [table.rows[table.space.digest(theta)] for theta in cells]
    validation, test = table.validation_accuracy[rows], table.test_accuracy[rows]
    source = f"NAS-Bench-201, {table.dataset}"
    return Known(np.array(cells, np.uint8), test, "test accuracy", source, test, float(test[validation.argmax()]))


def of_nasbench101(table: NasBench101Table, graphs: Thetas) -> Known:
    """Join a table to graphs by their hash; a minute and a half for all 423,624.

    Raises:
        DataError: If none of the graphs is in the table.
    """
    space = table.space
    rows = np.array([table.rows.get(space.spec(tuple(theta)).digest, -1) for theta in graphs.tolist()])
    cells, rows = graphs[rows >= 0], rows[rows >= 0]
    if not len(rows):
        raise DataError(f"none of {len(graphs):,} graphs is among the table's {len(table.rows):,}: it is another table")
    validation, test = table.validation_accuracy[rows].mean(axis=1), table.test_accuracy[rows].mean(axis=1)
    source = f"NAS-Bench-101, {len(rows):,} graphs of {len(table.rows):,} in the table"
    if np.isnan(test).any():
        return Known(cells, validation, "validation accuracy", source, None, None)
    return Known(cells, test, "test accuracy", source, test, float(test[validation.argmax()]))
