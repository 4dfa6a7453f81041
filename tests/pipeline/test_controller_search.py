"""`controller-search`: a made-up table, any sampler, one tracked arm; killed, repeated, refused."""

from __future__ import annotations

import base64
import json
import re
import signal
import struct

import numpy as np
import pandas as pd
import pytest
import yaml
from workplace import TINY

from dermonas.controller.languages import language_of
from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.storage import load_controller, save_controller
from dermonas.data.benchmarks.nasbench201 import read_nasbench201
from dermonas.data.benchmarks.tfrecord import crc32c, masked
from dermonas.search import samplers
from dermonas.search.nao_config import nao_settings
from dermonas.search.samplers.nao import NaoSettings
from dermonas.search.tabular import initial_pool, search_table
from dermonas.space.nasbench101 import NasBench101Space
from dermonas.space.nasbench201 import NasBench201Space, architecture
from pipelines.controller_search_config import ControllerSearchConfig, depends_on, deviations, target_of
from pipelines.recipe import read_config

SPACE = NasBench201Space()
LAST = re.compile(r"run ([0-9a-f]{32}) accuracy (\d+\.\d\d)( \+- \d+\.\d\d)? \((\d+) seeds?, (\d+) queries\)\n")
SCRATCH = ("--controller", "scratch")
NO_PLOT = """
import pipelines.controller_search as controller_search
controller_search.write_regret = lambda *_: []
"""
DIES = NO_PLOT + """
import os, signal
from dermonas.search.tabular_benchmark import Benchmark
validation, asked = Benchmark.validation, 0
def dies(self, theta, seed):
    global asked
    asked += 1
    if asked > {}: os.kill(os.getpid(), signal.SIGKILL)
    return validation(self, theta, seed)
Benchmark.validation = dies
"""  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A made-up NAS-Bench-201 table: an accuracy is a sum over the edges, and some noise."""
    rng = np.random.default_rng(0)
    choices = np.stack(np.unravel_index(np.arange(5**6), (5,) * 6), axis=1)
    worth = rng.random((6, 5))
    sums = worth[np.arange(6), choices].sum(axis=1)
    validation = 10 + 80 * sums / sums.max() + 2 * rng.random(5**6)
    frame = pd.DataFrame({"index": range(5**6), "arch": [architecture(tuple(row)) for row in choices.tolist()]})
    frame["c10_val_e12"] = validation
    frame["c10_test_e200"] = np.clip(validation + 3 * rng.standard_normal(5**6), 0, 100)
    file = tmp_path_factory.mktemp("table") / "made-up.csv"
    frame.to_csv(file, index=False)
    return file


@pytest.fixture
def search(place, table):
    """Return a function that runs a small search in this place."""
    given = ("--config", str(TINY), "--table", str(table))

    def run(*arguments, patch=NO_PLOT, where=place):
        return where.run("controller_search", *given, *arguments, patch=patch)

    return run


def run_of(place, done):
    assert done.code == 0, done.err
    found = LAST.fullmatch(done.out)
    assert found is not None, done.out
    return place.client.get_run(found[1])


def frame(place, run, name):
    return pd.read_parquet(place.artifacts(run) / f"{name}.parquet")


def test_an_arm_is_one_run_with_its_tables_curves_and_plot(place, search, table):
    done = search("--sampler", "evolution", "--first_seed", "5", patch="")
    run = run_of(place, done)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "search-nasbench201-evolution"
    assert place.client.get_experiment(run.info.experiment_id).name == "dermonas/controller/nasbench201"
    tags = run.data.tags
    assert (tags["dermonas.stage"], tags["dermonas.controller"], tags["dermonas.arm"]) == (
        "controller", "search", "evolution",
    )  # fmt: skip
    wanted = {"domain": "nasbench201", "dataset": "cifar10", "sampler": "evolution", "controller": "", "metric": "",
              "seeds": "2", "queries": "16", "initial": "4", "first_seed": "5"}  # fmt: skip
    assert {key: run.data.params[key] for key in wanted} == wanted
    folder = place.artifacts(run)
    assert {path.name for path in folder.iterdir()} == {
        "queries.parquet", "seeds.parquet", "config.yaml", "deviations.json", "regret.png", "regret.svg",
    }  # fmt: skip
    assert yaml.safe_load((folder / "config.yaml").read_text())["table"] == str(table)
    assert json.loads((folder / "deviations.json").read_text()) == {}

    queries, truth = frame(place, run, "queries"), read_nasbench201(table, "cifar10")
    assert list(queries) == ["seed", "query", "round", "theta", "digest", "validation", "test"]
    assert queries.groupby("seed")["query"].apply(list).to_dict() == {5: [*range(1, 17)], 6: [*range(1, 17)]}
    assert not queries.duplicated(["seed", "digest"]).any()
    for row in queries.itertuples():
        theta = tuple(json.loads(row.theta))
        assert row.digest == SPACE.digest(theta)
        assert (row.validation, row.test) == (truth.validation(theta), truth.test(theta))
    assert frame(place, run, "seeds")["seed"].tolist() == [5, 6]

    found = []  # of each seed the best by validation after each query
    for _, rows in queries.groupby("seed"):
        best = [rows["validation"][:count].idxmax() for count in range(1, 17)]
        found.append(rows.loc[best, ["validation", "test"]].to_numpy())
    validation, test = np.mean(found, axis=0).T
    for name, curve in {
        "test_accuracy": test, "validation_best": validation, "regret": truth.test_accuracy.max() - test,
        "regret_validation": truth.validation_accuracy.max() - validation,
    }.items():  # fmt: skip
        told_steps, values = zip(*place.curve(run, f"controller/{name}"), strict=True)
        assert told_steps == tuple(range(1, 17))
        assert values == pytest.approx(curve)
    last = [100 * one[-1, 1] for one in found]
    metrics = run.data.metrics
    assert metrics["controller/test_accuracy_mean"] == pytest.approx(np.mean(last) / 100)
    assert metrics["controller/test_accuracy_std"] == pytest.approx(np.std(last, ddof=1) / 100)
    assert metrics["controller/duplicates"] == frame(place, run, "seeds")["duplicates"].mean()
    assert done.out.endswith(f"accuracy {np.mean(last):.2f} +- {np.std(last, ddof=1):.2f} (2 seeds, 16 queries)\n")
    told = [line for line in done.err.splitlines() if line.startswith("[")]
    assert [line.split(",")[0] for line in told] == [
        f"[{number}/2] evolution seed {number + 4}: accuracy {accuracy:.2f}"
        for number, accuracy in enumerate(last, start=1)
    ]
    assert re.search(r"about \d+ s left$", told[0])


def test_an_equal_search_is_found_a_longer_one_goes_on_and_a_fresh_one_begins_anew(place, search):
    first = run_of(place, search("--sampler", "random", "--seeds", "1"))
    assert "controller/test_accuracy_std" not in first.data.metrics
    # What only another sampler reads, where things lie and how fast they go makes no other search.
    again = search("--sampler", "random", "--seeds", "1", "--tournament", "3", "--nao_count", "9", "--threads", "2")
    assert run_of(place, again).info.run_id == first.info.run_id
    assert "--fresh true searches anew" in again.err
    refuse = (
        NO_PLOT
        + """
