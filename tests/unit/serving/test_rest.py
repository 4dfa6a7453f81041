"""The server's application without a socket: answers as MLflow's, and one line for whatever cannot be answered."""

from __future__ import annotations

import base64
import io
import json
import zlib

import numpy as np
import pytest
import torch
from packed import encode
from PIL import Image
from starlette.testclient import TestClient

from dermonas.errors import DataError
from dermonas.serving.digest import files_digest
from dermonas.serving.rest.door import Door
from dermonas.serving.rest.limits import Limits
from dermonas.serving.rest.metrics import Metrics
from dermonas.serving.rest.release import Release, Wanted
from dermonas.serving.rest.routes import Api
from dermonas.serving.rest.service import Service
from dermonas.serving.served import BATCH

TOKEN = "0123456789abcdef"
LIMITS = Limits(body_mib=1, rows=70, pixels=100_000, requests=4, arriving=4, body_seconds=5, seconds=60)


@pytest.fixture(scope="module")
def release(cells):
    return Release.load(Wanted("7", files_digest(cells.folder)), cells.folder)


@pytest.fixture(scope="module")
def start(release):
    """Return a function that starts an application; its threads end with the module."""
    services = []

    def make(limits=LIMITS, token="", of=release):
        service = Service(of, limits, 2, Metrics())
        services.append(service)
        api = Api(service)
        return TestClient(Door(api.routes(), service.metrics, token)), service, api

    yield make
    for service in services:
        service.close()


@pytest.fixture(scope="module")
def client(start):
    return start()[0]


@pytest.fixture(scope="module")
def texts(images):
    return [base64.b64encode(image).decode() for image in images]


def ask(client, body, **more):
    return client.post("/invocations", json=body, **more)


