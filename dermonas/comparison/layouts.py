"""The tables' columns: what stands in which, and how its cells are to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LayoutName = Literal["isic", "cifar10", "imagenet"]
Unit = Literal["share", "percent", "count", "days", "milliseconds", "number", "text"]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: Of the rows' cells.
        heading: Above it; says the unit.
        unit: How its cells are written: "share" as .83, "percent" of a share as 87.9, "count" with M or G.
    """

    key: str
    heading: str
    unit: Unit


@dataclass(frozen=True)
class Layout:
    """One table.

    Attributes:
        name: As in a recipe.
        title: Above the table.
        columns: From left to right, behind the name.
    """

    name: LayoutName
    title: str
    columns: tuple[Column, ...]


_PARAMETERS = Column("parameters", "Parameters", "count")
_MULTIPLY_ADDS = Column("multiply_adds", "Multiply-adds", "count")
_ACCURACY = Column("accuracy", "Accuracy, %", "percent")
_BALANCED = Column("balanced_accuracy", "Balanced accuracy, %", "percent")
_DAYS = Column("search_days", "Search, device-days", "days")
_STRATEGY = Column("strategy", "Strategy", "text")

LAYOUTS: dict[str, Layout] = {
    "isic": Layout(
        "isic",
        "Size, cost and test scores",
        (
            _PARAMETERS,
            _MULTIPLY_ADDS,
            Column("latency_ms", "Latency, ms", "milliseconds"),
            _ACCURACY,
            _BALANCED,
            Column("melanoma_f1", "Melanoma F1", "share"),
        ),
    ),
    "cifar10": Layout(
        "cifar10",
        "Test error and cost of the search",
        (
            Column("error", "Test error, %", "percent"),
            _PARAMETERS,
            _DAYS,
            Column("operations", "Operations", "number"),
            _STRATEGY,
        ),
    ),
    "imagenet": Layout(
        "imagenet",
        "Test error, size and cost",
        (
            Column("error", "Top-1 error, %", "percent"),
            Column("top5_error", "Top-5 error, %", "percent"),
            _PARAMETERS,
            _MULTIPLY_ADDS,
            _DAYS,
            _STRATEGY,
        ),
    ),
}
"""By name. Source: CSNAS, Tables IV, I and II; balanced accuracy and latency are ours."""
