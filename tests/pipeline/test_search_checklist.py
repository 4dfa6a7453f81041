"""Every search leaves a checklist that is filled from its run and finds its random twin."""

from __future__ import annotations

import json
import subprocess

import pytest
from workplace import ROOT

# Pictures take longer than the search.
PLAIN = """
import dermonas.search.report as report
report.draw = lambda *_: []
report.write_history = lambda events, path, chance: path.touch()
report.write_importance = lambda *_: False
"""


@pytest.fixture
def searched(place):
    def search(*arguments):
        done = place.search(*arguments, "--trials", "2", "--epochs", "1", patch=PLAIN)
        assert done.code == 0, done.err
        run = place.client.get_run(done.run_id)
        folder = place.artifacts(run)
        content = json.loads((folder / "checklist.json").read_text())
        assert content["not_stated"][-1] in (folder / "checklist.md").read_text()
        return run, {item["number"]: item for item in content["items"]}, content["setup"]

    return search


def test_a_checklist_is_filled_from_the_run_and_names_equal_searches_only(searched):
    run, items, setup = searched("--sampler", "tpe")
    assert (items[8]["answer"], items[9]["answer"]) == ("not done", "not done")
    metrics, tags = run.data.metrics, run.data.tags
    assert setup["run"] == run.info.run_id
    assert "digest " + tags["dermonas.dataset_digest"][:16] in setup["data"]
    assert "8 of 24 search images" in setup["data"]
    assert setup["budget"] == "2 distinct genotypes x 8 images x 1 epochs; paid for 16 image epochs"
    assert f"{metrics['search/device_seconds']:.1f} device seconds" in setup["cost"]
    assert setup["hardware"] == tags["dermonas.hardware"]
    assert "card none" in setup["hardware"]
    assert "torch 2." in setup["versions"]
    assert "recipe isic2019" in setup["final training"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    head = commit.stdout.strip()
    assert (f"commit {head}" if head else "no git checkout") in items[2]["facts"]
    best = f"{metrics['search/best_score']:.4f} after 2 genotypes"
    assert best in items[7]["facts"]
    assert "epochs 1 (paper 10)" in items[12]["facts"]

    # A random search of another learning rate is no baseline, one of equal settings is.
    searched("--sampler", "random", "--study", "other", "--learning_rate", "0.5")
    twin, items, _ = searched("--sampler", "random")
    assert items[8]["facts"] == "this is the random search"
    _, items, _ = searched("--sampler", "tpe")
    assert items[8]["answer"] == "yes"
    assert f"({twin.info.run_id[:8]}, seed 0)" in items[8]["facts"]
    assert items[8]["facts"].count("seed") == 1
    assert items[11]["answer"] == "yes"

    _, items, _ = searched("--sampler", "tpe", "--seed", "5")
    assert items[9]["answer"] == "yes"
    assert "seeds 0, 5;" in items[9]["facts"]
    assert "another seed" in items[8]["facts"]
