"""The Dockerfile's steps without Docker: what it copies, with its variables, started as it starts it.

Not run here: the base images, pip's installation (the environment of the tests stands in for it), the change of user.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from mlflow.cli import server
from packaging.requirements import Requirement
from shelf import NAME, shelve
from workplace import ROOT

from pipelines.recipe import read_config

SECONDS = 300  # a fresh interpreter that imports everything, on a busy machine


def steps():
    """Return the instructions of each stage, as (word, text)."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages, words = [[]], [line.strip().split(None, 1) for line in lines]
    for word, rest in words:
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest))
    return stages


def all_of(word, stage):
    return [rest for name, rest in stage if name == word]


def ignored_but():
    """Return what .dockerignore lets through."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    return {line[1:] for line in lines if line.startswith("!")}


def test_it_is_pinned_and_runs_as_nobody_special():
    head, build, final = steps()
    assert re.fullmatch(r"PYTHON=3\.\d+\.\d+-slim-\w+", all_of("ARG", head)[0])
    assert (all_of("FROM", build), all_of("FROM", final)) == (["python:${PYTHON} AS build"], ["python:${PYTHON}"])
    words = [word for word, _ in final]
    assert int(all_of("USER", final)[0]) > 0
    assert words.index("USER") > max(place for place, word in enumerate(words) if word in ("RUN", "COPY"))
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert len(all_of("HEALTHCHECK", final)) == 1
    copied = [source for stage in (build, final) for rest in all_of("COPY", stage) for source in rest.split()[:-1]]
    local = {source for source in copied if not source.startswith(("--from", "/"))}
    assert local == ignored_but()
    assert all((ROOT / source).exists() for source in local)


def test_it_installs_what_is_tested():
    lines = (ROOT / "requirements-container.txt").read_text().splitlines()
    more = [line for line in lines if line and not line.startswith(("#", "-r"))]
    assert "-r requirements.txt" in lines
    tested = (ROOT / "requirements-dev.txt").read_text().splitlines()
    assert all(Requirement(line) and line in tested for line in more)


@pytest.fixture
def image(tmp_path):
    """What the last stage copies, and the variables that it sets, in a folder instead of a root."""
    stage = steps()[-1]
    root = tmp_path / "root"
    for rest in all_of("COPY", stage):
        *source, target = rest.split()
        if not source[0].startswith("--from"):
            shutil.copytree(ROOT / source[0], root / target[1:], ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tmp").mkdir()
    variables = {}
    for rest in all_of("ENV", stage):
        for pair in shlex.split(rest):
            key, _, value = pair.partition("=")
            variables[key] = re.sub(r"(?<![\w.])/(app|tmp)\b", rf"{root}/\1", value)
    python = Path(sys.executable).parent
    variables["PATH"] = variables["PATH"].replace("/opt/dermonas/bin", str(python)).replace("$PATH", "/usr/bin:/bin")
    return stage, {**variables, "OMP_NUM_THREADS": "1", "TMPDIR": str(root / "tmp")}


def test_what_it_starts_serves_the_page_of_a_mounted_registry_and_stops(image, tmp_path, run_tables):
    stage, variables = image
    work = tmp_path / "work"
    work.mkdir()
    shelve(work, run_tables)
    command = [*json.loads(all_of("ENTRYPOINT", stage)[0]), "--port", "0", "--model", f"models:/{NAME}@champion"]
    out, err = work / "out", work / "err"
    with out.open("w") as told, err.open("w") as logged:
        process = subprocess.Popen(command, cwd=work, env=variables, stdout=told, stderr=logged)
    try:
        end = time.monotonic() + SECONDS
        while not (found := re.search(r"version 1 at http://0\.0\.0\.0:(\d+)$", out.read_text(), re.MULTILINE)):
            assert process.poll() is None, err.read_text()
            assert time.monotonic() < end, err.read_text()
            time.sleep(0.1)
        check = all_of("HEALTHCHECK", stage)[0].partition("CMD ")[2].replace("8080", found[1])
        assert subprocess.run(json.loads(check), env=variables, check=False).returncode == 0
        index = ["python", "-c", f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{found[1]}/').read())"]
        shown = subprocess.run(index, env=variables, capture_output=True, text=True, check=True).stdout
        assert "not a medical device" in shown
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0, err.read_text()
        assert subprocess.run(json.loads(check), env=variables, capture_output=True, check=False).returncode != 0
    finally:
        process.kill()
        process.wait()


def test_compose_starts_what_is_there():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services = compose["services"]
    assert all(":" in one["image"] or "build" in one for one in services.values())
    for one in services.values():
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", []))
        assert {mount.split(":")[0] for mount in one.get("volumes", [])} <= set(compose["volumes"])
        assert all(name in services for name in one.get("depends_on", {}))
    known = {option for parameter in server.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in services["mlflow"]["command"]} <= known
    final = steps()[-1]
    entry = json.loads(all_of("ENTRYPOINT", final)[0])
    words = [re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", word) for word in services["app"]["command"]]
    config, _ = read_config("app", [*entry[3:], *words])
    assert (config.host, config.port, config.model) == ("0.0.0.0", 8080, "models:/dermonas-phantom@champion")
    assert services["app"]["environment"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    hosts = next(word for word in services["mlflow"]["command"] if word.startswith("--allowed-hosts="))
    assert "mlflow:5000" in hosts
