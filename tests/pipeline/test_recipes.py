"""Recipes, the command line, and what either may not say."""

from __future__ import annotations

import jsonargparse
import pytest
import yaml
from workplace import ROOT, TINY

from dermonas.errors import ConfigError
from dermonas.search.config import deviations
from pipelines import controller_pretrain_config, controller_search_config
from pipelines.controller_pretrain_config import ControllerPretrainConfig
from pipelines.controller_search_config import PAPER, ControllerSearchConfig
from pipelines.recipe import STAGES, read_config

FOLDER = ROOT / "pipelines" / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("stage", STAGES)
def test_every_recipe_parses_for_every_stage(path, stage):
    config, recipe = read_config(stage, ["--config", str(path)])
    assert isinstance(config, STAGES[stage])
    assert recipe.name == path.stem
    mode = "paper" if path.stem.endswith("-paper") else "modern"
    assert yaml.safe_load(path.read_text())["mode"] == mode
    if stage in ("search", "controller-search"):
        assert config.mode == mode


@pytest.mark.parametrize("dataset", ["cifar10", "isic2019", "imagenet"])
def test_a_paper_recipe_is_the_paper_and_a_modern_one_names_its_deviations(dataset):
    paper = read_config("search", ["--config", str(FOLDER / f"{dataset}-paper.yaml")])[0]
    assert deviations(paper, dataset) == {}
    modern = read_config("search", ["--config", str(FOLDER / f"{dataset}.yaml")])[0]
    assert deviations(modern, dataset) == {
        "encoding": {"paper": "first2", "here": "pairs"},
        "pruner": {"paper": "none", "here": "median"},
    }
    assert (paper.trials, paper.channels) == {"cifar10": (500, 32), "isic2019": (120, 16), "imagenet": (120, 32)}[
        dataset
    ]


def test_the_second_papers_recipe_is_the_second_paper():
    file = FOLDER / "nasbench101-paper.yaml"
    pretrain, _ = read_config("controller-pretrain", ["--config", str(file)])
    search, _ = read_config("controller-search", ["--config", str(file)])
    assert controller_pretrain_config.deviations(pretrain, 423_624).keys() == {"anchor_order"}
    assert controller_search_config.deviations(search) == {}
    assert (search.domain, search.sampler, search.seeds, search.controller) == ("nasbench101", "nao", 5, "")
    # Stated, not left to defaults that may move.
    stated = yaml.safe_load(file.read_text())
    assert stated["controller-search"].keys() >= PAPER.keys()
    assert stated["controller-pretrain"].keys() >= {"iterations", "milestones", "gamma", "fallback", "hidden"}


@pytest.mark.parametrize("domain", ["nasbench201", "nasbench101"])
def test_a_tables_recipe_is_the_librarys_defaults_on_that_table(domain):
    arguments = ["--config", str(FOLDER / f"{domain}.yaml")]
    assert read_config("controller-pretrain", arguments)[0] == ControllerPretrainConfig(domain)
    assert read_config("controller-search", arguments)[0] == ControllerSearchConfig(domain=domain, seeds=50)
    report, _ = read_config("controller-report", arguments)
    assert (report.domain, report.table, report.dataset) == (domain, None, "cifar10")


@pytest.mark.parametrize("dataset", ["cifar10", "isic2019", "imagenet"])
def test_images_pretrain_on_our_space_as_measured_and_as_the_paper_in_its_recipes(dataset):
    measured = {"batch_size": 128, "iterations": 8000, "milestones": [6000]}
    for name, values in ((dataset, measured), (f"{dataset}-paper", {})):
        config, _ = read_config("controller-pretrain", ["--config", str(FOLDER / f"{name}.yaml")])
        assert config == ControllerPretrainConfig("darts5", **values)


