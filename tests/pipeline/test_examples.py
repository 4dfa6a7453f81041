"""The examples for clusters: each holds a search command that this version reads."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
import yaml
from workplace import ROOT, clean_environment

from pipelines.recipe import read_config

STORAGE = "postgresql+psycopg2://me:secret@host/studies"
SBATCH = ROOT / "examples" / "slurm" / "search.sbatch"
JOB = ROOT / "examples" / "kubernetes" / "search-job.yaml"


def read(words, monkeypatch):
    """Read the words behind `python -m pipelines.search`."""
    assert words[:3] == ["python", "-m", "pipelines.search"]
    monkeypatch.chdir(ROOT)
    config, _ = read_config("search", words[3:])
    assert config.storage == STORAGE
    assert config.workers == 1
    return config


def test_the_slurm_script_starts_a_search(tmp_path, monkeypatch):
    """Run it as a task does, with a python that prints its arguments."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" python "$@"\n')
    python.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DERMONAS_STORAGE": STORAGE, "SLURM_CPUS_PER_TASK": "8"}
    script = ["bash", str(SBATCH), "pipelines/recipes/isic2019.yaml"]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=True)
    config = read(done.stdout.split(), monkeypatch)
    assert config.threads == 8
    options = re.findall(r"^#SBATCH (--[a-z-]+)=?", SBATCH.read_text(), re.MULTILINE)
    assert {"--array", "--signal", "--requeue"} <= set(options)


def test_the_kubernetes_job_starts_a_search(monkeypatch):
    job = yaml.safe_load(JOB.read_text())
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    names = {one["name"]: one["valueFrom"]["secretKeyRef"]["key"] for one in container["env"]}
    assert names == {"DERMONAS_STORAGE": "storage", "MLFLOW_TRACKING_URI": "tracking"}
    words = [word.replace("$(DERMONAS_STORAGE)", STORAGE) for word in container["command"] + container["args"]]
    assert read(words, monkeypatch).threads == 8
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_workers_on_ray_share_a_server_alone():
    command = [sys.executable, "-m", "pipelines.on_ray", "--config", "pipelines/recipes/tiny.yaml", "--workers", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: storage is 'sqlite:///studies.db': workers on a cluster need a server")


@pytest.mark.fault
def test_two_workers_on_ray_search_one_study(make_place, postgres, ready_databases):
    pytest.importorskip("ray")
    place = make_place()
    place.storage, place.tracking = (postgres.database(like) for like in ready_databases)
    scratch = postgres.folder.with_name(f"{postgres.folder.name}-ray")  # a socket's path must be short
    environment = {
        **clean_environment(), "MLFLOW_TRACKING_URI": place.tracking,
        "RAY_TMPDIR": str(scratch), "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    words = place.small("--trials", "2", "--storage", place.storage, "--workers", "2")
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.on_ray", *words], cwd=place.folder, env=environment,
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    shutil.rmtree(scratch, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [trial["state"] for trial in place.trials()] == ["COMPLETE"] * 2
    (parent,) = place.runs("search")
    assert parent.info.status == "FINISHED"
    assert len(place.runs("trial")) == 2
