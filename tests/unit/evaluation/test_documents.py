"""An evaluation as files."""

import csv
import json
import math

import numpy as np
import pytest
from evaluated import ISIC, manifest_rows, of_rows, predictions, random_logits

from dermonas.errors import StorageError
from dermonas.evaluation.documents import SYNTHETIC, write_documents
from dermonas.evaluation.evaluate import Evaluation, evaluate


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """One without images of DF, so that some figures do not exist."""
    rows = manifest_rows(400)
    logits = random_logits(rows)
    kept = np.flatnonzero(rows["label"] != "DF")
    logits[kept, ISIC.index("DF")] -= 50
    return evaluate(of_rows(rows.iloc[kept].reset_index(drop=True), logits[kept]), resamples=50)


def test_json_holds_every_figure_and_no_nan(tmp_path, evaluation):
    paths = write_documents(evaluation, tmp_path / "out")
    assert [path.name for path in paths] == ["report.json", "report.txt", "report.csv", "subgroups.csv"]

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    content = json.loads(paths[0].read_text(), parse_constant=refuse)
    assert content["headline"]["accuracy"]["estimate"] == evaluation.headline["accuracy"].estimate
    assert content["auroc"]["DF"] is None
    assert content["confusion"] == evaluation.confusion.tolist()
    assert content["temperature"]["value"] == 1.6
    assert content["reliability"]["before"]["ece"] == evaluation.before.ece
    assert content["synthetic"] is True
    assert content["images"] == len(evaluation.predictions)


def test_csv_is_table_vs_layout(tmp_path, evaluation):
    write_documents(evaluation, tmp_path)
    with (tmp_path / "report.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["Class", "Precision", "Recall", "F1-score", "Support"]
    assert [row[0] for row in rows] == [*ISIC, "Macro average", "Weighted average"]
    for row, want in zip(rows, evaluation.report.rows, strict=True):
        for cell, value in zip(row[1:], (want.precision, want.recall, want.f1, want.support), strict=True):
            assert (cell == "") if math.isnan(value) else float(cell) == pytest.approx(value, abs=5e-5)
    assert rows[ISIC.index("DF")] == ["DF", "", "", "", "0"]


def test_text_is_for_a_person(tmp_path, evaluation):
    write_documents(evaluation, tmp_path)
    text = (tmp_path / "report.txt").read_text()
    assert SYNTHETIC in text
    assert "WARNING: no image of DF in test" in text
    interval = evaluation.headline["balanced_accuracy"]
    line = next(line for line in text.splitlines() if line.split()[:1] == ["balanced_accuracy"])
    assert line.split(maxsplit=2)[1:] == [f"{interval.estimate:.3f}", f"[{interval.lo:.3f}, {interval.hi:.3f}]"]
    assert "nan" not in text
    assert max(map(len, text.splitlines())) < 200


def test_subgroups_are_one_line_each(tmp_path, evaluation):
    write_documents(evaluation, tmp_path)
    with (tmp_path / "subgroups.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(evaluation.subgroups)
    for row, want in zip(rows, evaluation.subgroups, strict=True):
        assert (row["column"], row["value"], int(row["images"])) == (want.column, want.value, want.rows)
        assert row["withheld"] == ("yes" if want.withheld else "no")
        assert (row["accuracy"] == "") == want.withheld
    withheld = [row for row in evaluation.subgroups if row.withheld]
    assert ("withheld: too few groups" in (tmp_path / "report.txt").read_text()) == bool(withheld)


def test_without_metadata_there_is_no_subgroup_file(tmp_path):
    rows = manifest_rows(100).drop(columns=["sex", "age_approx", "anatom_site_general"])
    made = evaluate(of_rows(rows, random_logits(rows), synthetic=False), resamples=10)
    paths = write_documents(made, tmp_path)
    assert "subgroups.csv" not in [path.name for path in paths]
    assert "ynthetic" not in (tmp_path / "report.txt").read_text()


def test_a_refused_write_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*report\.json"):
        write_documents(evaluate(predictions(60), resamples=5), tmp_path / "file")
