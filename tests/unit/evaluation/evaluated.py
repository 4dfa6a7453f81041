"""Random predictions of an ISIC-like data set, and the rows of the challenge's golden score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dermonas.evaluation.predictions import Predictions, tabulate
from dermonas.metrics.temperature import Temperature
from dermonas.seeding import numpy_generator

ISIC = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")


def temperature(value: float = 1.6, warning: str = "") -> Temperature:
    return Temperature(value, 1.0, 0.9, 0.1, 0.05, by_fold=(1.5, 1.7), warning=warning)


def manifest_rows(n: int, classes: tuple[str, ...] = ISIC, seed: int = 0) -> pd.DataFrame:
    """Rows as of a manifest: two images a lesion, every third row validation, every class in each split."""
    rng = numpy_generator(seed, "manifest rows", n)
    lesion = np.arange(n) // 2
    labels = np.where(lesion < 3 * len(classes), lesion // 3 % len(classes), rng.integers(0, len(classes), n))
    return pd.DataFrame(
        {
            "path": [f"images/ISIC_{row:07d}.jpg" for row in range(n)],
            "label": [classes[label] for label in labels],
            "group": [f"lesion {number}" for number in lesion],
            "split": np.where(lesion % 3 == 1, "validation", "test"),
            "age_approx": np.where(rng.random(n) < 0.2, np.nan, rng.integers(2, 17, n) * 5.0),
            "anatom_site_general": rng.choice(np.array(["torso", "head/neck", None], dtype=object), n),
            "sex": rng.choice(np.array(["female", "male", None], dtype=object), n),
            "width": 8,
        }
    )


def random_logits(rows: pd.DataFrame, classes: tuple[str, ...] = ISIC, seed: int = 0, skill: float = 2.0) -> np.ndarray:
    logits = numpy_generator(seed, "logits").normal(size=(len(rows), len(classes))) * 1.5
    logits[np.arange(len(rows)), [classes.index(label) for label in rows["label"]]] += skill
    return logits


def predictions(n: int = 600, classes: tuple[str, ...] = ISIC, seed: int = 0, **changes: Any) -> Predictions:
    rows = manifest_rows(n, classes, seed)
    return of_rows(rows, random_logits(rows, classes, seed), classes, **changes)


def of_rows(rows: pd.DataFrame, logits: np.ndarray, classes: tuple[str, ...] = ISIC, **changes: Any) -> Predictions:
    facts = {"model": "DermoCSNAS_4", "dataset": "phantom", "dataset_digest": "ab" * 32, "synthetic": True}
    return tabulate(rows, logits, classes, **{"temperature": temperature(), **facts, **changes})


def challenge_predictions() -> Predictions:
    """160 rows from whole numbers alone, classes in the alphabet's order, so not in the challenge's."""
    classes = tuple(sorted(ISIC))
    i, k = np.arange(160)[:, None], np.arange(8)[None, :]
    labels = (np.arange(160) * 3 + np.arange(160) // 8) % 8
    noise = (i * 131 + k * 57 + i * k * 29 + i * i * 7) % 997
    logits = (noise + (labels[:, None] == k) * 498) / 200
    rows = pd.DataFrame(
        {
            "path": [f"test/deep/ISIC_{row:07d}{'_downsampled' * (row % 9 == 0)}.jpg" for row in range(160)],
            "label": [classes[label] for label in labels],
            "group": [str(row) for row in range(160)],
            "split": "test",
        }
    )
    return of_rows(rows, logits, classes)