import dermonas.search.tabular_seed as tabular_seed
search_table = tabular_seed.search_table
def only_new(sampler, *more, **named):
    assert sampler.seed == 1, sampler.seed
    return search_table(sampler, *more, **named)
tabular_seed.search_table = only_new
"""
    )
    more = run_of(place, search("--sampler", "random", patch=refuse))
    assert more.info.run_id != first.info.run_id
    old, both = frame(place, first, "queries"), frame(place, more, "queries")
    pd.testing.assert_frame_equal(both[both["seed"] == 0], old)
    fresh = run_of(place, search("--sampler", "random", "--fresh", "true"))
    assert fresh.info.run_id != more.info.run_id
    pd.testing.assert_frame_equal(frame(place, fresh, "queries"), both)
    named = run_of(place, search("--sampler", "random", "--arm", "mine", patch=refuse.replace("== 1", "is None")))
    assert named.data.tags["dermonas.arm"] == "mine"
    assert named.info.run_name == "search-nasbench201-mine"


def test_samplers_share_the_initial_pool_of_a_seed(place, search):
    pools, rest = set(), set()
    for name in ("tpe", "local", "nao"):
        done = search("--sampler", name, *(SCRATCH if name == "nao" else ()))
        queries = frame(place, run_of(place, done), "queries")
        start = queries[queries["query"] <= 4]
        pools.add(tuple(zip(start["seed"], start["theta"], strict=True)))
        rest.add(tuple(queries["theta"]))
    assert pools == {
        tuple((seed, json.dumps(list(theta))) for seed in (0, 1) for theta in initial_pool(SPACE, seed, 4))
    }
    assert len(rest) == 3


def test_nao_tells_its_rounds_and_keeps_its_controller(place, search, tmp_path):
    language = language_of(SPACE)
    file = tmp_path / "pretrained.pt"
    controller = Controller(ControllerSettings(language.vocabulary, language.length), 7)
    save_controller(file, controller, language, {"metric": "MarginLoss"})
    run = run_of(place, search("--controller", str(file)))
    assert run.data.tags["dermonas.arm"] == "nao-MarginLoss"
    assert (run.data.params["metric"], run.data.params["controller"]) == ("MarginLoss", str(file))
    assert run.data.params["nao_count"] == "4"
    scratch = run_of(place, search(*SCRATCH))
    assert scratch.data.tags["dermonas.arm"] == "nao-scratch"
    assert (scratch.data.params["metric"], scratch.data.params["controller"]) == ("none", "scratch")
    assert not frame(place, scratch, "queries").equals(frame(place, run, "queries"))

    queries, rounds = frame(place, run, "queries"), frame(place, run, "rounds")
    assert list(rounds) == [
        "seed", "round", "pool", "error", "reconstruction", "rank_correlation", "held_out_rank_correlation", "decoded",
        "valid", "novel", "relabelled", "neighbours", "fallbacks", "seconds",
    ]  # fmt: skip
    for seed in (0, 1):
        mine, asked = rounds[rounds["seed"] == seed], queries[queries["seed"] == seed]
        assert mine["round"].tolist() == [*range(1, len(mine) + 1)] == sorted({*asked["round"]} - {0})
        assert (asked["round"] == 0).sum() == 6
        assert mine["pool"].tolist() == [(asked["round"] < number).sum() for number in mine["round"]]
    for name, column in {"rank_correlation": "rank_correlation", "predictor_error": "error",
                         "reconstruction": "reconstruction", "relabelled": "relabelled", "neighbours": "neighbours",
                         "fallbacks": "fallbacks"}.items():  # fmt: skip
        means = rounds.groupby("round")[column].mean()
        steps, values = zip(*place.curve(run, f"controller/{name}"), strict=True)
        assert steps == tuple(means.index)
        assert values == pytest.approx(means.to_numpy())
    share = (rounds["valid"] / rounds["decoded"]).groupby(rounds["round"]).mean()
    assert [value for _, value in place.curve(run, "controller/validity")] == pytest.approx(share.tolist())
    stored = load_controller(place.artifacts(run) / "controller-searched.pt", language)
    assert stored.info == {"domain": "nasbench201", "seed": 0, "rounds": (rounds["seed"] == 0).sum(), "queries": 16}
    before = controller.state_dict()
    assert any((before[key] != value).any() for key, value in stored.controller.state_dict().items())
    assert json.loads((place.artifacts(run) / "deviations.json").read_text())["nao_count"] == {
        "paper": 128, "here": 4,
    }  # fmt: skip


@pytest.mark.fault
@pytest.mark.parametrize("arm", ["evolution", "nao"])
def test_a_killed_search_goes_on_as_if_it_had_not(arm, make_place, search):
    arguments = ("--sampler", arm, *(SCRATCH if arm == "nao" else ()))
    whole, place = make_place("whole"), make_place("killed")
    expected = run_of(whole, search(*arguments, where=whole))
    # A seed's queries are asked for twice, by the search and for its table: 11, and then in the second seed.
    for after in (11, 16 + 16 + 3):
        assert search(*arguments, patch=DIES.format(after), where=place).code == -signal.SIGKILL
    done = search(*arguments, where=place)
    run = run_of(place, done)
    pd.testing.assert_frame_equal(frame(place, run, "queries"), frame(whole, expected, "queries"))
    assert frame(place, run, "seeds")["duplicates"].equals(frame(whole, expected, "seeds")["duplicates"])
    if arm == "nao":
        tables = [frame(*pair, "rounds").drop(columns="seconds") for pair in ((place, run), (whole, expected))]
        pd.testing.assert_frame_equal(*tables)
        weights = [load_controller(one.artifacts(of) / "controller-searched.pt").controller.state_dict()
                   for one, of in ((place, run), (whole, expected))]  # fmt: skip
        assert all((weights[0][key] == weights[1][key]).all() for key in weights[1])
    earlier = [one for one in place.runs("controller") if one.info.run_id != run.info.run_id]
    assert [one.info.status for one in earlier] == ["KILLED", "KILLED"]
    assert run.info.run_id in {one.data.tags["dermonas.continued_by"] for one in earlier}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sampler", "grid"], "sampler: 'grid' is not possible; give one of tpe, random, evolution, local, nao"),
        (["--queries", "0"], "queries: 0 is not possible; give 1 or more"),
        (["--queries", "6"], "queries: 6 is not possible; give more than nao_initial (6)"),
        (["--dataset", "svhn"], "dataset: 'svhn' is not possible"),
        (["--domain", "nasbench101", "--dataset", "cifar100"], "dataset: 'cifar100' is not possible with nasbench101"),
        (["--noise", "first"], "noise: 'first' is not possible with nasbench201"),
        (["--sampler", "local", "--controller", "x.pt"], "controller: 'x.pt' is not possible with local"),
        (["--nao_count", "0"], "nao_count: 0 is not possible"),
        (["--nao_initial", "1"], "nao_initial is 1"),
        (["--nao_at_least", "5"], "nao_at_least: 5 is more than count (4)"),
        (["--nao_epochs", "0"], "nao_epochs: 0 is not possible"),
        (["--nao_learning_rate", "0"], "nao_learning_rate: 0.0 is not possible"),
        (["--nao_target", "best"], "nao_target: 'best' is not possible; give pool, paper, or two accuracies"),
        (["--nao_target", "0.9,0.8"], "nao_target: '0.9,0.8' is not possible; give two accuracies in 0 to 1"),
        (["--sampler", "tpe", "--tpe", "own"], "tpe preset is 'own'"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line(arguments, says):
    from dermonas.errors import ConfigError

    with pytest.raises(ConfigError) as caught:
        read_config("controller-search", ["--config", str(TINY), *arguments])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refusal_is_one_line_and_exit_code_2(place, search):
    for arguments, says in (
        (("--sampler", "random", "--table", "nowhere.csv"), "table is nowhere.csv, which is no file: give nasbench201"),
        (("--sampler", "random", "--queries", "zero"), "queries"),
        (("--controller", "nothing"), "controller"),
    ):
        done = search(*arguments)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
        assert says in done.last
    assert place.runs("controller") == []


def test_defaults_are_the_samplers_own_and_the_papers_values_deviate_in_nothing():
    config = ControllerSearchConfig()
    assert nao_settings(config) == NaoSettings()
    paper = {name: value["paper"] for name, value in deviations(config).items()}
    assert {"nao_initial", "nao_seeds", "nao_count", "nao_weight", "nao_learning_rate"} < paper.keys()
    assert deviations(ControllerSearchConfig(**paper)) == {}
    target = target_of(ControllerSearchConfig(nao_target="paper"))
    assert target is not None
    # y = max(accuracy - .8, 0) * 5 of the loss 1 - accuracy.
    assert target([1 - 0.7, 1 - 0.85, 1 - 1.0]) == pytest.approx([0, 0.25, 1], abs=1e-6)
    config = ControllerSearchConfig(sampler="random", tournament=3, nao_count=2)
    assert depends_on(config, "t", "") == depends_on(ControllerSearchConfig(sampler="random"), "t", "")
    for key, value in {"queries": 50, "initial": 3, "dataset": "cifar100", "mode": "paper"}.items():
        other = ControllerSearchConfig(**{"sampler": "random", key: value})
        assert depends_on(other, "t", "") != depends_on(config, "t", "")


def record(spec, repeat):
    """One training of one graph in the official file's format, its accuracies made from the hash."""
    worth = int(spec.digest[repeat], 16) / 32 + 0.4

    def field(number, value):
        return bytes([8 * number + 1]) + struct.pack("<d", value)

    evaluation = field(2, 1000.0) + field(4, worth) + field(5, worth - 0.1)
    metrics = b"".join(b"\x0a" + bytes([len(evaluation)]) + evaluation for _ in range(3)) + b"\x10\x64"
    adjacency = "".join(str(cell) for line in spec.matrix for cell in line)
    content = [spec.digest, 108, adjacency, ",".join(spec.operations), base64.b64encode(metrics).decode()]
    data, parts = json.dumps(content).encode(), []
    for part in (struct.pack("<Q", len(data)), data):
        parts += [part, struct.pack("<I", int(masked(crc32c([part]))[0]))]
    return b"".join(parts)


