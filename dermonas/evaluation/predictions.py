"""The table of predictions: what evaluate writes and every later step reads in place of test images."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from dermonas.data.text import optional_text
from dermonas.errors import DataError
from dermonas.evaluation.files import replacing
from dermonas.metrics.counts import decide
from dermonas.metrics.inputs import Floats, Ints, check_matrix
from dermonas.metrics.temperature import Temperature, scaled

FORMAT = 1
"""Version of the file; a reader refuses another."""

METADATA = ("sex", "age_approx", "anatom_site_general")
"""Columns taken over from a manifest that has them, under ISIC's names; ages in years."""

_KEY = b"dermonas.predictions"  # of the facts in the parquet file's schema
_TEXT = ("image", "group", "split", "label", "predicted")
_MEND = "run evaluate again"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of images.

    Attributes:
        frame: One row an image: `image` (path as in the manifest), `group` (lesion), `split`, `label` (class name or
            None), `predicted` (class name), `logit_<class>` and `p_<class>` (softmax of logits / temperature) in the
            order of `classes`, float64, then those of `METADATA` that are known. Index 0..n-1.
        classes: Class names.
        temperature: Fitted on rows other than test.
        model: What tables call the model.
        dataset: Name of the data set.
        dataset_digest: Of its manifest.
        synthetic: Whether its images were generated.
        tta: Whether the logits are means over flips.
        notes: What a reader must know, such as what a class mapping left out.
    """

    frame: pd.DataFrame
    classes: tuple[str, ...]
    temperature: Temperature
    model: str
    dataset: str
    dataset_digest: str
    synthetic: bool = False
    tta: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    def rows(self, chosen: ArrayLike) -> Predictions:
        """Return some rows, by a mask (n,) or by numbers, in their order."""
        return dataclasses.replace(self, frame=self.frame.iloc[np.asarray(chosen)].reset_index(drop=True))

    def split(self, name: str) -> Predictions:
        """Return the rows of a split.

        Raises:
            DataError: There are none.
        """
        found = self.rows((self.frame["split"] == name).to_numpy())
        if not len(found):
            held = ", ".join(sorted({str(split) for split in self.frame["split"]})) or "no rows"
            raise DataError(f"no prediction of split {name} for {self.dataset}, the table holds {held}: {_MEND}")
        return found

    def labels(self) -> Ints:
        """Return class indices, int64 (n,); -1 where the label is unknown."""
        numbers = {name: index for index, name in enumerate(self.classes)}
        return np.array([numbers.get(label, -1) for label in self.frame["label"]], dtype=np.int64)

    def groups(self) -> list[str]:
        """Return each row's lesion, (n,)."""
        return [str(group) for group in self.frame["group"]]

    @cached_property
    def _matrices(self) -> tuple[Floats, Floats]:
        return (
            self.frame[[f"logit_{name}" for name in self.classes]].to_numpy(dtype=np.float64),
            self.frame[[f"p_{name}" for name in self.classes]].to_numpy(dtype=np.float64),
        )

    def logits(self) -> Floats:
        """Return float64 (n, classes)."""
        return self._matrices[0]

    def probabilities(self) -> Floats:
        """Return float64 (n, classes): softmax of logits / temperature, as stored."""
        return self._matrices[1]

    def write(self, path: Path) -> Path:
        """Write a parquet file, whole or not at all.

        Raises:
            StorageError: The disk refuses.
        """
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "frame"}
        content = {"format": FORMAT, **facts, "temperature": dataclasses.asdict(self.temperature)}
        table = pa.Table.from_pandas(self.frame, preserve_index=False)
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: json.dumps(content).encode()})
        with replacing(path) as fresh:
            pq.write_table(table, fresh, compression="zstd")
        return path

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read what `write` wrote.

        Raises:
            DataError: Missing, damaged, no predictions of ours, of another format, or edited.
        """
        try:
            table = pq.read_table(path)
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist: {_MEND}") from error
        except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
            raise DataError(f"{path} is damaged ({' '.join(str(error).split())[:200]}): {_MEND}") from error
        text = (table.schema.metadata or {}).get(_KEY)
        if text is None:
            raise DataError(f"{path} is a parquet file, but not of predictions: give a predictions.parquet of evaluate")
        try:
            content: dict[str, Any] = json.loads(text)
            if content.pop("format", None) != FORMAT:
                raise DataError(f"{path} is of another format than {FORMAT}: {_MEND}")
            facts: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in content.items()
            }
            given = facts.pop("temperature")
            fitted = Temperature(**{**given, "by_fold": tuple(given["by_fold"])})
            found = cls(frame=_canonical(table.to_pandas(), facts["classes"], path), temperature=fitted, **facts)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} holds facts that do not fit ({error}): {_MEND}") from error
        if len(found) and not np.allclose(found.probabilities(), scaled(found.logits(), fitted.value), atol=1e-9):
            raise DataError(f"{path}: probabilities are not those of its logits, it was edited: {_MEND}")
        return found


def tabulate(
    rows: pd.DataFrame,
    logits: ArrayLike,
    classes: Sequence[str],
    temperature: Temperature,
    *,
    model: str,
    dataset: str,
    dataset_digest: str,
    synthetic: bool = False,
    tta: bool = False,
    notes: Sequence[str] = (),
) -> Predictions:
    """Join rows of a manifest with a model's logits.

    Args:
        rows: (n) rows with the manifest's columns path, label, group, split, and any of `METADATA`.
        logits: (n, classes), in the same order.
        classes: Class names, in the order of the logits.
        temperature: Divides the logits.
        model: What tables call the model.
        dataset: Name of the data set.
        dataset_digest: Of its manifest.
        synthetic: Whether its images were generated.
        tta: Whether the logits are means over flips.
        notes: What a reader must know.

    Raises:
        DataError: Another number of logits, logits that are not finite, or a label that is none of the classes
            (an external test set needs a class mapping).
    """
    values = check_matrix(logits, "logits")
    names = tuple(classes)
    if values.shape != (len(rows), len(names)):
        raise DataError(f"logits {values.shape} for {len(rows)} rows and {len(names)} classes: are they of this model?")
    labels = optional_text(rows["label"]).tolist()
    unknown = sorted({str(label) for label in labels if label is not None} - set(names))
    if unknown:
        raise DataError(
            f"{dataset} has labels that {model} does not know: {', '.join(unknown)} (it knows {', '.join(names)}); "
            "give a class mapping"
        )
    probabilities = scaled(values, temperature.value)
    columns: dict[str, Any] = {
        "image": rows["path"].tolist(),
        "group": rows["group"].tolist(),
        "split": optional_text(rows["split"]).tolist(),
        "label": labels,
        "predicted": [names[index] for index in decide(probabilities)],
        **{f"logit_{name}": values[:, index] for index, name in enumerate(names)},
        **{f"p_{name}": probabilities[:, index] for index, name in enumerate(names)},
        **{name: rows[name].to_numpy() for name in METADATA if name in rows.columns},
    }
    return Predictions(
        frame=_canonical(pd.DataFrame(columns), names),
        classes=names,
        temperature=temperature,
        model=model,
        dataset=dataset,
        dataset_digest=dataset_digest,
        synthetic=synthetic,
        tta=tta,
        notes=tuple(notes),
    )


def _canonical(frame: pd.DataFrame, classes: Sequence[str], path: Path | None = None) -> pd.DataFrame:
    """Settle the column types, so that a frame is the same before and after a file."""
    wanted = [*_TEXT, *(f"{kind}_{name}" for kind in ("logit", "p") for name in classes)]
    absent = [name for name in wanted if name not in frame.columns]
    if absent:
        raise DataError(f"{path} has no column {', '.join(absent)}: {_MEND}")
    frame = frame.copy()
    for name in (*_TEXT, "sex", "anatom_site_general"):
        if name in frame.columns:
            frame[name] = optional_text(frame[name])
    if "age_approx" in frame.columns:
        frame["age_approx"] = pd.to_numeric(frame["age_approx"], errors="coerce").astype(np.float64)
    return frame
