"""The contract by MLflow's own road: every request format, every parameter, every kind of bad input."""

from __future__ import annotations

import base64
import json

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc.scoring_server import invocations

from dermonas.errors import ConfigError, ImageError
from dermonas.serving.digest import files_digest
from dermonas.serving.request import Parameters, images_of

ANSWER = {"label", "probability", "probabilities", "abstain", "reason", "cam", "model", "version", "digest", "notice"}


@pytest.fixture(scope="module")
def model(cells):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        patch.setattr("sys.path", list(__import__("sys").path))
        yield mlflow.pyfunc.load_model(str(cells.folder))


@pytest.fixture(scope="module")
def texts(images):
    return [base64.b64encode(image).decode() for image in images]


def ask(model, body):
    answer = invocations(json.dumps(body), "application/json", model, model.metadata.get_input_schema())
    assert answer.status == 200
    return json.loads(answer.response)["predictions"]


def test_every_format_gives_the_same_answers(model, cells, texts, images):
    wanted = cells.served.predict(images)
    rows = [[text] for text in texts]
    records = [{"image": text} for text in texts]
    for body in (
        {"dataframe_split": {"columns": ["image"], "data": rows}},
        {"dataframe_records": records},
        {"inputs": {"image": texts}},
        {"inputs": records},
        {"instances": records},
        {"dataframe_records": [{**one, "age": 50, "sex": "female", "site": "head/neck"} for one in records]},
    ):
        answers = ask(model, body)
        assert set(answers[0]) == ANSWER
        np.testing.assert_allclose([answer["probability"] for answer in answers], wanted.max(axis=1), atol=1e-5)
        assert [answer["label"] for answer in answers] == [cells.description.classes[k] for k in wanted.argmax(axis=1)]


def test_parameters_reach_the_model(model, texts):
    body = {"dataframe_records": [{"image": texts[0]}]}
    (plain,) = ask(model, body)
    (asked,) = ask(model, {**body, "params": {"top_k": 1, "cam": True, "tta": True}})
    assert (len(plain["probabilities"]), len(asked["probabilities"])) == (3, 1)
    assert plain["cam"] is None
    assert base64.b64decode(asked["cam"]).startswith(b"\x89PNG")
    assert plain["probability"] != asked["probability"]


def test_bytes_are_accepted_as_well(model, texts, images):
    mixed = pd.DataFrame({"image": [images[0], texts[0], "\n".join([texts[0][:40], texts[0][40:]])]})
    assert model.predict(mixed)["probability"].nunique() == 1


def test_an_answer_says_who_answered(model, cells, texts):
    (answer,) = ask(model, {"dataframe_records": [{"image": texts[0]}]})
    assert (answer["model"], answer["version"]) == ("dermonas-noise", "")
    assert answer["digest"] == files_digest(cells.folder)
    assert "not a medical device" in answer["notice"]
    assert "synthetic" in answer["notice"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["good", "no base64!"], "row 1: image is no base64 text"),
        (["good", None], "row 1: image is missing"),
        (["good", "good", ""], "row 2: image: zero-byte file"),
        (
            ["good", base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode()],
            "row 1: image: not an image",
        ),
        (["good", "half"], "row 1: image: truncated|row 1: image: corrupt"),
        ([7], "row 0: image must be base64 text"),
    ],
)
def test_bad_rows_are_named_in_one_line(model, texts, rows, message):
    content = base64.b64decode(texts[0])
    known = {"good": texts[0], "half": base64.b64encode(content[: len(content) // 2]).decode()}
    body = {"dataframe_records": [{"image": known.get(row, row) if isinstance(row, str) else row} for row in rows]}
    with pytest.raises(MlflowException) as caught:
        ask(model, body)
    assert caught.value.get_http_status_code() == 400
    own = caught.value.message.split("Error: ", 1)[1]
    assert "\n" not in own
    assert pd.Series([own]).str.contains(message).all(), own


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": [{"picture": "x"}]},
        {"dataframe_records": []},
        {"dataframe_records": [{"image": "x", "age": "old"}]},
        {"dataframe_records": [{"image": "x"}], "params": {"top_k": 0}},
        {"dataframe_records": [{"image": "x"}], "params": {"top_k": 1.5}},
        {"dataframe_records": [{"image": "x"}], "params": {"cam": "yes"}},
    ],
)
def test_bad_columns_and_parameters_are_bad_requests(model, body):
    with pytest.raises(MlflowException) as caught:
        ask(model, body)
    assert caught.value.get_http_status_code() == 400


def test_the_packages_card_example_and_requirements(cells, packed):
    meta = Model.load(str(packed.folder))
    assert meta.flavors["python_function"]["loader_module"] == "mlflow.pyfunc.loaders.code_model"
    assert not list(packed.folder.rglob("*.pkl"))
    assert [column.name for column in meta.signature.inputs.inputs] == ["image", "age", "sex", "site"]
    assert {column.name for column in meta.signature.outputs.inputs} == ANSWER
    assert {param.name: param.default for param in meta.signature.params} == {"top_k": 3, "cam": False, "tta": False}
    pinned = (packed.folder / "requirements.txt").read_text().split()
    assert [line.split("==")[0] for line in pinned] == ["mlflow", "numpy", "pandas", "pillow", "torch"]
    assert all("==" in line for line in pinned)
    assert (packed.folder / "artifacts" / "card.md").read_text() == "# A card\n"


def test_the_input_example_is_answered(model, cells):
    example = (cells.folder / "serving_input_example.json").read_text()
    answer = invocations(example, "application/json", model, model.metadata.get_input_schema())
    assert len(json.loads(answer.response)["predictions"]) == 1


def test_requests_are_checked_without_mlflow_too():
    assert images_of(["image", "age"], [b"a", base64.b64encode(b"b").decode()]) == [b"a", b"b"]
    with pytest.raises(ConfigError, match="column 'image' is missing"):
        images_of(["a"], None)
    with pytest.raises(ConfigError, match="a column is unknown"):
        images_of(["image", "x"], [])
    with pytest.raises(ImageError, match="row 0: image is missing"):
        images_of(["image"], [float("nan")])
    assert Parameters.of({"top_k": np.int64(2), "cam": np.bool_(True)}) == Parameters(2, True, False)
    for values, message in (
        ({"k": 1}, "parameter is unknown"),
        ({"top_k": True}, "whole number"),
        ({"tta": 1}, "true or"),
    ):
        with pytest.raises(ConfigError, match=message):
            Parameters.of(values)
