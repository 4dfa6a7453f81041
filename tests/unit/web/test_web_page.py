"""The page's routes without a browser: what they say, what browsers are told, who may ask, what a registry may hold."""

from __future__ import annotations

import json

import pytest
from mlflow.tracking import MlflowClient
from shelf import CARD, HOSTILE, NAME, shelve, tracked_in
from starlette.testclient import TestClient

from dermonas.serving.digest import files_digest
from dermonas.serving.rest.door import Door
from dermonas.serving.rest.limits import Limits
from dermonas.serving.rest.metrics import Metrics
from dermonas.serving.rest.release import Release, Wanted
from dermonas.serving.rest.service import Service
from dermonas.space import zoo
from dermonas.tracking import registry
from dermonas.web import page as module
from dermonas.web.cells import said
from dermonas.web.page import STATIC, Page
from dermonas.web.versions import rows

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, run_tables):
    folder = tmp_path_factory.mktemp("shelf")
    client = shelve(folder, run_tables)
    with tracked_in(f"sqlite:///{folder}/mlflow.db"):
        yield client, folder


@pytest.fixture
def start(shelf):
    """Return a function that starts the application."""
    services = []

    def make(token="", version="1"):
        client, folder = shelf
        package = folder / f"made-{int(version) - 1}" / "package"
        release = Release.load(Wanted(version, files_digest(package)), package)
        service = Service(release, Limits(body_mib=1), 1, Metrics())
        services.append(service)
        page = Page(service, client, NAME, 50)
        return TestClient(Door(page.routes(), service.metrics, token, page.public)), service

    yield make
    for service in services:
        service.close()


def test_its_files_are_its_own_and_nothing_else_may_be_loaded(start):
    client, _ = start()
    index = client.get("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    names = {path.name for path in STATIC.iterdir()} - {"index.html"}
    for name in names:
        found = client.get(f"/static/{name}")
        assert found.content == (STATIC / name).read_bytes()
        assert "://" not in found.text.replace("http://www.w3.org/2000/svg", "")
    for response in (index, client.get("/static/app.js"), client.get("/page/model")):
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
    assert "style=" not in index.text  # the policy would drop it
    assert "onclick" not in index.text
    assert "not a medical device" in index.text


@pytest.mark.parametrize(
    "path", ["/static/", "/static/index.html", "/static/../page.py", "/static/%2e%2e/page.py", "/static/..%2fpage.py"]
)
def test_no_other_file_is_had(start, path):
    assert start()[0].get(path).status_code == 404


def test_the_model_is_described_with_the_card_that_was_verified(start):
    found = start()[0].get("/page/model").json()
    assert (found["model"], found["version"], found["classes"]) == (NAME, "1", ["dark", "middle", "light"])
    assert found["synthetic"] is True
    assert "synthetic" in found["notice"]
    assert found["card"] == CARD
    assert (found["abstain_below"], found["unfamiliar_above"]) == (0.4, None)
    assert found["limits"] == {"body_bytes": 1 << 20, "pixels": 50_000_000}


def test_the_files_are_public_and_nothing_else_is(start):
    client, _ = start(TOKEN)
    assert client.get("/").status_code == client.get("/static/app.js").status_code == 200
    assert NAME not in client.get("/").text
    for path in ("/page/model", "/page/cells", "/page/versions"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_cells_are_drawn_once_for_a_version(start, monkeypatch):
    client, service = start()
    asked = []
    real = module.cells
    monkeypatch.setattr(module, "cells", lambda *given: asked.append(given[-1]) or real(*given))
    found = [client.get("/page/cells").json() for _ in range(2)]
    assert found[0] == found[1]
    assert [cell["title"] for cell in found[0]["cells"]] == ["Normal cell", "Reduction cell"]
    assert all("<svg" in cell["svg"] for cell in found[0]["cells"])
    service.swap(start(version="2")[1].release)
    after = client.get("/page/cells").json()
    assert (after["version"], after["cells"]) == ("2", [])
    assert "not built of searched cells" in after["why"]
    assert asked == ["1", "2"]


def test_a_drawing_is_told_in_words():
    dermo = zoo.load("DermoCSNAS_5")
    text = said(dermo.reduce)
    for number, edges in enumerate(dermo.reduce.nodes):
        assert f"Node {number}: {edges[0].operation} of " in text
    assert "Node 0" in text
    assert "(dead: it does not reach the output)" in text  # the published cell has one
    assert "dead" not in said(zoo.load("DARTS_V2").normal)


def test_versions_are_rows_and_strange_values_are_left_out(start, shelf):
    client, _ = shelf
    client.set_model_version_tag(NAME, "2", registry.DECISION, '{"balanced_accuracy": 1e999, "images": "many"}')
    second, first = start()[0].get("/page/versions").json()["versions"]
    assert (first["version"], first["champion"], second["version"], second["champion"]) == ("1", True, "2", False)
    assert first["figures"] == {"accuracy": {"value": 0.75, "lo": 0.5, "hi": 0.9}}  # macro_f1 is NaN
    assert first["cost"] == {"params_m": 0.0012, "macs_g": None, "latency_ms": None}
    assert (first["validation"], first["images"]) == (0.5, 12)
    assert first["reason"] == f"the reason {HOSTILE}"
    assert (second["validation"], second["images"], second["figures"]) == (None, None, {})
    for text in ("[1]", "{", "[" * 100_000, ""):
        client.set_model_version_tag(NAME, "2", registry.DECISION, text[:5000])
        assert rows(client, NAME, 1)[0]["validation"] is None


def test_versions_are_kept_until_another_one_answers(start, monkeypatch):
    client, service = start()
    monkeypatch.setattr(module, "_KEPT", 1e9)
    asked = []
    real = module.rows
    monkeypatch.setattr(module, "rows", lambda *given: asked.append(given) or real(*given))
    first = [client.get("/page/versions").json() for _ in range(2)]
    assert first[0] == first[1]
    assert len(asked) == 1
    for number, version in enumerate(("2", "1"), 2):  # the first one again is none of what was kept either
        service.swap(start(version=version)[1].release)
        assert [client.get("/page/versions").json() for _ in range(2)] == first
        assert len(asked) == number


def test_a_training_that_is_gone_leaves_the_version(shelf):
    client, _ = shelf
    run = client.get_model_version(NAME, "2").run_id
    client.delete_run(run)
    client.delete_model_version_tag(NAME, "2", registry.DECISION)
    assert [row["version"] for row in rows(client, NAME, 50)] == ["2", "1"]
    client.restore_run(run)


def test_a_registry_that_is_gone_is_one_line(start, monkeypatch):
    service = start()[1]
    page = Page(service, MlflowClient("http://127.0.0.1:9"), NAME, 5)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    found = TestClient(Door(page.routes(), Metrics())).get("/page/versions")
    assert found.status_code == 503
    assert json.loads(found.text)["message"] == "the server cannot answer now"
