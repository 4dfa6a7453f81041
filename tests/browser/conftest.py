"""The page in headless Chromium, on an app that a process of its own serves."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from caller import Caller, caller_of
from shelf import NAME, shelve, tracked_in
from workplace import PATIENCE, Place, Zygote

from dermonas.tracking import registry

playwright = pytest.importorskip("playwright.sync_api")
NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class App:
    """An app that runs, and its registry."""

    place: Place
    client: Any
    caller: Caller

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.caller.port}"


@pytest.fixture(scope="session")
def make_app(
    zygote: Zygote, run_tables: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., App]]:
    """Return a function that starts an app on a registry of its own."""
    places: list[Place] = []

    def make(*arguments: str, token: str = "") -> App:
        work, log = tmp_path_factory.mktemp("app"), tmp_path_factory.mktemp("log")
        client = shelve(work, run_tables)
        place = Place(work, work, zygote, log)
        places.append(place)
        if token:
            (work / "token").write_text(token)
            arguments = (*arguments, "--token_file", "token")
        model = f"models:/{NAME}@{registry.CHAMPION}"
        process = place.start("app", "--model", model, "--port", "0", "--threads", "1", *arguments)
        return App(place, client, caller_of(process))

    yield make
    for place in places:
        for process in place.processes:
            process.end()


@pytest.fixture(scope="session")
def app(make_app: Callable[..., App]) -> App:
    return make_app("--watch_seconds", "0.1", "--body_mib", "0.5")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium of the machine; nothing is downloaded."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as started:
        # Tests run as root in containers, where Chromium has no sandbox of its own and /dev/shm is small.
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        running = started.chromium.launch(executable_path=program, args=options)
        yield running
        running.close()


@pytest.fixture
def open_page(app: App, browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens the page; whatever goes wrong in it fails the test, requests to elsewhere too."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def start(of: App = app, expected: str = "", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))

        def told(message: Any) -> None:
            if message.type in ("error", "warning") and not (expected and expected in message.text):
                wrong.append(message.text)

        page.on("console", told)
        page.on("filechooser", lambda _: None)  # heard from the start: Playwright does not wait until it listens
        page.on("request", lambda one: one.url.startswith((of.address, "blob:")) or wrong.append(one.url))
        page.goto(of.address)
        return page

    yield start
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def champion(app: App) -> Iterator[Callable[[str], None]]:
    """Return a function that moves the champion and waits until it answers; afterwards the first one is it again."""

    def move(version: str) -> None:
        with tracked_in(app.place.tracking):
            app.client.set_registered_model_alias(NAME, registry.CHAMPION, version)
        end = time.monotonic() + PATIENCE
        while app.caller.get("/version").json["version"] != version:
            assert time.monotonic() < end, "it does not take over"
            time.sleep(0.05)

    yield move
    move("1")
