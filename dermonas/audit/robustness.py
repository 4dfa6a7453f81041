"""The robustness study: labels or none, a tenth or all of the training images, TPE or random search.

Source: CSNAS IV-C and Fig 3 (spec/csnas.md 7). The paper shows bars without figures or seeds; here each seed is a
point, and means have intervals over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import pandas as pd

from dermonas.data.samples import label_fraction
from dermonas.errors import SearchError
from dermonas.metrics.seeds import half_width

PUBLISHED = "CSNAS, CIFAR-10, published: test error 2.56 % for SL-100; of the other bars of Fig 3 no figure is given."
"""Source: spec/csnas.md 7."""

CONTRASTS = (
    ("TPE less random", "sampler", "tpe", "random"),
    ("contrastive less supervised", "objective", "contrastive", "supervised"),
    ("all images less a tenth", "share", 1.0, 0.1),
)
"""What is compared in pairs of equal seed: words, column, its value, the other value."""


def search_rows(
    labels: np.ndarray, groups: Sequence[str] | np.ndarray, share: float, seed: int, images: int | None = None
) -> np.ndarray:
    """Choose an arm's search set among the training rows: its share of each class, whole groups at a time.

    An arm with a smaller share sees a part of what an arm with a larger one sees, and arms of one share see the same.

    Args:
        labels: int64 (n,) class numbers, -1 where there is none; such rows are left out of all arms, so that those
            with labels and those without search on the same images.
        groups: (n,) names; rows of a group stay together.
        share: In (0, 1].
        seed: The search's seed.
        images: How many count as all; None is every labelled row.

    Returns:
        int64, sorted row numbers.
    """
    labelled = np.flatnonzero(labels >= 0)
    whole = 1.0 if images is None else min(1.0, images / max(len(labelled), 1))
    if not len(labelled):
        return labelled
    own = np.asarray(groups, dtype=str)[labelled]
    return labelled[label_fraction(labels[labelled], own, share * whole, seed)]


@dataclass(frozen=True)
class Outcome:
    """One search of the study, and its best genotype trained.

    Attributes:
        arm: Name of the arm.
        objective: The arm's.
        share: The arm's.
        sampler: "tpe" or "random".
        seed: Of the search; the training's follow from it.
        digest: Functional digest of the best genotype.
        trial: The trial that found it.
        score: Its score; of another scale in each objective.
        images: Images that the search saw, held-out ones included.
        epochs: A candidate's.
        distinct: Genotypes evaluated.
        duplicate: Proposals that were known.
        failed: Trials that failed.
        image_epochs: Images x epochs that were paid for, failed trials included.
        device_seconds: Of the search; on a CPU wall time, that of others included.
        cpu_seconds: Of the search's complete trials, all threads.
        parameters_m: Of the trained network, in millions.
        validation_error: 1 - accuracy, mean over training seeds; at the epoch that training chose by validation.
        test_error: Likewise, on test.
        test_error_sd: Over training seeds (n - 1); None of one.
        trainings: Training seeds.
        search_run: MLflow run.
        train_run: MLflow run.
        evaluate_run: MLflow run.
    """

    arm: str
    objective: str
    share: float
    sampler: str
    seed: int
    digest: str
    trial: int
    score: float
    images: int
    epochs: int
    distinct: int
    duplicate: int
    failed: int
    image_epochs: int
    device_seconds: float
    cpu_seconds: float
    parameters_m: float
    validation_error: float
    test_error: float
    test_error_sd: float | None
    trainings: int
    search_run: str
    train_run: str
    evaluate_run: str


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Attributes:
        value: The mean.
        half: Half the width of its 95 % interval by Student's t; NaN of fewer than two seeds.
        seeds: How many.
    """

    value: float
    half: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> Mean:
        """Return the mean of one value a seed."""
        found = np.asarray(values, dtype=np.float64)
        spread = float(np.std(found, ddof=1)) if len(found) > 1 else float("nan")
        return cls(float(found.mean()), float(half_width(spread, len(found))), len(found))


def frame_of(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Return one row an outcome, a column an attribute."""
    return pd.DataFrame([asdict(one) for one in outcomes], columns=[field.name for field in fields(Outcome)])


def check_budgets(outcomes: Sequence[Outcome]) -> None:
    """Hold the samplers to equal cost: trials x images x epochs in each arm and seed.

    Raises:
        SearchError: They differ; names the arm.
    """
    for (arm, seed), rows in frame_of(outcomes).groupby(["arm", "seed"], sort=False):
        paid = {(row.distinct, row.images, row.epochs) for row in rows.itertuples()}
        if len(paid) > 1:
            told = " and ".join(
                f"{trials} trials x {images} images x {epochs} epochs" for trials, images, epochs in paid
            )
            raise SearchError(f"{arm}, seed {seed}: samplers were given unequal budgets ({told}); start anew")


def summary(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Return one row an arm and sampler: means over seeds, each with half the width of its interval as `/half`."""
    rows = []
    for (arm, sampler), own in frame_of(outcomes).groupby(["arm", "sampler"], sort=False):
        row: dict[str, object] = {"arm": arm, "sampler": sampler, "seeds": len(own)}
        for name in ("images", "distinct", "image_epochs", "parameters_m"):
            row[name] = float(own[name].mean())
        for name in ("validation_error", "test_error", "device_seconds", "cpu_seconds"):
            mean = Mean.of(own[name].to_numpy())
            row |= {name: mean.value, f"{name}/half": mean.half}
        rows.append(row)
    return pd.DataFrame(rows)


def differences(outcomes: Sequence[Outcome], figure: str = "test_error") -> pd.DataFrame:
    """Return every difference of one thing alone, all else equal, paired by seed.

    Args:
        outcomes: Of the study.
        figure: Attribute that is compared.

    Returns:
        Columns what (words), within (what is equal), mean, half (of the 95 % interval), seeds.
    """
    frame, rows = frame_of(outcomes), []
    apart = ("objective", "share", "sampler")
    for words, column, one, other in CONTRASTS:
        equal = [name for name in apart if name != column]
        for key, own in frame.groupby(equal, sort=False):
            table = own.pivot(index="seed", columns=column, values=figure)
            if one not in table or other not in table:
                continue
            mean = Mean.of((table[one] - table[other]).dropna().to_numpy())
            within = ", ".join(_words(name, value) for name, value in zip(equal, key, strict=True))
            rows.append({"what": words, "within": within, "mean": mean.value, "half": mean.half, "seeds": mean.seeds})
    return pd.DataFrame(rows, columns=["what", "within", "mean", "half", "seeds"])


def _words(column: str, value: object) -> str:
    return f"{100 * float(str(value)):g} % of the images" if column == "share" else str(value)
