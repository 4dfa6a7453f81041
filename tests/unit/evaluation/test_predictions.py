"""The table of predictions: its columns, its file, and what is refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluated import ISIC, manifest_rows, of_rows, predictions, random_logits, temperature
from scipy.special import softmax

from dermonas.errors import DataError, StorageError
from dermonas.evaluation.predictions import Predictions


def test_columns_hold_what_they_say():
    rows = manifest_rows(120)
    rows.loc[3, "label"] = None
    logits = random_logits(manifest_rows(120))
    table = of_rows(rows, logits)
    frame = table.frame
    assert list(frame.columns) == [
        "image", "group", "split", "label", "predicted",
        *(f"logit_{name}" for name in ISIC), *(f"p_{name}" for name in ISIC),
        "sex", "age_approx", "anatom_site_general",
    ]  # fmt: skip
    assert frame["image"].tolist() == rows["path"].tolist()
    np.testing.assert_array_equal(table.logits(), logits)
    np.testing.assert_allclose(table.probabilities(), softmax(logits / 1.6, axis=1))
    assert frame["predicted"].tolist() == [ISIC[index] for index in logits.argmax(axis=1)]
    assert table.labels()[3] == -1
    assert frame.loc[3, "label"] is None
    assert table.groups() == rows["group"].tolist()


def test_metadata_columns_are_only_those_of_the_manifest():
    rows = manifest_rows(40).drop(columns=["age_approx", "sex"])
    frame = of_rows(rows, random_logits(rows)).frame
    assert list(frame.columns[-2:]) == ["p_SCC", "anatom_site_general"]


def test_the_file_gives_back_the_table(tmp_path):
    table = predictions(200, tta=True, notes=("classes mapped",), temperature=temperature(0.7, "fewer than 10"), seed=3)
    table.frame.loc[5, "label"] = None
    path = table.write(tmp_path / "deep" / "predictions.parquet")
    back = Predictions.read(path)
    pd.testing.assert_frame_equal(back.frame, table.frame)
    assert back.frame.loc[5, "label"] is None
    for field in dataclasses.fields(table):
        if field.name != "frame":
            assert getattr(back, field.name) == getattr(table, field.name)
    assert [item.name for item in path.parent.iterdir()] == ["predictions.parquet"]
    assert pd.read_parquet(path)["p_MEL"].tolist() == table.frame["p_MEL"].tolist()


def test_a_damaged_file_is_told(tmp_path):
    path = predictions(100).write(tmp_path / "predictions.parquet")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"PAR1" + bytes(200) + b"PAR1"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"predictions\.parquet is damaged"):
            Predictions.read(path)
    with pytest.raises(DataError, match=r"does not exist"):
        Predictions.read(tmp_path / "nowhere.parquet")


def test_a_foreign_or_edited_file_is_told(tmp_path):
    path = tmp_path / "predictions.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(DataError, match="not of predictions"):
        Predictions.read(path)
    table = predictions(100)
    table.frame.loc[0, ["p_MEL", "p_NV"]] = [0.5, 0.5]
    table.write(path)
    with pytest.raises(DataError, match="it was edited"):
        Predictions.read(path)


def _rewrite(path: Path, change) -> None:
    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[b"dermonas.predictions"])
    table = change(table, facts) or table
    pq.write_table(table.replace_schema_metadata({b"dermonas.predictions": json.dumps(facts).encode()}), path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table, facts: facts.update(format=99), "another format"),
        (lambda table, facts: facts.pop("temperature") and None, "facts that do not fit"),
        (lambda table, facts: facts.update(surplus=1), "facts that do not fit"),
        (lambda table, facts: table.drop_columns(["group", "p_NV"]), "no column group, p_NV"),
    ],
)
def test_a_file_with_other_contents_is_told(tmp_path, change, message):
    path = predictions(60).write(tmp_path / "predictions.parquet")
    _rewrite(path, change)
    with pytest.raises(DataError, match=message):
        Predictions.read(path)


def test_a_refused_write_leaves_the_old_file(tmp_path):
    path = predictions(60).write(tmp_path / "predictions.parquet")
    before = path.read_bytes()
    broken = predictions(60, seed=1)
    broken.frame["group"] = [object()] * 60  # no parquet type
    with pytest.raises(pa.ArrowException):
        broken.write(path)
    assert path.read_bytes() == before
    with pytest.raises(StorageError, match="cannot write"):
        predictions(60).write(path / "below_a_file.parquet")
    assert [item.name for item in tmp_path.iterdir()] == ["predictions.parquet"]


def test_a_split_holds_its_rows_only():
    table = predictions(90)
    chosen = table.split("validation")
    assert set(chosen.frame["split"]) == {"validation"}
    assert len(chosen) + len(table.split("test")) == 90
    mask = (table.frame["split"] == "validation").to_numpy()
    np.testing.assert_array_equal(chosen.logits(), table.logits()[mask])
    np.testing.assert_array_equal(table.rows([4, 2]).labels(), table.labels()[[4, 2]])
    with pytest.raises(DataError, match="no prediction of split train for phantom, the table holds test, validation"):
        table.split("train")


def test_what_does_not_fit_is_told():
    rows = manifest_rows(40)
    logits = random_logits(rows)
    with pytest.raises(DataError, match=r"does not know: AK, BKL, DF, VASC .*give a class mapping"):
        of_rows(rows, logits[:, :3], ("MEL", "NV", "BCC"))
    with pytest.raises(DataError, match="for 40 rows and 8 classes"):
        of_rows(rows, logits[:-1])
    logits[7, 2] = np.inf
    with pytest.raises(DataError, match="row 7"):
        of_rows(rows, logits)
