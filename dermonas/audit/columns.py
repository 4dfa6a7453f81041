"""All scores of all networks as columns, each turned so that the higher is the better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dermonas.audit.budgets import PAPER, Budget
from dermonas.audit.networks import Known
from dermonas.audit.scoring import COUNTS
from dermonas.errors import DataError
from dermonas.metrics.inputs import Floats

# Which way a count is read: what the searched spaces' known accuracies say of it is not used. More operations with
# weights, fewer without.
_FEWER = ("pools", "missing", "normal_pools", "reduce_pools")


@dataclass(frozen=True)
class Column:
    """One score of every network.

    Attributes:
        budget: Where it comes from; "counts" for what is counted.
        epoch: Epochs trained, 0 for what needs no training.
        score: Its name.
        values: (n,) the higher the better, NaN where a network has none.
        seconds: Mean seconds a candidate until then; 0 for counts.
        kind: "paper", "contrastive", "untrained", "size", "count" or "supervised".
    """

    budget: str
    epoch: int
    score: str
    values: Floats
    seconds: float
    kind: str

    @property
    def name(self) -> str:
        """What tables and figures call it."""
        if self.budget == COUNTS:
            return self.score
        return f"{self.budget}/{self.score}" + (f"@{self.epoch}" if self.epoch else "")


@dataclass(frozen=True)
class Table:
    """Networks, their quality, and all columns.

    Attributes:
        names: Of the networks.
        quality: (n,) accuracy in [0, 1].
        columns: By name.
    """

    names: tuple[str, ...]
    quality: Floats
    columns: Mapping[str, Column]

    def of_kind(self, *kinds: str) -> list[Column]:
        """Return the columns of some kinds, in order."""
        return [column for column in self.columns.values() if column.kind in kinds]

    @property
    def paper(self) -> Column:
        """The papers' score at the end of the papers' budget."""
        return [column for column in self.of_kind("paper") if column.score == "train_loss"][-1]


def table_of(networks: Sequence[Known], records: Iterable[Mapping[str, Any]], budgets: Sequence[Budget]) -> Table:
    """Gather the records of networks with known accuracy.

    Raises:
        DataError: A network has no accuracy, or no record at some budget.
    """
    rows = {(record["network"], record["budget"]): record for record in records}
    missing = [(one.name, budget) for one in networks for budget in _names(budgets) if (one.name, budget) not in rows]
    if missing:
        raise DataError(f"{len(missing)} scorings are missing, first network {missing[0][0]} at {missing[0][1]}")
    lacking = [one.name for one in networks if one.accuracy is None]
    if lacking:
        raise DataError(f"network {lacking[0]} has no accuracy")
    columns: list[Column] = []
    for budget in budgets:
        own = [rows[one.name, budget.name] for one in networks]
        columns += _untrained(budget, own) if budget.kind == "untrained" else _trained(budget, own)
    columns += _counts([rows[one.name, COUNTS] for one in networks])
    quality = np.array([one.accuracy for one in networks], dtype=np.float64)
    return Table(tuple(one.name for one in networks), quality, {column.name: column for column in columns})


def _names(budgets: Sequence[Budget]) -> list[str]:
    return [*(budget.name for budget in budgets), COUNTS]


def _trained(budget: Budget, records: Sequence[Mapping[str, Any]]) -> list[Column]:
    scored = [record for record in records if "failed" not in record]
    names = list(scored[0]["epochs"][0]) if scored else []
    found = []
    for name in names:
        for epoch in range(budget.epochs):
            if name == "relative_loss" and not epoch:
                continue  # one for every network
            values = [np.nan if "failed" in record else -record["epochs"][epoch][name] for record in records]
            seconds = float(np.mean([record["seconds"][epoch] for record in scored]))
            kind = PAPER if budget.name == PAPER and name == "train_loss" else budget.kind
            found.append(Column(budget.name, epoch + 1, name, np.array(values, dtype=np.float64), seconds, kind))
    return found


def _untrained(budget: Budget, records: Sequence[Mapping[str, Any]]) -> list[Column]:
    scored = [record for record in records if "failed" not in record]
    found = []
    for name in list(scored[0]["scores"]) if scored else []:
        if name == "parameters":
            continue  # counted below, at the same size for all
        values = np.array([-record["scores"][name] if "scores" in record else np.nan for record in records])
        values[~np.isfinite(values)] = np.nan
        seconds = float(np.mean([record["seconds"][name] for record in scored]))
        found.append(Column(budget.name, 0, name, values, seconds, "untrained"))
    return found


def _counts(records: Sequence[Mapping[str, Any]]) -> list[Column]:
    found = []
    for name in records[0]["scores"]:
        values = np.array([record["scores"][name] for record in records], dtype=np.float64)
        fewer = name in _FEWER
        kind = "size" if name in ("parameters", "multiply_adds") else "count"
        found.append(Column(COUNTS, 0, f"fewer {name}" if fewer else name, -values if fewer else values, 0.0, kind))
    return found
