"""Read and check the official ISIC tables: one label a row, every id once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dermonas.data.sources.listing import ISIC_CLASSES, few
from dermonas.errors import LabelError
from dermonas.imaging.decode import EXTENSIONS

UNKNOWN = "UNK"
"""The official column for none of the classes: such an image is used as unlabelled."""

_DOWNSAMPLED = "_downsampled"


def plain_id(name: str) -> str:
    """Drop a file ending and the official `_downsampled` suffix: both spellings name one image."""
    text = name.strip()
    stem, dot, ending = text.rpartition(".")
    return (stem if f"{dot}{ending}".lower() in EXTENSIONS else text).removesuffix(_DOWNSAMPLED)


def read_table(path: Path) -> pd.DataFrame:
    """Read an ISIC table as text, with columns `id` (plain) and `line` (1-based line in the file) added.

    Raises:
        LabelError: unreadable, no `image` column, an empty id, or an id on two lines.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False)
    except (OSError, ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = " ".join(str(error).split())
        raise LabelError(f"{path.name} cannot be read as CSV ({reason}): restore the official table") from error
    frame.columns = [str(column).strip() for column in frame.columns]
    if "image" not in frame.columns:
        raise LabelError(f"{path.name} has no column 'image' (it has {few(frame.columns, 12)}): restore the header")
    frame["line"] = np.arange(2, len(frame) + 2)
    frame = frame[~(frame.drop(columns="line") == "").all(axis=1)].reset_index(drop=True)
    frame["id"] = [plain_id(name) for name in frame["image"]]
    empty = frame[frame["id"] == ""]
    if len(empty):
        raise LabelError(f"{path.name} has no image id in line {few(empty['line'])}: fill or remove the row")
    twice = frame[frame["id"].duplicated(keep=False)].sort_values(["id", "line"], kind="stable")
    if len(twice):
        rows = few(f"{name} (line {line})" for name, line in zip(twice["image"], twice["line"], strict=True))
        raise LabelError(f"{path.name} lists an image id more than once: {rows}; keep one row each")
    return frame


def read_labels(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a GroundTruth table.

    Args:
        path: CSV with `image`, one column a class (1.0 or 0.0) and perhaps `UNK`.

    Returns:
        A frame with columns id, image, line, label (class name, or None where UNK is set), and the
        class columns in ISIC order.

    Raises:
        LabelError: a column or value that is not known, two labels or none in a row; names lines and ids.
    """
    frame = read_table(path)
    columns = [column for column in frame.columns if column not in ("image", "id", "line")]
    strange = [
        column for column in columns if column not in (*ISIC_CLASSES, UNKNOWN, "score_weight", "validation_weight")
    ]
    if strange:
        known = ", ".join((*ISIC_CLASSES, UNKNOWN))
        raise LabelError(f"{path.name} has the unknown class column {few(strange)}: known are {known}")
    columns = [column for column in (*ISIC_CLASSES, UNKNOWN) if column in columns]
    if not columns:
        raise LabelError(f"{path.name} has no class column: expected {', '.join(ISIC_CLASSES)}")
    values = frame[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64).reshape(-1, len(columns))
    neither = (~np.isin(values, (0.0, 1.0))).any(axis=1)
    _refuse(path, frame, np.asarray(neither), "a value other than 0 and 1", "write 0.0 or 1.0")
    _refuse(path, frame, values.sum(axis=1) > 1, "two labels or more", "keep one")
    _refuse(path, frame, values.sum(axis=1) < 1, "no label", "set one class, or UNK")
    names = np.array(columns, dtype=object)[values.argmax(axis=1)] if len(values) else np.empty(0, dtype=object)
    labels = frame[["id", "image", "line"]].copy()
    labels["label"] = pd.Series([None if name == UNKNOWN else name for name in names], dtype=object)
    return labels, tuple(column for column in columns if column != UNKNOWN)


def _refuse(path: Path, frame: pd.DataFrame, faulty: np.ndarray, fault: str, mend: str) -> None:
    if faulty.any():
        rows = frame[faulty]
        where = few(f"{name} (line {line})" for name, line in zip(rows["image"], rows["line"], strict=True))
        raise LabelError(f"{path.name} has {fault} in a row: {where}; {mend}")
