"""The settings of `controller-pretrain`: what is refused, what makes another pretraining, what the paper does else."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from mlflow.projects._project_spec import load_project
from workplace import ROOT, TINY

from dermonas.errors import ConfigError
from pipelines.controller_pretrain import inputs_of, warn_of_another_domain
from pipelines.controller_pretrain_config import ControllerPretrainConfig, deviations
from pipelines.recipe import read_config


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--domain", "darts6"], ["domain", "darts6", "nasbench201"]),
        (["--metric", "Margin"], ["metric", "'Margin'", "MarginLoss"]),
        (["--metric", "NoMetricLoss", "--weight", "1"], ["weight", "1.0", "NoMetricLoss"]),
        (["--weight", "-1"], ["weight: -1.0"]),
        (["--batch_size", "30"], ["batch_size: 30", "multiple of 8"]),
        (["--batch_size", "0"], ["batch_size: 0", "multiple of 8"]),
        (["--checkpoint_every", "3"], ["checkpoint_every: 3", "log_every"]),
        (["--iterations", "0"], ["iterations: 0"]),
        (["--milestones", "[0]"], ["milestones: [0]"]),
        (["--gamma", "-1"], ["gamma: -1.0"]),
        (["--hidden", "0"], ["hidden: 0"]),
        (["--anchors", "3"], ["anchors: 3", "4 or more"]),
        (["--vertices", "8"], ["vertices: 8", "2 to 7"]),
        (["--seed", "-1"], ["seed: -1"]),
        (["--fallback", "none"], ["fallback", "none", "redraw"]),
        (["--iteration", "4"], ["'--iteration'", "iterations"]),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(arguments, says):
    with pytest.raises(ConfigError) as caught:
        read_config("controller-pretrain", ["--config", str(TINY), "--domain", "darts4", *arguments])
    assert "\n" not in str(caught.value)
    for word in says:
        assert word in str(caught.value)


def test_what_does_not_change_the_weights_does_not_make_another_pretraining():
    def inputs(**changes):
        return inputs_of(ControllerPretrainConfig(**{"device": "cpu", **changes}))

    known = inputs()
    same = [{"log_every": 50}, {"checkpoint_every": 100}, {"threads": 3}, {"out": Path("here")}, {"fresh": True},
            {"vertices": 5}, {"weight": 1.0}, {"hidden": 32}]  # fmt: skip
    assert {inputs(**changes) for changes in same} == {known}
    others = [{"domain": "darts4"}, {"metric": "NPairsLoss"}, {"weight": 0.5}, {"batch_size": 64}, {"seed": 1},
              {"learning_rate": 0.5}, {"positives": 3}, {"iterations": 9}, {"milestones": [5]}, {"gamma": 0.1},
              {"fallback": "paper"}, {"hidden": 16}, {"mlp_hidden": 8}, {"anchors": 100},
              {"domain": "nasbench101"}, {"domain": "nasbench101", "vertices": 5}]  # fmt: skip
    assert len({known, *(inputs(**changes) for changes in others)}) == 1 + len(others)


def test_the_paper_itself_deviates_only_in_its_order_of_anchors():
    paper = ControllerPretrainConfig(domain="nasbench101", fallback="paper")
    assert deviations(paper, 423_624).keys() == {"anchor_order"}
    assert deviations(ControllerPretrainConfig(), 400_000).keys() == {
        "domain", "hidden", "fallback", "anchors", "anchor_order",
    }  # fmt: skip
    # Half as large a batch: two epochs are twice as many iterations.
    angular = deviations(ControllerPretrainConfig(domain="nasbench101", metric="AngularLoss"), 423_624)
    assert angular["iterations"] == {"paper": 26_476, "here": 13_238}


def test_what_mlflow_run_appends_is_read():
    project = load_project(str(ROOT))
    point = project.get_entry_point("controller-pretrain")
    more = {"metric": "NPairsLoss", "milestones": "[5, 9]", "weight": "1e-1", "hidden": "16"}
    words = shlex.split(point.compute_command({"config": str(TINY), **more}, "."))
    assert words[:3] == ["python", "-m", "pipelines.controller_pretrain"]
    config, recipe = read_config("controller-pretrain", words[3:])
    assert recipe.name == "tiny"
    assert (config.metric, config.milestones, config.weight, config.hidden) == ("NPairsLoss", [5, 9], 0.1, 16)


PHANTOM = ROOT / "pipelines" / "recipes" / "phantom.yaml"
TABLE = PHANTOM.with_name("nasbench101.yaml")
IS_FOR = (
    "the recipe's section controller-pretrain is for {}, and {} takes {} from it: use --config pipelines/recipes/{}"
)
ALL = "batch_size, iterations, milestones"


@pytest.mark.parametrize(
    ("recipe", "arguments", "says"),
    [
        (PHANTOM, "--domain nasbench101", ("nasbench101", ALL)),
        (PHANTOM, "--domain=nasbench201", ("nasbench201", ALL)),
        (PHANTOM, "--domain nasbench201 --batch_size=128 --iterations 9", ("nasbench201", "milestones")),
        (PHANTOM, "--domain nasbench201 --batch_size 512 --iterations 9 --milestones [6]", None),
        (PHANTOM, "--domain darts4", None),
        (PHANTOM, "", None),
        (TABLE, "--domain nasbench101", None),
        (TABLE, "--domain darts5", None),  # it holds what every domain has by default
        (TINY, "--domain nasbench101", None),  # for any
    ],
)
def test_what_was_written_for_another_domain_is_told_in_one_line(recipe, arguments, says, caplog):
    argv = ["--config", str(recipe), *arguments.split()]
    config, read = read_config("controller-pretrain", argv)
    warn_of_another_domain(config, read, argv)
    expected = [] if says is None else [IS_FOR.format("darts5", *says, f"{says[0]}.yaml")]
    assert caplog.messages == expected


def test_a_width_for_a_table_is_told_on_our_space(tmp_path, caplog):
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 3\ncontroller-pretrain: {domain: nasbench101, hidden: 16, vertices: 5, threads: 2}\n")
    config, read = read_config("controller-pretrain", ["--config", str(file), "--domain", "darts4"])
    warn_of_another_domain(config, read)
    assert caplog.messages == [IS_FOR.format("nasbench101", "darts4", "hidden", "phantom.yaml")]
