"""Compare trained models: `compare` makes a `Comparison`, `report.write` makes it files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dermonas.comparison.candidates import Candidate, aligned
from dermonas.comparison.front import pareto
from dermonas.comparison.layouts import LAYOUTS, Layout, LayoutName
from dermonas.comparison.pairs import RESAMPLES_A_TEST, TESTED, Pair, pairs_of, tested
from dermonas.comparison.published import Printed, PublishedTable, mark, published
from dermonas.comparison.scores import Score, Scored, metrics_for, score
from dermonas.errors import ConfigError
from dermonas.metrics.inputs import check_share
from dermonas.metrics.intervals import GroupBootstrap

Cell = Score | Printed | float | int | str | None
Cost = Literal["parameters", "multiply_adds"]

_DAY = 86_400.0  # seconds


@dataclass(frozen=True)
class Split:
    """The test rows that all candidates answered, and how they were resampled.

    Attributes:
        dataset: Name.
        digest: Of its manifest.
        classes: Names.
        images: n.
        lesions: Groups.
        synthetic: Whether the images are phantoms.
        subset: Whether this is a part of the data set that the published figures are about.
        replicates: Bootstrap resamples of the lesions.
        level: Of the intervals.
    """

    dataset: str
    digest: str
    classes: tuple[str, ...]
    images: int
    lesions: int
    synthetic: bool
    subset: bool
    replicates: int
    level: float


@dataclass(frozen=True, eq=False)
class Row:
    """One model in the table.

    Attributes:
        mark: What figures call it: "1", "2", ... of ours, "a", "b", ... of published rows.
        name: Of the model.
        published: Whether it is a paper's row, which enters no statistic and no front.
        cells: By column; a column that does not apply is missing or None. All layouts' columns, not only the shown.
        note: What a reader must know, or "".
        candidate: What was compared; None of a published row.
        differs: How the data of a published row differ from ours, or "".
    """

    mark: str
    name: str
    published: bool
    cells: Mapping[str, Cell]
    note: str = ""
    candidate: Candidate | None = None
    differs: str = ""

    @property
    def label_fraction(self) -> float:
        """Share of the training labels used, in (0, 1]."""
        return 1.0 if self.candidate is None else self.candidate.label_fraction


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models beside each other.

    Attributes:
        layout: Columns to show.
        split: What they were compared on.
        rows: Ours, in the given order, then published ones in the printed order.
        tests: See `pairs`; `first` and `second` are places in `rows`.
        table: Where the published rows come from.
        notes: Sentences that belong under the table.
    """

    layout: Layout
    split: Split
    rows: tuple[Row, ...]
    tests: tuple[Pair, ...]
    table: PublishedTable
    notes: tuple[str, ...]

    @property
    def ours(self) -> tuple[Row, ...]:
        """Rows that were measured here."""
        return tuple(row for row in self.rows if not row.published)

    @property
    def published(self) -> tuple[Row, ...]:
        """Rows of the paper."""
        return tuple(row for row in self.rows if row.published)

    @property
    def peers(self) -> tuple[Row, ...]:
        """Our rows of the largest label fraction: those that cost and accuracy are compared among."""
        most = max(row.label_fraction for row in self.ours)
        return tuple(row for row in self.ours if row.label_fraction == most)

    def front(self, cost: Cost) -> tuple[Row, ...]:
        """Return the rows of `peers` that no other beats in cost and accuracy at once, cheapest first."""
        rows = self.peers
        return tuple(rows[place] for place in pareto([value(row, cost) for row in rows], [share(row) for row in rows]))


def value(row: Row, key: str) -> float:
    """Return a numeric cell; NaN where there is none."""
    cell = row.cells.get(key)
    return float(cell) if isinstance(cell, int | float) else float("nan")


def share(row: Row, key: str = "accuracy") -> float:
    """Return a score's mean, or what a paper prints; NaN where there is neither."""
    cell = row.cells.get(key)
    if isinstance(cell, Score):
        return cell.mean
    return cell.value if isinstance(cell, Printed) else float("nan")


