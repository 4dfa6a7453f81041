"""Networks whose accuracy is known, or will be by training: what a score is audited on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermonas.data.benchmarks.nasbench201 import DATASETS, read_nasbench201
from dermonas.errors import ConfigError, DataError, GenotypeError
from dermonas.objective.candidate import Architecture
from dermonas.seeding import numpy_generator
from dermonas.space.darts import DartsSpace
from dermonas.space.genotype import Genotype
from dermonas.space.nasbench201 import architecture as written

_ACCURACY = ("accuracy", "final_test_accuracy")


@dataclass(frozen=True)
class Known:
    """One network of an audit.

    Attributes:
        name: Its place in the list and digest, or its architecture string; stands for the architecture.
        architecture: What is built.
        accuracy: In [0, 1]; None while it was not trained.
    """

    name: str
    architecture: Architecture
    accuracy: float | None = None


def listed(path: Path, dataset: str, count: int, seed: int) -> list[Known]:
    """Read networks with known accuracy.

    Args:
        path: A JSON list of genotypes (`normal`, `reduce` and either `concat` or `normal_concat` and `reduce_concat`,
            with `accuracy` or `final_test_accuracy`, in percent or as a share), or NAS-Bench-201's table as CSV.
        dataset: Of the accuracies, for NAS-Bench-201: cifar10, cifar100 or imagenet16 (after 200 epochs, test).
        count: How many, drawn by seed; 0 for all.
        seed: Of the draw.

    Raises:
        ConfigError: More than there are, or an unknown data set.
        DataError: A file that cannot be read; names the row.
    """
    found = _of_table(path, dataset) if ".csv" in path.suffixes else _of_list(path)
    if count > len(found):
        raise ConfigError(f"networks is {count}, but {path} has {len(found)}: ask for fewer, or 0 for all")
    if not count or count == len(found):
        return found
    drawn = numpy_generator(seed, "audited networks").choice(len(found), count, replace=False)
    return [found[place] for place in sorted(drawn.tolist())]


def sampled(space: DartsSpace, count: int, seed: int) -> list[Known]:
    """Draw functionally different genotypes of the searched space; their accuracy is not known.

    Raises:
        ConfigError: The space does not seem to have so many.
    """
    rng = numpy_generator(seed, "audited networks")
    found: dict[str, Known] = {}
    for _ in range(100 * count):
        genotype = space.genotype(space.sample(rng))
        found.setdefault(genotype.digest, Known(genotype.digest, genotype))
        if len(found) == count:
            return list(found.values())
    raise ConfigError(f"{100 * count} draws gave {len(found)} different networks: ask for fewer than {count}")


def _of_list(path: Path) -> list[Known]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a JSON list of networks ({' '.join(str(error).split())})") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, Mapping) for row in rows):
        raise DataError(f"{path}: not a list of networks, each an object with normal, reduce and accuracy")
    found = []
    for place, row in enumerate(rows):
        try:
            genotype = Genotype.from_dict(_with_concats(row))
        except GenotypeError as error:
            raise DataError(f"{path}: network {place}: {error}") from error
        found.append(Known(f"{place:03d}-{genotype.digest[:8]}", genotype, _accuracy(row, f"{path}: network {place}")))
    return found


def _with_concats(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give both cells the list's one concat where they have none of their own."""
    shared = {f"{cell}_concat": row["concat"] for cell in ("normal", "reduce") if "concat" in row}
    return {**shared, **row}


def _accuracy(row: Mapping[str, Any], where: str) -> float:
    for key in _ACCURACY:
        value = row.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            share = value / 100 if value > 1 else float(value)
            if math.isfinite(share) and 0 <= share <= 1:
                return share
            raise DataError(f"{where}: {key} {value} lies outside 0 to 100 (percent) or 0 to 1")
    raise DataError(f"{where}: no {' or '.join(_ACCURACY)}; an audit needs the accuracy of every listed network")


def _of_table(path: Path, dataset: str) -> list[Known]:
    if dataset not in DATASETS:
        raise ConfigError(f"known_dataset is {dataset!r}, must be one of {', '.join(DATASETS)}")
    table = read_nasbench201(path, dataset)
    return [Known(written(theta), theta, table.test(theta)) for theta in table.space.representatives()]
