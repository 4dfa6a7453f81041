"""The samplers on NAS-Bench-201: search on 12-epoch validation, report the 200-epoch test of the best.

    python benchmarks/nasbench201_samplers.py --table ../shared/data/nb201/nasbench201_tss.csv.gz
        [--dataset cifar10] [--seeds 500] [--queries 100 500] [--samplers random tpe evolution local] [--pool 10]
        [--choose] [--save runs.json]

A query is one class of cells. Every sampler starts from the seed's pool of random cells, so differences are paired.
Prints mean +- standard deviation over the seeds in percent, and each sampler's paired difference to random with a 95 %
interval (normal). --choose tries settings of evolution instead; choose on cifar100, report on cifar10.
One core: random, evolution and local take a tenth of a second a seed, the TPE seconds at 500 queries, for most of what
it proposes there has been evaluated.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dermonas.data.benchmarks.nasbench201 import DATASETS, NasBench201Table, read_nasbench201
from dermonas.search import samplers
from dermonas.search.samplers.base import DomainSampler
from dermonas.search.samplers.evolution import EvolutionSampler, EvolutionSettings
from dermonas.search.tabular import initial_pool, search_table

Make = Callable[[int], DomainSampler]

# Issue 5, measured on this very table by index, not class (their own initial draws, so not paired with ours).
YARDSTICKS = {
    ("random", 100): "93.73 +- 0.35",
    ("random", 500): "93.99 +- 0.23",
    ("evolution", 100): "about 94.24 +- 0.22",
    ("local", 100): "about 94.04",
}


def run(
    table: NasBench201Table, make: Make, seeds: int, queries: list[int], pool: int
) -> tuple[np.ndarray, np.ndarray]:
    """Search with every seed.

    Returns:
        Test accuracy in percent of the best by validation, shape (seeds, queries); duplicates, shape (seeds,).
    """
    test, duplicates = [], []
    for seed in range(seeds):
        initial = initial_pool(table.space, seed, pool)
        records = search_table(make(seed), lambda theta: 1 - table.validation(theta), max(queries), initial)
        asked = [record for record in records if not record.duplicate]
        # The first of equals, as a search would keep it.
        test.append([100 * table.test(min(asked[:q], key=lambda record: record.value).theta) for q in queries])
        duplicates.append(len(records) - len(asked))
    return np.array(test), np.array(duplicates)


def choices(table: NasBench201Table) -> dict[str, Make]:
    """Return evolutions by their settings."""

    def make(settings: EvolutionSettings) -> Make:
        return lambda seed: EvolutionSampler(table.space, seed, settings)

    return {f"population {p:>2} tournament {t:>2}": make(EvolutionSettings(p, t))
            for p in (10, 20, 30, 50) for t in (3, 5, 10, 20) if t <= p}  # fmt: skip


def named(table: NasBench201Table, names: list[str]) -> dict[str, Make]:
    """Return samplers by name, with the settings they have in a search."""

    def make(name: str) -> Make:
        return lambda seed: samplers.make(name, table.space, seed)

    return {name: make(name) for name in names}


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--dataset", choices=DATASETS, default="cifar10")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--queries", type=int, nargs="+", default=[100, 500])
    parser.add_argument(
        "--samplers", nargs="+", choices=samplers.NAMES, default=["random", "tpe", "evolution", "local"]
    )
    parser.add_argument("--pool", type=int, default=10)
    parser.add_argument("--choose", action="store_true", help="try settings of evolution")
    parser.add_argument("--save", type=Path, help="write every run's accuracies as JSON")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # a stall is a warning, and the TPE stalls often here
    table = read_nasbench201(options.table, options.dataset)
    best = 100 * table.test_accuracy[table.validation_accuracy.argmax()]
    print(f"{options.dataset}: {options.seeds} seeds, pool {options.pool}; the best by validation has {best:.2f}")
    makes = choices(table) if options.choose else named(table, options.samplers)
    found: dict[str, np.ndarray] = {}
    for name, make in makes.items():
        start = time.perf_counter()
        found[name], duplicates = run(table, make, options.seeds, options.queries, options.pool)
        cost = f"{duplicates.mean():.0f} duplicates, {(time.perf_counter() - start) / options.seeds:.2f} s a seed"
        print(f"{name:<28} ({cost})", flush=True)
        for column, queries in enumerate(options.queries):
            accuracy = found[name][:, column]
            line = f"  {queries:>4} queries {accuracy.mean():.3f} +- {accuracy.std(ddof=1):.3f}"
            if name != "random" and "random" in found:
                gain = accuracy - found["random"][:, column]
                half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
                line += f"   minus random {gain.mean():+.3f} [{gain.mean() - half:+.3f}, {gain.mean() + half:+.3f}]"
            if options.dataset == "cifar10" and (name, queries) in YARDSTICKS:
                line += f"   yardstick {YARDSTICKS[name, queries]}"
            print(line, flush=True)
    if options.save is not None:
        content = {"dataset": options.dataset, "queries": options.queries, "pool": options.pool,
                   "test": {name: accuracies.tolist() for name, accuracies in found.items()}}  # fmt: skip
        options.save.write_text(json.dumps(content))


if __name__ == "__main__":
    main()