def compare(
    candidates: Sequence[Candidate],
    layout: LayoutName,
    classes: Sequence[str],
    dataset: str,
    synthetic: bool,
    *,
    digest: str,
    subset: bool = False,
    reference: str | None = None,
    melanoma: str = "MEL",
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare trained models on one test split.

    Args:
        candidates: At least one; names may repeat, a run may not.
        layout: "isic", "cifar10" or "imagenet".
        classes: Names, in the order of the probabilities' columns.
        dataset: Its name.
        synthetic: Whether the images are phantoms.
        digest: Of the data set's manifest.
        subset: Whether the data set is a part of the one that the layout's published rows are about.
        reference: Name of the model that all others are tested against; None tests every network of cells against
            every timm model.
        melanoma: The class whose F1 is shown; no such class, no column.
        replicates: Resamples of the lesions, at least; raised to 200 a test, so that Holm's correction can resolve.
        level: Of the intervals, in (0, 1); tests are called resolved below 1 - level.
        seed: Of the resamples.

    Raises:
        ConfigError: An unknown layout or reference, or numbers out of range.
        DataError: See `candidates.aligned`.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r} is unknown: {', '.join(LAYOUTS)} exist")
    check_share(level, "level")
    compared = aligned(candidates, classes)
    pairs = pairs_of(compared, reference)
    first = compared[0].runs[0]
    bootstrap = GroupBootstrap(
        first.groups,
        len(first.images),
        replicates=max(replicates, RESAMPLES_A_TEST * len(TESTED) * len(pairs)),
        seed=seed,
    )
    scored = score(compared, metrics_for(classes, melanoma), bootstrap, level)
    split = Split(
        dataset=dataset,
        digest=digest,
        classes=tuple(classes),
        images=bootstrap.rows,
        lesions=bootstrap.groups,
        synthetic=synthetic,
        subset=subset,
        replicates=bootstrap.replicates,
        level=level,
    )
    table = published(layout)
    ours = tuple(_row(str(place + 1), *both) for place, both in enumerate(zip(compared, scored, strict=True)))
    theirs = tuple(
        Row(mark(place), row.name, True, row.cells, row.note, differs=_differs(split))
        for place, row in enumerate(table.rows)
    )
    return Comparison(
        layout=LAYOUTS[layout],
        split=split,
        rows=ours + theirs,
        tests=tested(compared, scored, pairs, bootstrap, level),
        table=table,
        notes=_notes(split, table, ours),
    )


def _row(called: str, candidate: Candidate, scored: Mapping[str, Scored]) -> Row:
    cells: dict[str, Cell] = {name: found.score for name, found in scored.items()}
    cells["error"] = scored["accuracy"].score.complement
    if "top5_accuracy" in scored:
        cells["top5_error"] = scored["top5_accuracy"].score.complement
    seconds = candidate.search_device_seconds
    cells |= {
        "parameters": candidate.parameters,
        "multiply_adds": candidate.multiply_adds,
        "latency_ms": candidate.latency_ms,
        "search_days": None if seconds is None else seconds / _DAY,
        "operations": candidate.operations,
        "strategy": candidate.strategy,
    }
    dead = candidate.dead_parameters
    note = f"{dead:,} of the parameters never influence the output" if dead else ""
    return Row(called, candidate.name, False, cells, note, candidate)


def _differs(split: Split) -> str:
    if split.synthetic:
        return "other data: ours are synthetic"
    return "other data: ours are a subset" if split.subset else ""


def _notes(split: Split, table: PublishedTable, ours: Sequence[Row]) -> tuple[str, ...]:
    about = f"Rows marked published are {table.table} of the paper, as printed ({table.caption})."
    if split.synthetic:
        about += " Ours are of synthetic phantom images: the two do not compare."
    elif split.subset:
        about += f" Ours are of a subset with {split.images:,} test images: the two do not compare."
    else:
        about += " Nobody ran them here."
    notes = [about + " They enter no interval, no test and no front."]
    undefined = max(cell.interval.undefined for row in ours for cell in row.cells.values() if isinstance(cell, Score))
    if undefined:
        notes.append(
            f"In up to {undefined:,} of {split.replicates:,} resamples a class had no lesion and a score no value; "
            "they are left out. Where that is more than half, no interval is given."
        )
    return tuple(notes)
