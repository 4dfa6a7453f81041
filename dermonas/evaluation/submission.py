"""The submission file of the ISIC 2019 challenge, task "lesion diagnosis"."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

import pandas as pd

from dermonas.errors import DataError
from dermonas.evaluation.files import replacing
from dermonas.evaluation.predictions import Predictions

COLUMNS = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
"""The challenge's classes in its order. Source: challenge.isic-archive.com/landing/2019."""

UNKNOWN = "UNK"
"""The challenge's ninth column, of images of no known class; always 0 here, as no network of ours has it."""


def submission(predictions: Predictions) -> pd.DataFrame:
    """Return the submission: `image` (file name without its ending), a calibrated probability a class, UNK 0.

    Labels are not looked at. By the challenge's scorer a row whose largest value is shared is wrong; see
    `metrics.scores.balanced_accuracy(undecided=True)`.

    Raises:
        DataError: The classes are not ISIC 2019's, or two images have one name.
    """
    absent = [name for name in COLUMNS if name not in predictions.classes]
    foreign = [name for name in predictions.classes if name not in COLUMNS]
    if absent or foreign:
        what = ", ".join([*(f"no {name}" for name in absent), *(f"also {name}" for name in foreign)])
        raise DataError(f"an ISIC 2019 submission needs its eight classes, {predictions.model} has {what}")
    names = [PurePosixPath(str(image)).stem for image in predictions.frame["image"]]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"two images are called {twice[0]}: a submission tells images apart by their file names")
    columns = {name: predictions.frame[f"p_{name}"].to_numpy() for name in COLUMNS}
    return pd.DataFrame({"image": names, **columns, UNKNOWN: 0.0})


def write_submission(predictions: Predictions, path: Path) -> Path:
    """Write the submission as CSV, whole or not at all; numbers in full, so that rounding makes no ties.

    Raises:
        DataError: See `submission`.
        StorageError: The disk refuses.
    """
    table = submission(predictions)
    with replacing(path) as fresh:
        table.to_csv(fresh, index=False)
    return path