def test_a_seed_and_a_mode_reach_the_controllers_entry_points(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("seed: 7\nmode: paper\n")
    pretrain, search, report = (
        read_config(f"controller-{stage}", ["--config", str(recipe)])[0] for stage in ("pretrain", "search", "report")
    )
    assert (pretrain.seed, search.first_seed, search.mode, report.seed) == (7, 7, "paper", 7)


def test_the_command_line_outranks_the_recipe_and_shared_keys_reach_their_stages(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("dataset: moles\ndata: here\nseed: 3\nsearch: {trials: 7, epochs: 2, seed: 4}\n")
    search, _ = read_config("search", ["--trials", "9", "--config", str(recipe), "--nodes=4"])
    assert (search.trials, search.epochs, search.nodes, search.seed, str(search.data)) == (9, 2, 4, 4, "here")
    prepare = read_config("prepare", ["--config", str(recipe)])[0]
    assert (prepare.dataset, prepare.seed, str(prepare.out)) == ("moles", 3, "here")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--trails", "5"], ["trails", "trials"]),
        (["--trials", "many"], ["trials", "many", "int"]),
        (["--trials", "0"], ["trials", "0", "at least 1"]),
        (["--nodes", "6"], ["nodes", "6", "4 or 5"]),
        (["--sampler", "grid"], ["sampler", "grid", "tpe"]),
        (["--mode", "old"], ["mode", "old", "paper"]),
        (["--momentum", "1.5"], ["momentum", "1.5"]),
        (["--batch_size", "1"], ["batch_size", "1"]),
        (["--images", "2"], ["images", "2", "at least 4"]),
        (["--storage", "studies.db"], ["storage", "studies.db", "sqlite:///"]),
        (["--config", "absent.yaml"], ["absent.yaml", "tiny.yaml"]),
        (["--device", "cuda"], ["cuda", "cpu"]),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(arguments, says, place):
    before = sorted(place.folder.iterdir())
    done = place.search(*arguments, patch="import torch; torch.cuda.is_available = lambda: False")
    assert done.code == 2, done.err
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: ")
    for word in says:
        assert word in done.err
    assert sorted(place.folder.iterdir()) == before
    assert place.runs("search") == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("mode: modern\nserch: {}\n", ["serch", "search"]),
        ("search: {learning_rat: .1}\n", ["search.learning_rat", "learning_rate"]),
        ("prepare: {phantom_leisons: 3}\n", ["prepare.phantom_leisons", "phantom_lesions"]),
        ("search: {trials: few}\n", ["trials", "few"]),
        ("search: {study: [1]}\n", ["study"]),
        ("search: {images: 2.5}\n", ["images", "2.5"]),
        ("search: {epochs: 0}\n", ["epochs", "0"]),
        ("search: [1, 2]\n", ["search", "mapping"]),
        ("- a list\n", ["mapping"]),
        ("search: {trials: 3\n", ["YAML"]),
    ],
)
def test_a_wrong_recipe_is_told_in_one_line(content, says, tmp_path):
    recipe = tmp_path / "wrong.yaml"
    recipe.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_config("search", ["--config", str(recipe)])
    message = str(caught.value)
    assert "\n" not in message
    for word in says:
        assert word in message


def test_a_number_in_a_recipe_may_be_written_as_on_the_command_line(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("search: {learning_rate: 1e-3, trials: 4}\n")  # a string to YAML
    config = read_config("search", ["--config", str(recipe)])[0]
    assert (config.learning_rate, config.trials) == (0.001, 4)


@pytest.mark.parametrize("stage", STAGES)
def test_every_key_of_a_stage_has_a_type(stage):
    # jsonargparse takes any text for what it finds no type of, inherited keys before all.
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(STAGES[stage], as_group=False)
    told = parser.format_help()
    assert "Unvalidated" not in told


@pytest.mark.parametrize("url", ["nosuch://here", "mssql+pymssql://me:secret@here/studies"])
def test_a_storage_without_a_driver_is_refused(url, place):
    done = place.search("--storage", url)
    assert done.code == 2, done.err
    assert done.err.count("\n") == 1
    assert "error: storage is " in done.err
    assert "secret" not in done.err
    (run,) = place.runs("search")
    assert run.info.status == "FAILED"
    assert run.data.tags["dermonas.error"] == done.last.removeprefix("error: ")


def test_a_folder_without_a_manifest_is_refused(place):
    (place.folder / "pictures").mkdir()
    (place.folder / "pictures" / "a.png").touch()
    done = place.run("search", "--config", str(TINY), "--data", "pictures")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "pictures holds files but no manifest.json" in done.err
    assert "pipelines.prepare" in done.err
    assert [path.name for path in (place.folder / "pictures").iterdir()] == ["a.png"]
    assert place.runs("search") == []


def test_a_study_goes_on_under_its_own_settings_only(place):
    first = place.search("--trials", "1", "--study", "mine", patch=PLAIN)
    assert first.code == 0, first.err
    trials = place.trials()
    other = place.search("--trials", "1", "--study", "mine", "--epochs", "3", "--learning_rate", "0.5")
    assert other.code == 1
    assert other.err.count("\n") == 1
    assert "epochs was 2, is 3" in other.err
    assert "learning_rate was 0.001, is 0.5" in other.err
    assert "trials was" not in other.err
    assert place.trials() == trials
    assert [run.info.status for run in place.runs("search")] == ["FINISHED", "FAILED"]
    assert place.runs("search")[1].data.tags["dermonas.error"] == other.err.removeprefix("error: ").strip()
    free = place.search("--trials", "2", "--study", "mine", "--max_failures", "3", "--threads", "0", patch=PLAIN)
    assert free.code == 0, free.err
    assert place.trials()[:1] == trials
    assert len(place.trials()) == 2


PLAIN = """
import dermonas.search.report as report
report.draw = lambda *_: []
report.write_history = lambda events, path, chance: path.touch()
report.write_importance = lambda *_: False
"""
