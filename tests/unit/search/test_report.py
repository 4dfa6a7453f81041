"""The files that a search leaves."""

from __future__ import annotations

import json

import pandas as pd

from dermonas.events import Silent
from dermonas.objective.score import NotFinite
from dermonas.search.report import write_report
from dermonas.space import zoo


class Files(Silent):
    def __init__(self):
        self.found = {}

    def artifact(self, path, folder=""):
        assert path.stat().st_size > 0
        self.found[path.name] = folder


def report(bench, scripted, objective, thetas, trials, folder):
    folder.mkdir()
    files = Files()
    _, result, _ = bench.search(scripted(thetas), objective, trials, max_failures=9)
    with bench.opened() as study:
        write_report(study, bench.space, result, folder, files)
    return result, files.found


def test_a_report_holds_genotype_drawings_trials_and_plots(bench, scripted, objective, tmp_path):
    def at(number, epoch):
        if number == 1:
            raise NotFinite("loss is nan")

    a, b, c = bench.thetas(3)
    result, files = report(bench, scripted, objective(at=at), [a, b, a, c], 2, tmp_path / "out")
    assert {name: folder for name, folder in files.items() if folder != "cells"} == {
        "genotype.json": "", "trials.parquet": "", "history.html": "plots",
    }  # fmt: skip
    assert len([folder for folder in files.values() if folder == "cells"]) == 4
    content = json.loads((tmp_path / "out" / "genotype.json").read_text())
    assert (content["digest"], content["score"], content["trial"]) == (result.digest, result.value, result.number)
    assert bench.space.digest(tuple(content["theta"])) == result.digest
    assert zoo.load(tmp_path / "out" / "genotype.json") == result.genotype

    table = pd.read_parquet(tmp_path / "out" / "trials.parquet")
    assert table["number"].tolist() == [0, 1, 2, 3]
    assert table["state"].tolist() == ["complete", "failed", "duplicate", "complete"]
    assert table["digest"].tolist() == [bench.space.digest(theta) for theta in (a, b, a, c)]
    assert [tuple(theta) for theta in table["theta"]] == [a, b, a, c]
    assert table["value"].isna().tolist() == [False, True, False, False]
    assert table["value"][2] == table["value"][0]
    assert table["error"].fillna("").tolist() == ["", "loss is nan", "", ""]
    assert [len(epochs) for epochs in table["epochs"]] == [2, 0, 0, 2]
    assert table["parameters"][0] == 10


def test_importance_needs_five_scores(bench, scripted, objective, tmp_path):
    _, files = report(bench, scripted, objective(), bench.thetas(6), 6, tmp_path / "out")
    assert files["importance.html"] == "plots"
    assert "reduce" in (tmp_path / "out" / "importance.html").read_text()
