"""The ISIC 2019 submission, scored as the challenge scores it."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluated import ISIC, challenge_predictions, manifest_rows, of_rows, predictions, random_logits

from dermonas.errors import DataError
from dermonas.evaluation.evaluate import evaluate
from dermonas.evaluation.submission import submission, write_submission
from dermonas.metrics import scores

# isic-challenge-scoring 5.6.0 on the file that `write_submission(challenge_predictions())` wrote, in an environment
# of its own with pandas 2.3.3 (it breaks on pandas 3): ClassificationScore.from_file with a ground truth of the same
# images and one more of UNK, predicted as MEL, without which it stops at the empty class: 0.6 over nine classes, of
# which UNK has recall 0. metrics.balanced_multiclass_accuracy without that image gives 0.675, metrics.auc over the
# eight classes 0.9255803571428571.
CHALLENGE, CHALLENGE_AREA = 0.6 * 9 / 8, 0.9255803571428571


def test_the_score_is_the_challenges(tmp_path):
    path = write_submission(challenge_predictions(), tmp_path / "deep" / "submission.csv")
    table = pd.read_csv(path)
    assert list(table.columns) == ["image", *ISIC, "UNK"]
    truth = dict(
        zip(_names(challenge_predictions().frame["image"]), challenge_predictions().frame["label"], strict=True)
    )
    labels = [ISIC.index(truth[name]) for name in table["image"]]
    read = table[list(ISIC)].to_numpy()
    assert scores.balanced_accuracy(labels, read, undecided=True) == pytest.approx(CHALLENGE, abs=1e-12)
    assert scores.macro_auroc(labels, read).value == pytest.approx(CHALLENGE_AREA, abs=1e-12)
    got = evaluate(challenge_predictions(), resamples=10)
    assert got.headline["balanced_accuracy"].estimate == pytest.approx(CHALLENGE, abs=1e-12)


def _names(images: pd.Series) -> list[str]:
    return [Path(image).stem for image in images]


def test_the_file_holds_names_and_calibrated_probabilities_in_full(tmp_path):
    table = predictions(60)
    with write_submission(table, tmp_path / "submission.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [row["image"] for row in read] == [f"ISIC_{row:07d}" for row in range(60)]
    written = [[float(row[name]) for name in table.classes] for row in read]
    np.testing.assert_array_equal(written, table.probabilities())
    assert {float(row["UNK"]) for row in read} == {0.0}
    assert "ISIC_0000009_downsampled" in submission(challenge_predictions())["image"].tolist()


def test_labels_are_not_needed_and_do_not_matter():
    rows = manifest_rows(60)
    logits = random_logits(rows)
    pd.testing.assert_frame_equal(
        submission(of_rows(rows, logits)), submission(of_rows(rows.assign(label=None), logits))
    )


def test_other_classes_and_equal_names_are_told():
    with pytest.raises(DataError, match="no SCC, also AKIEC"):
        submission(predictions(60, (*ISIC[:7], "AKIEC")))
    rows = manifest_rows(60)
    rows.loc[7, "path"] = "elsewhere/ISIC_0000003.png"
    with pytest.raises(DataError, match="two images are called ISIC_0000003"):
        submission(of_rows(rows, random_logits(rows)))
