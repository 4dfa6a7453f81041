"""A bounded fuzz of the request path: whatever is sent is answered, by 200 or by one line, and nothing fails."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packed import encode, noise
from starlette.testclient import TestClient

from dermonas.serving.digest import files_digest
from dermonas.serving.rest.door import Door
from dermonas.serving.rest.limits import Limits
from dermonas.serving.rest.metrics import Metrics
from dermonas.serving.rest.release import Release, Wanted
from dermonas.serving.rest.routes import Api
from dermonas.serving.rest.service import Service

FILES = noise()
FORMATS = ("dataframe_split", "dataframe_records", "inputs", "instances")
FUZZ = settings(
    max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def files(draw):
    """A good file with bytes changed, cut out, doubled or added."""
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[at : at + draw(st.integers(1, 200))]
            case 2:
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case _:
                data[at:at] = draw(st.binary(max_size=64))
    return base64.b64encode(bytes(data)).decode()


values = files() | anything
names = st.sampled_from(("image", "age", "sex", "site", "")) | st.text(max_size=6)
records = st.lists(st.dictionaries(names, values, max_size=3) | st.fixed_dictionaries({"image": values}), max_size=4)
rows = st.lists(st.lists(values, max_size=3), max_size=3)
tables = (
    records
    | st.fixed_dictionaries({"columns": st.lists(names, max_size=3), "data": rows})
    | st.dictionaries(names, st.lists(values, max_size=3) | values, max_size=3)
    | anything
)
params = st.dictionaries(st.sampled_from(("top_k", "cam", "tta", "k")), anything, max_size=3) | anything
bodies = st.fixed_dictionaries({}, optional={**dict.fromkeys(FORMATS, tables), "params": params}) | anything


@pytest.fixture(scope="module")
def client(tiny):
    release = Release.load(Wanted("1", files_digest(tiny.folder)), tiny.folder)
    service = Service(release, Limits(rows=3, pixels=200_000, body_mib=1), 1, Metrics())
    yield TestClient(Door(Api(service).routes(), service.metrics))
    service.close()


def check(response):
    assert response.status_code in (200, 400, 413, 415), response.text
    if response.status_code != 200:
        assert "\n" not in response.json()["message"]
        assert len(response.json()["message"]) < 200


@FUZZ
@given(body=bodies)
def test_any_json(client, body):
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    check(client.post("/invocations", content=content, headers={"Content-Type": "application/json"}))


@FUZZ
@given(image=files())
def test_any_damaged_file(client, image):
    check(client.post("/invocations", json={"inputs": [{"image": image}], "params": {"cam": True}}))


@FUZZ
@given(content=st.binary(max_size=300), kind=st.sampled_from(("application/json", "text/csv", "", "a/b; charset=x")))
def test_any_bytes(client, content, kind):
    check(client.post("/invocations", content=content, headers={"Content-Type": kind}))


def test_the_fuzz_reaches_good_answers(client):
    text = base64.b64encode(encode(np.zeros((8, 8, 3), np.uint8))).decode()
    assert client.post("/invocations", json={"inputs": [{"image": text}]}).status_code == 200
