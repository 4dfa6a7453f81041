"""NAS-Bench-101's accuracies by graph hash: the official record file, and the published subset."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from dermonas.data.benchmarks.protobuf import fields
from dermonas.data.benchmarks.tfrecord import read_records
from dermonas.errors import DataError, GenotypeError
from dermonas.space.domain import Theta
from dermonas.space.modelspec import INPUT, OPERATIONS, OUTPUT, ModelSpec
from dermonas.space.nasbench101 import INVALID, NasBench101Space

_FINAL = 2  # evaluations of a training: 0 before it, 1 half way, 2 at its end
_OPERATION_OF = {-1: INPUT, -2: OUTPUT, **dict(enumerate(OPERATIONS))}
_PADDING = -3  # fills the subset's cells up to seven vertices


@dataclass(frozen=True)
class NasBench101Table:
    """Accuracies on CIFAR-10 by graph hash.

    Attributes:
        rows: Row of each graph by its hash.
        validation_accuracy: At the end of each repeat, in [0, 1], float64, shape (graphs, repeats).
        test_accuracy: The same on the test set; nan where the source has none.
        seconds: Training time, float64, shape (graphs, repeats).
        parameters: Trainable parameters, int64, shape (graphs,).

    Source: Ying et al., NAS-Bench-101 (ICML 2019); spec/nao.md 1.
    """

    space: ClassVar[NasBench101Space] = NasBench101Space()

    rows: Mapping[str, int]
    validation_accuracy: np.ndarray
    test_accuracy: np.ndarray
    seconds: np.ndarray
    parameters: np.ndarray

    @property
    def repeats(self) -> int:
        """Trainings of each graph: 3 in the official file, 1 in the subset."""
        return int(self.validation_accuracy.shape[1])

    def validation(self, theta: Theta, repeat: int = 0) -> float:
        """Return the validation accuracy of one repeat, in [0, 1]; 0 for a theta that is no valid cell.

        The benchmark draws the repeat at random at each query; which one to draw is the caller's, so that a cell asked
        for twice can answer the same.

        Raises:
            DataError: If the table lacks the graph.
        """
        row = self._row(theta)
        return 0.0 if row is None else float(self.validation_accuracy[row, repeat])

    def test(self, theta: Theta) -> float:
        """Return the mean test accuracy over the repeats, in [0, 1]; 0 for a theta that is no valid cell.

        Raises:
            DataError: If the table lacks the graph or its test accuracies.
        """
        row = self._row(theta)
        accuracy = 0.0 if row is None else float(self.test_accuracy[row].mean())
        if math.isnan(accuracy):
            raise DataError(
                "this NAS-Bench-101 table has no test accuracies: read the official nasbench_only108.tfrecord"
            )
        return accuracy

    def _row(self, theta: Theta) -> int | None:
        digest = self.space.digest(theta)
        if digest == INVALID:
            return None
        if digest not in self.rows:
            raise DataError(f"graph {digest} is not among the table's {len(self.rows)}: use a table that holds it")
        return self.rows[digest]


class Training(NamedTuple):
    """One training of one graph, as the official file has it.

    Attributes:
        digest: Graph hash.
        epochs: How many epochs were trained.
        spec: The cell.
        parameters: Trainable parameters.
        seconds: Training time.
        validation_accuracy: At the end, in [0, 1].
        test_accuracy: At the end, in [0, 1].
    """

    digest: str
    epochs: int
    spec: ModelSpec
    parameters: int
    seconds: float
    validation_accuracy: float
    test_accuracy: float


def read_trainings(path: Path) -> Iterator[Training]:
    """Yield every training of the official record file (nasbench_only108.tfrecord or nasbench_full.tfrecord).

    Raises:
        DataError: If the file or a record cannot be read; names the record's offset.
    """
    for offset, data in read_records(path):
        try:
            yield _training(data)
        except (ValueError, TypeError, KeyError, IndexError, GenotypeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{path}: the record at byte {offset} is no NAS-Bench-101 training ({reason})") from error


def _training(data: bytes) -> Training:
    digest, epochs, adjacency, operations, metrics = json.loads(data)
    size = math.isqrt(len(adjacency))
    if size * size != len(adjacency):
        raise ValueError(f"{len(adjacency)} matrix cells are no square")
    matrix = tuple(tuple(map(int, adjacency[row * size : (row + 1) * size])) for row in range(size))
    evaluations, parameters = [], 0
    for number, value in fields(base64.b64decode(metrics, validate=True)):
        if number == 1 and isinstance(value, bytes):
            evaluations.append(dict(fields(value)))
        elif number == 2 and isinstance(value, int):
            parameters = value
    final: Mapping[int, Any] = evaluations[_FINAL]
    seconds, validation, test = (float(final[number]) for number in (2, 4, 5))
    return Training(digest, epochs, ModelSpec(matrix, operations.split(",")), parameters, seconds, validation, test)


def read_nasbench101(path: Path, epochs: int = 108) -> NasBench101Table:
    """Read the official record file; a minute or two for all of it.

    Args:
        path: nasbench_only108.tfrecord or nasbench_full.tfrecord.
        epochs: Trainings of this length only.

    Raises:
        DataError: If a record is damaged (names its offset), or graphs differ in their number of repeats.
    """
    found: dict[str, list[tuple[float, float, float]]] = {}
    parameters: dict[str, int] = {}
    for training in read_trainings(path):
        if training.epochs == epochs:
            found.setdefault(training.digest, []).append(training[4:])
            parameters.setdefault(training.digest, training.parameters)
    if not found:
        raise DataError(f"{path} holds no training of {epochs} epochs: use the file or the epochs that it has")
    repeats = len(next(iter(found.values())))
    for digest, trainings in found.items():
        if len(trainings) != repeats:
            raise DataError(f"{path}: graph {digest} has {len(trainings)} repeats, the first {repeats}; fetch it again")
    seconds, validation, test = np.array(list(found.values()), dtype=np.float64).transpose(2, 0, 1)
    rows = {digest: row for row, digest in enumerate(found)}
    return NasBench101Table(rows, validation, test, seconds, np.array(list(parameters.values()), dtype=np.int64))


def read_subset(folder: Path, epochs: int = 108) -> NasBench101Table:
    """Read the published subset: nb101_30k_by_hash.csv.gz and nb101_1k.json, one validation accuracy a graph.

    Args:
        folder: Where the two files lie.
        epochs: 4, 12, 36 or 108.

    Raises:
        DataError: If a file cannot be read or lacks a column.
    """
    import pandas as pd

    wanted = [f"{epochs}_final_validation_accuracy", "final_training_time", "trainable_parameters"]
    try:
        frame = pd.concat(
            [pd.read_csv(folder / "nb101_30k_by_hash.csv.gz"), pd.read_json(folder / "nb101_1k.json")],
            ignore_index=True,
        ).drop_duplicates("key")
        accuracy, seconds, parameters = (frame[column].to_numpy() for column in wanted)
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"{folder} holds no NAS-Bench-101 subset ({' '.join(str(error).split())})") from error
    rows = {digest: row for row, digest in enumerate(frame["key"])}
    validation = accuracy.astype(np.float64)[:, None]
    return NasBench101Table(
        rows,
        validation,
        np.full_like(validation, np.nan),
        seconds.astype(np.float64)[:, None],
        parameters.astype(np.int64),
    )


def read_subset_cells(path: Path) -> list[tuple[str, ModelSpec]]:
    """Read the hash and the cell of each of the subset's graphs that come with an adjacency matrix.

    Operations are written -1 input, -2 output, 0 conv3x3, 1 conv1x1, 2 maxpool3x3 (found by the hashes: no other order
    reproduces them), and vertices after the output are padding (-3).

    Args:
        path: nb101_1k.json.

    Raises:
        DataError: If the file cannot be read or a cell is malformed; names its hash.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON ({' '.join(str(error).split())}): fetch it again") from error
    cells = []
    for entry in entries:
        try:
            labels = [label for label in entry["operations"] if label != _PADDING]
            matrix = tuple(tuple(row[: len(labels)]) for row in entry["adjacency"][: len(labels)])
            cells.append((entry["key"], ModelSpec(matrix, tuple(_OPERATION_OF[label] for label in labels))))
        except (KeyError, TypeError, GenotypeError) as error:
            raise DataError(f"{path}, cell {entry.get('key')}: malformed ({error}); fetch the file again") from error
    return cells