def test_nasbench101_is_searched_as_far_as_a_partial_file_goes(place, search, tmp_path):
    space = NasBench101Space()
    asked = {}
    for seed in (0, 1):  # what random asks for does not depend on the answers
        sampler = samplers.make("random", space, seed)
        for one in search_table(sampler, lambda theta: 0.5, 16, initial_pool(space, seed, 4)):
            asked[one.digest] = space.spec(one.theta).pruned
    file = tmp_path / "small.tfrecord"
    file.write_bytes(b"".join(record(spec, repeat) for spec in asked.values() for repeat in range(3)))
    arguments = ("--sampler", "random", "--domain", "nasbench101", "--table", str(file))
    done = search(*arguments)
    run = run_of(place, done)
    assert f"holds {len(asked)} of 423624 graphs" in done.err
    assert place.client.get_experiment(run.info.experiment_id).name == "dermonas/controller/nasbench101"
    queries = frame(place, run, "queries")
    repeats = set()
    for row in queries.itertuples():
        worth = [int(digit, 16) / 32 + 0.4 for digit in row.digest[:3]]
        assert row.validation in worth
        assert row.test == pytest.approx(np.mean(worth) - 0.1)
        repeats.add(worth.index(row.validation))
    assert repeats == {0, 1, 2}
    first = frame(place, run_of(place, search(*arguments, "--noise", "first")), "queries")
    assert first["digest"].equals(queries["digest"])
    assert first["validation"].tolist() == [int(digest[0], 16) / 32 + 0.4 for digest in first["digest"]]

    lost = queries["digest"][11]
    file.write_bytes(b"".join(record(asked[d], repeat) for d in asked if d != lost for repeat in range(3)))
    done = search(*arguments)
    assert done.code == 1
    assert re.fullmatch(
        rf"error: {file}: graph {lost} is not among the table's {len(asked) - 1}: .*nasbench_only108.*", done.last
    )
    (failed,) = (one for one in place.runs("controller") if one.info.status == "FAILED")
    assert failed.data.tags["dermonas.error"] == done.last.removeprefix("error: ")
