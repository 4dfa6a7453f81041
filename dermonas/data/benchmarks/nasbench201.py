"""NAS-Bench-201's accuracies, one entry a class of cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from dermonas.errors import ConfigError, DataError, GenotypeError
from dermonas.space.domain import Theta
from dermonas.space.nasbench201 import NasBench201Space, theta_of

DATASETS: dict[str, str] = {"cifar10": "c10", "cifar100": "c100", "imagenet16": "in16"}
"""What the columns of each data set begin with; imagenet16 is ImageNet16-120."""

_CELLS = 5**6


@dataclass(frozen=True)
class NasBench201Table:
    """Accuracies of the 6,466 classes on one data set.

    A class has the accuracies of its cell with the lowest index in the benchmark: what a search asks for twice it
    gets twice, though the benchmark trained the cells of a class apart.

    Attributes:
        dataset: "cifar10", "cifar100" or "imagenet16".
        rows: Row of each class by its digest.
        validation_accuracy: After 12 epochs, in [0, 1], float64, shape (classes,): what a search sees.
        test_accuracy: After 200 epochs, in [0, 1], float64, shape (classes,): what is reported.

    Source: Dong and Yang, NAS-Bench-201 (ICLR 2020); the protocol is NATS-Bench's (12 epochs to search, 200 to report).
    """

    space: ClassVar[NasBench201Space] = NasBench201Space()

    dataset: str
    rows: Mapping[str, int]
    validation_accuracy: np.ndarray
    test_accuracy: np.ndarray

    def validation(self, theta: Theta) -> float:
        """Return the 12-epoch validation accuracy of the class of `theta`, in [0, 1]."""
        return float(self.validation_accuracy[self.rows[self.space.digest(theta)]])

    def test(self, theta: Theta) -> float:
        """Return the 200-epoch test accuracy of the class of `theta`, in [0, 1]."""
        return float(self.test_accuracy[self.rows[self.space.digest(theta)]])


def read_nasbench201(path: Path, dataset: str) -> NasBench201Table:
    """Read the benchmark from a CSV, gzipped or not.

    Args:
        path: One row a cell with `index`, `arch`, and for each data set its `_val_e12` and `_test_e200` in percent.
        dataset: A key of DATASETS.

    Raises:
        ConfigError: If the data set is unknown.
        DataError: If the file cannot be read, lacks a column, is not all 15,625 cells once, or holds an accuracy out
            of range; names the row.
    """
    if dataset not in DATASETS:
        raise ConfigError(f"dataset is {dataset!r}: use one of {', '.join(DATASETS)}")
    import pandas as pd

    wanted = [f"{DATASETS[dataset]}_val_e12", f"{DATASETS[dataset]}_test_e200"]
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError, EOFError) as error:  # a cut gzip is an EOFError
        raise DataError(f"{path} cannot be read as CSV ({' '.join(str(error).split())}): fetch it again") from error
    missing = [column for column in ("index", "arch", *wanted) if column not in frame]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}: it is no NAS-Bench-201 table")
    frame = frame.sort_values("index", kind="stable")
    accuracies = frame[wanted].to_numpy(dtype=np.float64)
    outside = ~((accuracies >= 0) & (accuracies <= 100)).all(axis=1)
    if outside.any():
        index = frame["index"].to_numpy()[outside][0]
        raise DataError(
            f"{path}, index {index}: an accuracy is missing or not in 0 to 100 percent; fetch the file again"
        )

    space = NasBench201Table.space
    rows: dict[str, int] = {}
    seen: set[Theta] = set()
    first: list[int] = []
    for row, (index, text) in enumerate(zip(frame["index"], frame["arch"], strict=True)):
        try:
            theta = theta_of(str(text))
        except GenotypeError as error:
            raise DataError(f"{path}, index {index}: {error}") from error
        if theta in seen:
            raise DataError(f"{path}, index {index}: the cell {text} is there twice; keep one row each")
        seen.add(theta)
        digest = space.digest(theta)
        if digest not in rows:
            rows[digest] = len(rows)
            first.append(row)
    if len(seen) != _CELLS:
        raise DataError(f"{path} has {len(seen)} cells, the benchmark has {_CELLS}: fetch the file again")
    validation, test = (accuracies[first] / 100).T
    return NasBench201Table(dataset, rows, validation, test)
