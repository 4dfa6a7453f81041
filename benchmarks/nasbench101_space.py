"""NAS-Bench-101's whole space from the rules: how many graphs, how many hashes, and which of a table join.

    python benchmarks/nasbench101_space.py [--subset ../shared/data/nb101_subset] [--tfrecord nasbench_only108.tfrecord]

Listing the graphs takes a second, hashing them about a minute on one core. Prints counts by size, the number of
distinct hashes, and for a table how many of its hashes are among them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from dermonas.data.benchmarks.nasbench101 import read_nasbench101, read_subset, read_subset_cells
from dermonas.space.modelspec import LABELS, MAX_VERTICES, graph_hash
from dermonas.space.nasbench101 import CELLS
from dermonas.space.nasbench101_graphs import every_graph

PUBLISHED = 423_624


def hashes(thetas: np.ndarray) -> list[str]:
    """Return the graph hash of each theta of `every_graph`."""
    found = []
    for bits in thetas.tolist():
        matrix = [[0] * MAX_VERTICES for _ in range(MAX_VERTICES)]
        for (row, column), cell in zip(CELLS, bits[: len(CELLS)], strict=True):
            matrix[row][column] = cell
        live = [0, *(v for v in range(1, MAX_VERTICES - 1) if any(matrix[v])), MAX_VERTICES - 1]
        labels = [LABELS["input"], *bits[len(CELLS) : len(CELLS) + len(live) - 2], LABELS["output"]]
        found.append(graph_hash([[matrix[u][w] for w in live] for u in live], labels))
    return found


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--subset", type=Path)
    parser.add_argument("--tfrecord", type=Path)
    options = parser.parse_args()
    start = time.perf_counter()
    for size in range(2, MAX_VERTICES + 1):
        print(f"up to {size} vertices: {len(every_graph(size)):>7,} graphs")
    thetas = every_graph()
    print(f"listed in {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    known = set(hashes(thetas))
    print(f"{len(known):,} distinct hashes, published {PUBLISHED:,}; hashed in {time.perf_counter() - start:.0f} s")
    if options.subset is not None:
        table = read_subset(options.subset)
        cells = read_subset_cells(options.subset / "nb101_1k.json")
        equal = sum(spec.valid and spec.digest == key for key, spec in cells)
        print(f"subset: {len(known & table.rows.keys()):,} of {len(table.rows):,} hashes are in the space")
        print(f"subset cells: {equal:,} of {len(cells):,} have the hash of their matrix and operations")
    if options.tfrecord is not None:
        official = read_nasbench101(options.tfrecord)
        print(f"tfrecord: {len(known & official.rows.keys()):,} of {len(official.rows):,} hashes are in the space")


if __name__ == "__main__":
    main()
