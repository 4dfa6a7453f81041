"""One seed's search on disk: killed and gone on with, finished, damaged."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from tables import SPACE, made_up, sampler_of

from dermonas.controller.language import Language
from dermonas.controller.languages import language_of
from dermonas.controller.storage import load_controller
from dermonas.errors import StorageError
from dermonas.search.tabular import initial_pool, search_table
from dermonas.search.tabular_seed import search_seed

QUERIES, INITIAL, SEED = 20, 4, 3


@pytest.fixture(scope="module")
def benchmark_():
    return made_up()


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


class Dying:
    """A benchmark that kills the search at its nth query."""

    def __init__(self, benchmark, after):
        self.benchmark, self.left = benchmark, after

    def __getattr__(self, name):
        return getattr(self.benchmark, name)

    def validation(self, theta, seed):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.benchmark.validation(theta, seed)


def search(benchmark, name, folder, seed=SEED):
    return search_seed(benchmark, lambda seed, kept: sampler_of(name, seed, kept), seed, QUERIES, INITIAL, folder)


def same(result):
    """What must not depend on kills; written, for nan is not nan."""
    rounds = tuple(replace(one, seconds=0.0) for one in result.rounds)
    return repr(replace(result, seconds=0.0, rounds=rounds))


@pytest.mark.parametrize("name", ["evolution", "tpe", "nao"])
def test_a_killed_search_ends_as_an_uninterrupted_one(benchmark_, name, tmp_path):
    whole = search(benchmark_, name, tmp_path / "whole")
    folder = tmp_path / "killed"
    for after in (2, 9, 5):
        with pytest.raises(Killed):
            search(Dying(benchmark_, after), name, folder)
        file = folder / f"seed-{SEED:04d}.jsonl"
        file.write_bytes(file.read_bytes()[:-4])  # as a crash cuts a line
    lines = [json.loads(line) for line in file.read_text().splitlines()[:-1]]
    file.write_text("".join(json.dumps({**line, "seconds": line["seconds"] + 1000}) + "\n" for line in lines))
    result = search(benchmark_, name, folder)
    assert same(result) == same(whole)
    assert 1000 < result.seconds < 1600
    left = {path.name for path in folder.iterdir()}
    assert left == {path.name for path in (tmp_path / "whole").iterdir()}
    assert left == {f"seed-{SEED:04d}.json", *([f"seed-{SEED:04d}.pt"] if name == "nao" else [])}
    if name == "nao":
        kept = [load_controller(place / f"seed-{SEED:04d}.pt", language_of(SPACE)).controller.state_dict()
                for place in (folder, tmp_path / "whole")]  # fmt: skip
        assert all((kept[0][key] == kept[1][key]).all() for key in kept[1])


def test_a_kill_between_the_last_record_and_the_result_loses_no_round(benchmark_, tmp_path, monkeypatch):
    whole = search(benchmark_, "nao", tmp_path / "whole")

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("dermonas.search.tabular_seed.save_controller", die)
        with pytest.raises(Killed):
            search(benchmark_, "nao", tmp_path)
    assert same(search(benchmark_, "nao", tmp_path)) == same(whole)


def test_a_resumed_round_is_read_and_not_trained_anew(benchmark_, tmp_path, monkeypatch):
    import dermonas.search.samplers.nao_rounds as nao_rounds

    trained = []
    real = nao_rounds.train_on_pool
    monkeypatch.setattr(nao_rounds, "train_on_pool", lambda *a: trained.append(a[5]) or real(*a))
    with pytest.raises(Killed):
        search(Dying(benchmark_, 12), "nao", tmp_path)
    before = list(trained)
    result = search(benchmark_, "nao", tmp_path)
    assert before == list(range(len(before)))
    assert trained == list(range(len(result.rounds)))


def test_a_finished_seed_is_read(benchmark_, tmp_path):
    first = search(benchmark_, "random", tmp_path)

    def refuse(seed, kept):
        raise AssertionError

    assert search_seed(benchmark_, refuse, SEED, QUERIES, INITIAL, tmp_path) == first
    assert search(benchmark_, "random", tmp_path, seed=SEED + 1) != first


@pytest.mark.parametrize("name", ["random", "evolution", "local", "tpe", "nao"])
def test_queries_are_the_distinct_networks_with_what_the_table_says(benchmark_, name, tmp_path):
    result = search(benchmark_, name, tmp_path)
    queries = result.queries
    assert [query.query for query in queries] == list(range(1, QUERIES + 1))
    assert len({query.digest for query in queries}) == QUERIES
    assert [query.theta for query in queries[:INITIAL]] == initial_pool(SPACE, SEED, INITIAL)
    for query in queries:
        assert query.digest == SPACE.digest(query.theta)
        assert query.validation == benchmark_.validation(query.theta, SEED)
        assert query.test == benchmark_.test(query.theta)
    records = search_table(
        sampler_of(name, SEED), lambda theta: 1 - benchmark_.validation(theta, SEED), QUERIES, initial_pool(
            SPACE, SEED, INITIAL)
    )  # fmt: skip
    assert result.duplicates == len(records) - QUERIES
    if name != "nao":
        assert result.rounds == ()
        assert {query.round for query in queries} == {0}


def test_rounds_are_those_of_the_sampler(benchmark_, tmp_path):
    result = search(benchmark_, "nao", tmp_path)
    sampler = sampler_of("nao", SEED)
    records = search_table(
        sampler, lambda theta: 1 - benchmark_.validation(theta, SEED), QUERIES, initial_pool(SPACE, SEED, INITIAL)
    )
    assert len(result.rounds) == len(sampler.rounds) >= 4
    assert [one.round for one in result.rounds] == list(range(1, len(sampler.rounds) + 1))
    first = sampler.rounds[0].first
    assert {query.round for query in result.queries[:first]} == {0}
    language: Language = language_of(SPACE)
    for facts, made in zip(result.rounds, sampler.rounds, strict=True):
        assert facts.pool == made.pool == sum(query.round < facts.round for query in result.queries)
        assert (facts.error, facts.reconstruction) == (made.error, made.reconstruction)
        assert facts.novel + facts.neighbours + facts.fallbacks == len(made.candidates)
        assert facts.valid >= facts.novel
        assert facts.decoded == facts.valid + sum(
            count for reason, count in made.proposal.rejected.items() if not reason.startswith("in the ")
        )
        tried = records[made.first : made.first + len(made.candidates)]
        assert [record.theta for record in tried] == list(made.candidates)[: len(tried)]
        if len(tried) > 1:
            rho = spearmanr(made.predicted[: len(tried)], [benchmark_.validation(r.theta, SEED) for r in tried])
            assert facts.held_out_rank_correlation == pytest.approx(rho.statistic, nan_ok=True)
        assert np.isfinite(facts.rank_correlation)
    assert language.name in (tmp_path / f"seed-{SEED:04d}.pt").read_bytes().decode("latin1")


def test_a_damaged_line_or_result_is_named(benchmark_, tmp_path):
    with pytest.raises(Killed):
        search(Dying(benchmark_, 8), "random", tmp_path)
    file = tmp_path / f"seed-{SEED:04d}.jsonl"
    lines = file.read_text().splitlines()
    for damage in ("{", '{"theta": [0, 0], "value": 0.5, "seconds": 1}', '{"value": 0.5}', "[]"):
        file.write_text("\n".join([*lines[:2], damage, *lines[3:]]) + "\n")
        with pytest.raises(StorageError, match=r"jsonl, line 3 is damaged .*delete the file") as caught:
            search(benchmark_, "random", tmp_path)
        assert "\n" not in str(caught.value)
    result = tmp_path / f"seed-{SEED:04d}.json"
    for damage in ("{}", "", '{"seed": 3, "seconds": 1, "duplicates": 0, "queries": [{}], "rounds": []}'):
        result.write_text(damage)
        with pytest.raises(StorageError, match=r"json is damaged .*delete it"):
            search(benchmark_, "random", tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(benchmark_, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*seed-0003.jsonl: .*free space or choose another folder"):
        search(benchmark_, "random", tmp_path / "file" / "below")
