"""`audit` from known networks to figures and a tracked run, killed in the middle and gone on with."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from workplace import PATIENCE, TINY

from dermonas.data.manifest import read_manifest, write_manifest
from dermonas.seeding import numpy_generator
from dermonas.space.darts import DartsSpace

NETWORKS = 9
SMALL = {"images": 16, "channels": 2, "layers": 3, "epochs": 2, "batch_size": 6, "resolution": 16}
BUDGETS = [
    {**SMALL, "name": "untrained", "kind": "untrained", "epochs": 1},
    {"name": "paper", **SMALL},
    {"name": "labels", "kind": "supervised", **SMALL},
]  # fmt: skip
FIGURES = ("correlation-cost", "correlation-epochs", "scores-accuracy")
FILES = {
    "audit.md", "config.yaml", "correlations.json", "scores.parquet",
    *(f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")),
}  # fmt: skip

# Dies with five scorings kept and a sixth half-written.
DIES = """
import os, signal
from dermonas.audit.journal import Journal
append = Journal.append
def dies(self, record):
    if sum("epochs" in one for one in self.records) == 5:
        self._file.write(b'{"network": "0')
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, record)
Journal.append = dies
"""


@pytest.fixture
def arguments(tmp_path, phantoms):
    """Command-line words of a small audit."""
    space, rng = DartsSpace(nodes=4, encoding="pairs"), numpy_generator(0, "test networks")
    drawn = [space.genotype(space.sample(rng)).to_dict() for _ in range(NETWORKS)]
    known = tmp_path / "known.json"
    known.write_text(json.dumps([{**one, "accuracy": 90 + place} for place, one in enumerate(drawn)]))
    content = yaml.safe_load(TINY.read_text())
    content["audit"] = {"budgets": BUDGETS, "networks": 0, "splits": 3, "replicates": 100, "known": str(known)}
    recipe = tmp_path / "audit.yaml"
    recipe.write_text(yaml.safe_dump(content))
    return ["--config", str(recipe), "--data", str(phantoms)]


def kept(place):
    paths = list((place.folder / "outputs" / "audit").glob("*.jsonl"))
    lines = [line for path in paths for line in path.read_text().splitlines(keepends=True)[1:]]
    return [json.loads(line) for line in lines if line.endswith("\n")]


def test_an_audit_goes_on_after_a_kill_and_tells_all(make_place, arguments):
    place = make_place()
    assert place.run("audit", *arguments, patch=DIES).code == -9
    [dead] = place.runs("audit")
    done = place.run("audit", *arguments)
    assert done.code == 0, done.err
    assert "cheapest score whose interval reaches the best tau" in done.err
    run = place.run_of(done)
    assert run.info.status == "FINISHED"
    assert place.client.get_run(dead.info.run_id).info.status == "KILLED"
    records = kept(place)
    assert len({(one["network"], one["budget"]) for one in records}) == len(records) == NETWORKS * (len(BUDGETS) + 1)
    assert {path.name for path in place.artifacts(run).iterdir()} >= FILES
    numbers = json.loads((place.artifacts(run) / "correlations.json").read_text())
    assert numbers["networks"] == NETWORKS
    assert {"paper/train_loss@2", "labels/error@2", "untrained/naswot", "parameters"} <= set(numbers["columns"])
    table = pd.read_parquet(place.artifacts(run) / "scores.parquet")
    assert table["accuracy"].tolist() == pytest.approx([(90 + place) / 100 for place in range(NETWORKS)])
    assert run.data.metrics["audit/chosen/tau"] == numbers["choice"]["tau"]["estimate"]

    # Two processes score as one does, to the bit.
    other = make_place()
    assert other.run("audit", *arguments, "--workers", "2").code == 0

    def scores(place):
        return {(one["network"], one["budget"]): one.get("epochs") or one["scores"] for one in kept(place)}

    assert scores(other) == scores(place)


def test_an_interrupt_ends_the_scoring_processes_and_no_two_audits_write_the_same(make_place, arguments):
    place = make_place()
    recipe = Path(arguments[1])
    content = yaml.safe_load(recipe.read_text())
    content["audit"]["budgets"] = [*BUDGETS[:2], {**SMALL, "name": "endless", "epochs": 10**6}]
    recipe.write_text(yaml.safe_dump(content))
    process = place.start("audit", *arguments, "--workers", "2")
    end = time.monotonic() + PATIENCE
    while sum(one["budget"] == "paper" for one in kept(place)) < 2:
        late = process.poll() is not None or time.monotonic() > end
        assert not late, process.err.read_text()
        time.sleep(0.02)
    workers = [one for one in psutil.Process(process.pid).children() if "spawn_main" in " ".join(one.cmdline())]
    second = place.run("audit", *arguments)
    assert second.code == 2
    assert second.last == "error: another process audits the same into outputs/audit: wait for it"
    [running] = place.runs("audit")
    assert running.info.status == "RUNNING"
    process.send(signal.SIGTERM)
    done = process.wait()
    assert done.code == 130, done.err
    assert done.last == "interrupted: nothing finished is lost; the same command goes on"
    assert len(workers) == 2
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)


def test_a_supervised_budget_without_labels_is_refused(make_place, arguments, tmp_path, phantoms):
    bare = tmp_path / "bare"
    shutil.copytree(phantoms, bare)
    manifest = read_manifest(bare)
    frame = manifest.frame.copy()
    frame.loc[frame["search"], "label"] = pd.NA
    write_manifest(type(manifest)(frame, bare, manifest.classes, manifest.dataset, manifest.source, True), bare)
    done = make_place().run("audit", *arguments[:2], "--data", str(bare))
    assert done.code == 1
    assert "leave that budget out" in done.last
