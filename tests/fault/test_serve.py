"""The running server: answers, refusals, another champion under load, and an orderly end."""

from __future__ import annotations

import json
import signal
import threading
import time

import numpy as np
import pytest
from packed import noise
from workplace import PATIENCE

from dermonas.serving.served import Served
from dermonas.tracking import registry

pytestmark = pytest.mark.fault
NAME = "dermonas-noise"


def until(reached, what):
    end = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def events(process):
    return [json.loads(line) for line in process.err.read_text().splitlines()]


def test_the_champion_is_served_and_stops_in_order(serve, packages):
    process, caller = serve()
    images = noise()
    reply = caller.ask(*images, top_k=3)
    assert reply.status == 200, reply.body
    wanted = Served.load(packages[0] / "artifacts").predict(images)
    for row, answer in enumerate(reply.json["predictions"]):
        listed = {one["label"]: one["probability"] for one in answer["probabilities"]}
        np.testing.assert_allclose([listed[name] for name in ("dark", "middle", "light")], wanted[row], atol=1e-6)
    assert {answer["version"] for answer in reply.json["predictions"]} == {"1"}
    assert caller.get("/version").json["version"] == "1"
    assert b"dermonas_images_total 7.0" in caller.get("/metrics").body
    assert caller.post(b"no json").line == "the body is no JSON"
    process.send(signal.SIGTERM)
    done = process.wait()
    assert done.code == 0, done.err
    names = [one["event"] for one in events(process)]
    assert (names.count("request"), names[-1]) == (4, "stopped")
    assert "Traceback" not in done.err


SLOW = """
import pathlib, time
from dermonas.serving.served import Served
crop = Served.crop
def slow(self, *arguments, **more):
    pathlib.Path("reached").touch()
    while not pathlib.Path("go").exists(): time.sleep(.005)
    return crop(self, *arguments, **more)
Served.crop = slow
"""


def test_what_is_in_flight_is_answered_before_it_stops(serve, registered):
    process, caller = serve(patch=SLOW)
    found = []
    asking = threading.Thread(target=lambda: found.append(caller.ask(noise()[0])))
    asking.start()
    until((registered.folder / "reached").exists, "never asked")
    process.send(signal.SIGTERM)

    def closed():
        try:
            caller.socket().close()
        except ConnectionRefusedError:
            return True
        return False

    until(closed, "it takes more while it stops")
    assert process.poll() is None
    (registered.folder / "go").touch()
    asking.join(PATIENCE)
    assert found[0].status == 200
    assert process.wait().code == 0


def test_another_champion_takes_over_under_load_without_a_failed_request(serve, registered, packages):
    process, caller = serve("--watch_seconds", "0.05")
    image, stop, replies = noise()[1], threading.Event(), []

    def ask():
        while not stop.is_set():
            replies.append(caller.ask(image))

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for version in ("2", "1", "2"):
            registered.client.set_registered_model_alias(NAME, registry.CHAMPION, version)
            until(lambda version=version: caller.get("/version").json["version"] == version, process.err.read_text())
            count = len(replies)
            until(lambda count=count: len(replies) > count + 12, "no answers")
    finally:
        stop.set()
        for client in clients:
            client.join(PATIENCE)
    assert {reply.status for reply in replies} == {200}
    wanted = {
        version: Served.load(folder / "artifacts").predict([image]).max()
        for version, folder in zip("12", packages, strict=True)
    }
    assert abs(wanted["1"] - wanted["2"]) > 1e-4
    answers = [reply.json["predictions"][0] for reply in replies]
    assert {answer["version"] for answer in answers} == {"1", "2"}
    for answer in answers:  # each by the version that it names
        assert answer["probability"] == pytest.approx(wanted[answer["version"]], abs=1e-5)


def spoil(place, version):
    """Change a registered package where it is kept."""
    source = place.client.get_model_version(NAME, version).source
    (stored,) = (path for path in (place.folder / "mlruns").rglob("card.md") if source.split("/")[-1] in path.parts)
    stored.write_text("# Another card\n")


def test_a_changed_champion_is_refused_and_the_old_one_goes_on(serve, registered):
    process, caller = serve("--watch_seconds", "0.05")
    spoil(registered, "2")
    registered.client.set_registered_model_alias(NAME, registry.CHAMPION, "2")
    until(lambda: "version refused" in process.err.read_text(), "not refused")
    assert caller.ask(noise()[0]).json["predictions"][0]["version"] == "1"
    with (registered.folder / "mlflow.db").open("r+b") as file:
        file.write(b"no database" * 20)
    until(lambda: "registry not read" in process.err.read_text(), "not told")
    assert caller.ask(noise()[0]).json["predictions"][0]["version"] == "1"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "models:/absent@champion"], 2, "models:/absent@champion is not in sqlite"),
        (["--model", f"models:/{NAME}@absent"], 2, "register a model first"),
        (["--model", f"models:/{NAME}/9"], 2, "register a model first"),
        (["--model", "/etc"], 2, "must be models:/NAME@champion or models:/NAME/VERSION"),
        (["--model", f"models:/{NAME}/2"], 1, "is not what was registered"),
        (["--host", "256.0.0.1"], 2, "cannot listen on 256.0.0.1"),
        (["--rows", "0"], 2, "rows 0 must be positive"),
        (["--token_file", "absent"], 2, "token_file absent cannot be read"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(registered, arguments, code, message):
    spoil(registered, "2")
    done = registered.run("serve", "--model", f"models:/{NAME}/1", "--port", "0", *arguments)
    assert done.code == code, done.err
    assert message in done.last
    assert done.out == ""
    assert "Traceback" not in done.err


@pytest.mark.parametrize(("entry", "arguments"), [("app", ["--port", "0"]), ("predict", ["--out", "out.csv"])])
def test_a_changed_model_is_refused_by_the_page_and_in_batches_too(registered, entry, arguments):
    spoil(registered, "2")
    (registered.folder / "images").mkdir()
    (registered.folder / "images" / "0.png").write_bytes(noise()[0])
    if entry == "predict":
        arguments = ["--images", "images", *arguments]
    done = registered.run(entry, "--model", f"models:/{NAME}/2", *arguments)
    assert done.code == 1, done.err
    assert "is not what was registered" in done.last
    assert done.out == ""
    assert not (registered.folder / "out.csv").exists()


def test_a_token_from_a_file(serve, registered):
    (registered.folder / "token").write_text("0123456789abcdef\n")
    _, caller = serve("--token_file", "token")
    assert caller.ask(noise()[0]).status == 401
    assert caller.post({"inputs": []}, Authorization="Bearer 0123456789abcdef").line == "the request has no row"
    assert caller.get("/health").status == 200
