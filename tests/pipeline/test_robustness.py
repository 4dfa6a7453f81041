"""What `robustness` refuses, in one line and before any work."""

from __future__ import annotations

import pytest
from workplace import TINY

from dermonas.errors import ConfigError
from pipelines.recipe import read_config
from pipelines.robustness import settings_of
from pipelines.robustness_config import DECIDED, RobustnessConfig


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--arms", "[SL-50]"], "arms is ['SL-50'], must name some of SL-10, SL-100, CSSL-10, CSSL-100"),
        (["--arms", "[SL-10, SL-10]"], "each once"),
        (["--samplers", "[evolution]"], "must name some of random, tpe"),
        (["--seeds", "0"], "seeds is 0, must be at least 1"),
        (["--search", "{trails: 3}"], "robustness.search has the unknown key 'trails'"),
        (["--search", "{seed: 3}"], "robustness.search has the key 'seed', which the study sets"),
        (["--search.sampler", "tpe"], "--search.sampler is set by the study"),
        (["--search.pruner=median"], "--search.pruner is set by the study"),
        (["--train.devices", "2"], "--train.devices is set by the study"),
        (["--search.trials", "0"], "trials is 0"),
        (["--search.trails", "5"], "did you mean 'trials'?"),
        (["--serach.trials", "5"], "serach"),
    ],
)
def test_a_wrong_word_is_told_before_anything_is_done(arguments, says, place):
    done = place.run("robustness", "--config", str(TINY), *arguments)
    assert (done.code, done.out) == (2, ""), done.err
    assert done.err.count("\n") == 1
    assert says in done.err
    assert place.runs("robustness") == place.runs("search") == place.runs("prepare") == []


def test_settings_come_from_the_section_then_the_study_then_the_command_line(tmp_path):
    recipe_file = tmp_path / "mine.yaml"
    recipe_file.write_text(
        "search: {trials: 7, epochs: 4, channels: 6, pruner: halving, reduction_factor: 4,\n"
        "  workers: 3, sampler: random}\n"
        "robustness: {search: {epochs: 2, channels: 8}, train: {epochs: 9}}\n"
    )
    config, recipe = read_config("robustness", ["--config", str(recipe_file)])
    found = settings_of(config, recipe, {"search": ["--channels", "10"]})
    search = found["search"]
    assert (search.trials, search.epochs, search.channels, found["train"].epochs) == (7, 2, 10, 9)
    # What would make the samplers' costs differ does not reach the study.
    assert (search.pruner, search.workers, search.reduction_factor) == ("none", 1, 3)


def test_a_seed_reaches_the_study(tmp_path):
    recipe_file = tmp_path / "mine.yaml"
    recipe_file.write_text("seed: 7\n")
    assert read_config("robustness", ["--config", str(recipe_file)])[0] == RobustnessConfig(first_seed=7)


@pytest.mark.parametrize("step", DECIDED)
def test_what_the_study_sets_are_keys(step):
    for key in DECIDED[step]:
        with pytest.raises(ConfigError, match="which the study sets"):
            RobustnessConfig(**{step: {key: None}})
