"""What a report is made from, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dermonas.comparison.controller.distances import Similarity
from dermonas.comparison.controller.known import Known
from dermonas.comparison.controller.searches import Cell, Search, Standing
from dermonas.controller.language import Language, Thetas
from dermonas.controller.model import Controller

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUBJECT = "AngularLoss"
"""The loss whose locality the paper shows (Fig 1c); where it is not given, the first one stands for it."""


@dataclass(frozen=True, eq=False)
class Pretraining:
    """A pretrained controller.

    Attributes:
        run_id: Of its run.
        metric: The loss.
        seed: Of its run.
        controller: In evaluation mode.
        reports: Its history.
    """

    run_id: str
    metric: str
    seed: int
    controller: Controller
    reports: Sequence[Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class Searched:
    """A controller after a search.

    Attributes:
        arm: Of the search.
        metric: That it was pretrained with.
        controller: In evaluation mode.
    """

    arm: str
    metric: str
    controller: Controller


@dataclass(frozen=True, eq=False)
class Material:
    """What a report is made from.

    Attributes:
        domain: Name.
        place: What was searched, for titles.
        language: Of the domain.
        cells: (cells, positions), all of the domain, or a sample of ours.
        listed: Whether they are all, so that pairs are taken among them.
        known: The table, or None.
        pretrainings: In the order of the figures.
        searches: In the order of the tables, no arm twice.
        searched: Controllers after their search.
    """

    domain: str
    place: str
    language: Language
    cells: Thetas
    listed: bool
    known: Known | None
    pretrainings: Sequence[Pretraining] = ()
    searches: Sequence[Search] = ()
    searched: Sequence[Searched] = ()


@dataclass(frozen=True)
class ReportSettings:
    """How to report.

    Attributes:
        queries: At which arms are compared.
        references: Arms that the others are compared with.
        window: Queries of Fig 4's moving average.
        pairs: A distance, for embeddings (Fig 1c).
        performance_pairs: A distance, for performance (Fig 1b).
        random_pairs: For the histogram (Fig 1a).
        seed: Of pairs, resamples and layouts.
    """

    queries: Sequence[int] = (50, 100)
    references: Sequence[str] = ("evolution", "nao-NoMetricLoss")
    window: int = 128
    pairs: int = 200
    performance_pairs: int = 1000
    random_pairs: int = 10_000
    seed: int = 0


class Drawn(NamedTuple):
    """A figure, what stands above it, and its caption."""

    heading: str
    figure: Figure
    caption: str


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that is written.

    Attributes:
        material: From what.
        settings: How.
        figures: By file name.
        skipped: Why a figure or table is not there, by heading.
        rows: Table 1 by arm.
        standings: The comparison at numbers of queries.
        similarities: Of each pretrained controller.
        numbers: Figures of merit under the names of their metrics.
    """

    material: Material
    settings: ReportSettings
    figures: dict[str, Drawn] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    rows: dict[str, dict[str, Cell]] = field(default_factory=dict)
    standings: list[Standing] = field(default_factory=list)
    similarities: list[Similarity] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def subject(self) -> Similarity | None:
        """The controller whose locality is the report's: AngularLoss, else the first."""
        angular = [one for one in self.similarities if one.metric == SUBJECT]
        return next(iter([*angular, *self.similarities]), None)