def refused(response, status):
    """Check a refusal's form and return its line."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error_code", "message"}
    line = response.json()["message"]
    assert line
    assert "\n" not in line
    assert len(line) < 200
    assert "Traceback" not in response.text
    return line


def test_every_format_gives_the_models_answers(client, release, cells, texts, images):
    wanted = cells.served.predict(images)
    records = [{"image": text} for text in texts]
    for body in (
        {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
        {"dataframe_split": {"columns": ["age", "image"], "data": [[None, text] for text in texts], "index": [5, 6]}},
        {"dataframe_records": records},
        {"inputs": {"image": texts}},
        {"inputs": records},
        {"instances": records},
        {"dataframe_records": [{**one, "age": 50, "sex": "female", "site": "head/neck"} for one in records]},
    ):
        response = ask(client, body)
        assert response.status_code == 200, response.text
        answers = response.json()["predictions"]
        np.testing.assert_allclose([answer["probability"] for answer in answers], wanted.max(axis=1), atol=1e-6)
        assert [answer["label"] for answer in answers] == [cells.description.classes[k] for k in wanted.argmax(axis=1)]
    about = {"model": "dermonas-noise", "version": "7", "digest": release.digest}
    assert {**answers[0], **about} == answers[0]
    assert "not a medical device" in answers[0]["notice"]


def test_parameters_and_many_rows(client, cells, texts, images):
    many = (texts * 10)[: BATCH * 2 + 3]
    answers = ask(client, {"inputs": {"image": many}, "params": {"top_k": 1, "cam": True, "tta": True}}).json()
    views = torch.stack([cells.served.view(image) for image in images])
    wanted = cells.served.answers(cells.served.logits(views, tta=True), top_k=1, cam=True)
    for row, answer in enumerate(answers["predictions"]):
        expected = wanted[row % len(images)]
        assert answer["label"] == expected["label"]
        assert answer["probability"] == pytest.approx(expected["probability"], abs=1e-6)
        assert len(answer["probabilities"]) == 1
        found, drawn = (Image.open(io.BytesIO(base64.b64decode(one["cam"]))) for one in (answer, expected))
        assert found.size == drawn.size
        assert np.abs(np.asarray(found).astype(int) - np.asarray(drawn)).max() <= 1


def good(texts):
    return {"image": texts[0]}


BAD_BODIES = [
    (b"", 400, "no JSON"),
    (b"{", 400, "no JSON"),
    (b"\xff\xfe{}", 400, "no UTF-8"),
    (b"[" * 100_000, 400, "nested too deeply"),
    (b'{"a":' * 50_000, 400, "nested too deeply"),
    (b"[]", 400, "must be an object"),
    (b"null", 400, "must be an object"),
    (b"{}", 400, "must hold one of"),
    (b'{"rows": []}', 400, "must hold one of"),
    (b'{"inputs": [], "instances": []}', 400, "must hold one of"),
    (b'{"inputs": [{"image": ""}], "extra": 1}', 400, "must hold one of"),
    (b'{"inputs": [{"image": "a"}], "inputs": [{"image": "b"}]}', 400, "a key twice"),
    (b'{"inputs": [{"image": "", "age": NaN}]}', 400, "NaN or Infinity"),
    (b'{"inputs": [{"image": NaN}]}', 400, "NaN or Infinity"),
    (b'{"inputs": [{"image": "", "age": ' + b"9" * 10_000 + b"}]}", 400, "no JSON"),
    (b'{"inputs": [{"image": "", "age": ' + b"9" * 4_000 + b"}]}", 400, "row 0: age must be a number"),
    (b'{"inputs": [{"image": "", "age": 1e999}]}', 400, "row 0: age must be a number"),
]


@pytest.mark.parametrize(("body", "status", "line"), BAD_BODIES, ids=[str(n) for n in range(len(BAD_BODIES))])
def test_a_body_that_is_no_request(client, body, status, line):
    response = client.post("/invocations", content=body, headers={"Content-Type": "application/json"})
    assert line in refused(response, status)


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ({"inputs": []}, 400, "no row"),
        ({"inputs": {"image": []}}, 400, "no row"),
        ({"inputs": "x"}, 400, "inputs must be"),
        ({"inputs": {"image": "x"}}, 400, "inputs must be"),
        ({"inputs": ["x"]}, 400, "row 0 must be an object"),
        ({"inputs": {"image": ["x"], "age": [1, 2]}}, 400, "of one length"),
        ({"dataframe_split": {"columns": ["image"], "data": [["x", "y"]]}}, 400, "row 0 must be a list of as many"),
        ({"dataframe_split": {"columns": ["image", "image"], "data": [["x", "y"]]}}, 400, "twice"),
        ({"dataframe_split": {"columns": [["image"]], "data": [["x"]]}}, 400, "list of names"),
        ({"dataframe_split": {"columns": "image", "data": [["x"]]}}, 400, "list of names"),
        ({"dataframe_split": {"columns": 5, "data": [["x"]]}}, 400, "list of names"),
        ({"dataframe_split": {"columns": ["image"], "data": {"0": ["x"]}}}, 400, "list of rows"),
        ({"dataframe_split": {"columns": ["image"]}}, 400, "object of columns and data"),
        ({"dataframe_records": [{"picture": "x"}]}, 400, "column 'image' is missing"),
        ({"dataframe_records": [{"image": "x", "secret name": 1}]}, 400, "a column is unknown"),
        ({"dataframe_records": [{"image": "x", "x" * 5000: 1}]}, 400, "list of names"),
        ({"dataframe_records": [{"image": "x", "age": "old"}]}, 400, "row 0: age must be a number"),
        ({"dataframe_records": [{"image": "x", "age": True}]}, 400, "row 0: age must be a number"),
        ({"dataframe_records": [{"image": "x"}, {"image": "x", "sex": 1}]}, 400, "row 1: sex must be text"),
        ({"dataframe_records": [{"image": "x"}] * 71}, 413, "more than 70 rows"),
        ({"dataframe_records": [{"image": "x"}] * 10_000}, 413, "more than 70 rows"),
        ({"inputs": {"image": ["x"] * 71}}, 413, "more than 70 rows"),
        ({"inputs": [{"image": "x"}], "params": []}, 400, "params must be an object"),
        ({"inputs": [{"image": "x"}], "params": {"top_k": 0}}, 400, "top_k must be at least 1"),
        ({"inputs": [{"image": "x"}], "params": {"top_k": 1.5}}, 400, "top_k must be a whole number"),
        ({"inputs": [{"image": "x"}], "params": {"cam": "yes"}}, 400, "cam must be true or false"),
        ({"inputs": [{"image": "x"}], "params": {"secret": 1}}, 400, "a parameter is unknown"),
        ({"inputs": [{"image": "no base64!"}]}, 400, "row 0: image is no base64 text"),
        ({"inputs": [{"image": "\ud800"}]}, 400, "row 0: image is no base64 text"),
        ({"inputs": [{"image": "\u0130" * 1000}]}, 400, "row 0: image is no base64 text"),
        ({"inputs": [{"image": None}]}, 400, "row 0: image is missing"),
        ({"inputs": [{"image": 7}]}, 400, "row 0: image must be base64"),
        ({"inputs": [{"image": ["x"]}]}, 400, "row 0: image must be base64"),
        ({"inputs": [{"image": ""}]}, 400, "row 0: image: zero-byte file"),
        ({"inputs": [{"image": "c2VjcmV0"}]}, 400, "row 0: image: not an image"),
    ],
)  # fmt: skip
def test_a_table_that_is_no_request(client, body, status, line):
    found = refused(client.post("/invocations", content=json.dumps(body), headers=JSON), status)
    assert line in found
    for said in ("secret", "picture", "x" * 60, "\u0130"):
        assert said not in found


JSON = {"Content-Type": "application/json"}


def png_chunk(kind, content):
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def test_bad_images_are_named_by_their_row_and_quote_nothing(client, images, texts):
    def line(image, status):
        text = base64.b64encode(image).decode()
        return refused(ask(client, {"inputs": {"image": [texts[0], text, "bad too"]}}), status)

    assert line(images[0][:-30], 400) == "row 1: image: truncated"
    header = png_chunk(b"IHDR", b"\0\0\0\x08\0\0\0\x08\x08\2\0\0\0")
    broken = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", b"SECRET") + png_chunk(b"IEND", b"")
    assert line(broken, 400) in ("row 1: image: corrupt", "row 1: image: truncated")
    large = encode(np.zeros((320, 320, 3), np.uint8))
    found = line(large, 413)
    assert found == "row 1: image: decompression bomb (320 x 320 is more than 100,000 pixels)"
    vast = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", (50_000).to_bytes(4, "big") * 2 + b"\x08\2\0\0\0")
    vast += png_chunk(b"IDAT", b"")
    assert "decompression bomb" in line(vast, 413)


def test_a_dicom_file_is_answered_as_the_pixels_in_it(client):
    pydicom = pytest.importorskip("pydicom")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.4"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PlanarConfiguration = 40, 50, 3, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PhotometricInterpretation, dataset.PatientName = "RGB", "Secret^Name"
    dataset.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    texts = [base64.b64encode(data).decode() for data in (buffer.getvalue(), encode(pixels))]
    response = ask(client, {"inputs": {"image": texts}})
    first, second = response.json()["predictions"]
    assert first == second
    assert "Secret" not in response.text
    cut = base64.b64encode(buffer.getvalue()[:500]).decode()
    assert refused(ask(client, {"inputs": {"image": [cut]}}), 400) == "row 0: image: corrupt"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/csv"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/jsonx"},
        {**JSON, "Content-Encoding": "gzip"},
        {**JSON, "Content-Encoding": "identity, gzip"},
    ],
)
def test_other_media_are_refused_unread(client, headers):
    refused(client.post("/invocations", content=b"\x1f\x8b", headers=headers), 415)


def test_a_media_type_may_say_utf_8(client, texts):
    body = json.dumps({"inputs": [good(texts)]})
    for kind in ("application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'):
        assert client.post("/invocations", content=body, headers={"Content-Type": kind}).status_code == 200


def test_a_body_beyond_the_limit(client):
    assert "longer than 1 MiB" in refused(client.post("/invocations", content=b" " * (2 << 20), headers=JSON), 413)
    parts = (b" " * 1000 for _ in range(1100))  # without a length
    assert "longer than 1 MiB" in refused(client.post("/invocations", content=parts, headers=JSON), 413)


def test_other_routes_and_methods(client):
    assert "no such route" in refused(client.get("/secret"), 404)
    assert "no such route" in refused(client.get("/invocations/"), 404)
    assert "method" in refused(client.get("/invocations"), 405)
    assert client.get("/secret").headers["x-content-type-options"] == "nosniff"


def test_health_and_version(start, cells, release):
    client, _, api = start()
    for route in ("/ping", "/health"):
        assert (client.get(route).status_code, client.get(route).json()) == (200, {"status": "ok"})
    found = client.get("/version").json()
    assert (found["version"], found["digest"], found["classes"]) == (
        "7",
        release.digest,
        list(cells.description.classes),
    )
    api.stopping = True
    assert client.get("/health").status_code == 503


def test_a_token_opens_what_needs_one(start, texts):
    client, _, _ = start(token=TOKEN)
    body = {"inputs": [good(texts)]}
    for headers in (
        {}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer "},
    ):  # fmt: skip
        response = ask(client, body, headers=headers)
        assert refused(response, 401) == "a valid bearer token is needed"
        assert response.headers["www-authenticate"] == "Bearer"
    assert ask(client, body, headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
    assert client.get("/metrics").status_code == 401
    assert client.get("/nothing").status_code == 401
    assert client.get("/health").status_code == 200


def test_too_slow_an_answer_is_503_and_the_next_is_answered(start, texts, monkeypatch):
    import dataclasses
    import threading

    client, service, _ = start(dataclasses.replace(LIMITS, seconds=0.3))
    go, original = threading.Event(), type(service.release.served).crop
    monkeypatch.setattr(type(service.release.served), "crop", lambda *a, **k: go.wait(30) and original(*a, **k))
    response = ask(client, {"inputs": [good(texts)]})
    assert "no answer within 0.3 s" in refused(response, 503)
    assert response.headers["retry-after"] == "1"
    go.set()
    slow = start()[0]
    assert ask(slow, {"inputs": [good(texts)]}).status_code == 200


def test_no_place_is_429(start, texts):
    client, _, api = start()
    api._answering._count = LIMITS.requests
    response = ask(client, {"inputs": [good(texts)]})
    assert "too many requests" in refused(response, 429)
    assert response.headers["retry-after"] == "1"
    api._answering._count = LIMITS.requests - 1
    assert ask(client, {"inputs": [good(texts)]}).status_code == 200
    assert api._answering._count == LIMITS.requests - 1


def test_what_nobody_foresaw_is_500_without_its_message(start, texts, monkeypatch, caplog):
    client, service, _ = start()

    def fail(*_, **__):
        raise RuntimeError("secret pixels")

    monkeypatch.setattr(type(service.release.served), "logits", fail)
    caplog.set_level("INFO")
    assert refused(ask(client, {"inputs": [good(texts)]}), 500) == "the server failed; its log says where"
    failures = [record for record in caplog.records if record.getMessage() == "failure"]
    assert failures[0].fields["error"][0] == "RuntimeError"
    assert "secret" not in str([record.__dict__ for record in caplog.records])

    def not_finite(*_, **__):
        raise DataError("the model's logits are not finite: register another version")

    monkeypatch.setattr(type(service.release.served), "logits", not_finite)
    assert "another version is needed" in refused(ask(client, {"inputs": [good(texts)]}), 503)


def test_what_a_decoder_did_not_foresee_is_the_files_fault(start, texts, monkeypatch, caplog):
    client, _, _ = start()

    def fail(*_, **__):
        raise TypeError("secret bytes")

    monkeypatch.setattr("dermonas.imaging.decode._to_rgb", fail)
    assert refused(ask(client, {"inputs": [good(texts)]}), 400) == "row 0: image: corrupt"
    monkeypatch.undo()
    monkeypatch.setattr("dermonas.serving.served.resize", fail)
    assert refused(ask(client, {"inputs": [good(texts)]}), 400) == "row 0: image: corrupt"
    assert "secret" not in str([record.__dict__ for record in caplog.records])
    assert "decoder failed" in caplog.messages


def test_metrics_count_and_logs_say_nothing_of_the_image(start, texts, caplog):
    client, _, _ = start()
    caplog.set_level("INFO")
    ask(client, {"inputs": [good(texts)] * 3})
    ask(client, {"inputs": [{"image": "bad"}]})
    client.get("/elsewhere")
    text = client.get("/metrics").text
    for line in (
        'dermonas_requests_total{route="/invocations",status="200"} 1.0',
        'dermonas_requests_total{route="/invocations",status="400"} 1.0',
        'dermonas_requests_total{route="other",status="404"} 1.0',
        'dermonas_refused_total{reason="image"} 1.0',
        "dermonas_images_total 3.0",
        "dermonas_requests_in_flight 0.0",
    ):
        assert line in text
    assert 'version="7"' in text
    lines = [record.fields for record in caplog.records if record.getMessage() == "request"]
    assert [(one["route"], one["status"]) for one in lines[:3]] == [
        ("/invocations", 200), ("/invocations", 400), ("other", 404),
    ]  # fmt: skip
    assert (lines[0]["images"], lines[0]["version"]) == (3, "7")
    assert texts[0][:40] not in str(lines)
