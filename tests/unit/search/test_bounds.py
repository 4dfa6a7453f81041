"""What is too large is never scored, costs next to nothing, and is remembered."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from dermonas.errors import ConfigError, SearchError
from dermonas.events import Silent
from dermonas.nn.measure import measure
from dermonas.nn.network import Network
from dermonas.search import bounds, samplers
from dermonas.search.bounds import Bounds, CostTable, bounds_of
from dermonas.search.config import SearchConfig, identity
from dermonas.search.loop import Search
from dermonas.search.report import trials_frame
from dermonas.search.samplers.history import ranked
from dermonas.search.trials import event_of
from dermonas.space import zoo
from dermonas.space.darts import DartsSpace
from dermonas.space.genotype import Cell, Edge, Genotype


def live(genotype, channels, layers, resolution):
    cost = measure(Network(genotype, stem="cifar", channels=channels, layers=layers), resolution)
    return cost.parameters - cost.dead_parameters, cost.multiply_adds - cost.dead_multiply_adds


@pytest.mark.parametrize(
    ("nodes", "encoding", "channels", "layers", "resolution"),
    [(4, "first2", 4, 3, 8), (5, "pairs", 2, 6, 8), (5, "all", 6, 4, 12)],
)
def test_the_table_counts_what_nn_measure_counts(nodes, encoding, channels, layers, resolution):
    space, rng = DartsSpace(nodes, encoding), np.random.default_rng(0)
    table = CostTable(channels, layers, resolution)
    found = [space.genotype(space.sample(rng)) for _ in range(8)]
    assert [table(genotype) for genotype in found] == [live(one, channels, layers, resolution) for one in found]


def test_the_table_knows_cells_that_are_never_computed():
    """Without an edge from the previous cell every other cell is dead; the two kinds read different inputs."""
    back = Cell((((Edge("sep_conv_3x3", 0)),), (Edge("dil_conv_5x5", 2), Edge("skip_connect", 0))), (2, 3))
    fore = Cell((((Edge("sep_conv_5x5", 1)),), (Edge("skip_connect", 1), Edge("sep_conv_3x3", 1))), (3,))
    table = CostTable(4, 7, 8)
    for genotype in (Genotype(back, back), Genotype(back, fore), Genotype(fore, back), Genotype(fore, fore)):
        assert table(genotype) == live(genotype, 4, 7, 8)


@pytest.mark.parametrize("name", ["DARTS_V2", "DermoCSNAS_5"])
def test_the_table_counts_published_cells(name):
    assert CostTable(4, 5, 8)(zoo.load(name)) == live(zoo.load(name), 4, 5, 8)


def cost_of(space, theta):
    return TABLE(space.genotype(theta))


TABLE = CostTable(4, 3, 8)


def by_size(bench, count):
    """Thetas of falling parameters."""
    return sorted(bench.thetas(count), key=lambda theta: -cost_of(bench.space, theta)[0])


def search(bench, sampler, objective, trials, limit, observer=None):
    with bench.opened(sampler) as study:
        run = Search(
            study, bench.space, sampler, objective, trials=trials, max_failures=0, observer=observer or Silent(),
            bounds=Bounds(limit, None, TABLE),
        )  # fmt: skip
        return run, run.run(), study.get_trials(), sampler.records(study)


@pytest.mark.parametrize("mode", ["modern", "paper"])
def test_what_is_too_large_is_recorded_and_not_scored(mode, bench, objective, scripted, recorder):
    large, middle, small = by_size(bench, 3)
    limit = cost_of(bench.space, middle)[0] / 1e6  # a bound that is met exactly is met
    scorer, sampler = objective(), scripted([large, middle, large, middle, small], mode)
    run, result, trials, records = search(bench, sampler, scorer, 2, limit, recorder)
    assert scorer.scored == [bench.space.digest(theta) for theta in (middle, small)]
    assert [trial.state.name for trial in trials] == ["PRUNED", "COMPLETE", "PRUNED", "COMPLETE", "COMPLETE"]
    assert result.counts == {"distinct": 2, "duplicate": 1, "pruned": 0, "failed": 0, "bounded": 2}
    kinds = [event_of(trial, bench.space).state for trial in trials]
    assert kinds == ["bounded", "complete", "bounded", "duplicate", "complete"]
    parameters, multiply_adds = cost_of(bench.space, large)
    found = trials[0].user_attrs["result"]["bounded"]
    assert found == {"parameters": parameters, "multiply_adds": multiply_adds}
    assert trials[0].intermediate_values == {}
    assert run.device_seconds == 1.0  # of the two that were scored
    assert [event.state for event in recorder.trials if event.state != "running"] == kinds
    assert recorder.trials[-1].info["total/bounded"] == 2
    frame = trials_frame([event_of(trial, bench.space) for trial in trials])
    assert frame["bounded"].notna().tolist() == [True, False, True, False, False]
    if mode == "paper":  # the history holds complete trials alone
        assert {record.state for record in records} == {"complete"}
    else:
        assert {records[index].number for index in ranked(records)[-2:]} == {0, 2}
    # A search that goes on counts them again.
    _, again, _, _ = search(bench, sampler, objective(), 2, limit)
    assert again.counts == result.counts


def test_a_search_without_bounds_counts_none(bench, objective, scripted):
    _, result, _ = bench.search(scripted(bench.thetas(1)), objective(), 1)
    assert "bounded" not in result.counts


def test_a_row_beyond_the_bound_ends_the_search_and_names_the_smallest(bench, objective, scripted, monkeypatch):
    monkeypatch.setattr(bounds, "ROW", 4)
    *large, small = by_size(bench, 5)
    least = cost_of(bench.space, large[-1])[0] / 1e6
    limit = cost_of(bench.space, small)[0] / 1e6
    # Duplicates do not break the row, what is scored does.
    script = [large[0], small, *large[:2], small, *large[2:]]
    with pytest.raises(SearchError) as caught:
        search(bench, scripted(script), objective(), 2, limit)
    assert str(caught.value) == (
        f"4 proposals in a row are too large: max_parameters_m is {limit:g}, the smallest of them has {least:.4g}; "
        "raise it, or lower channels or layers, under another --study"
    )


@pytest.mark.parametrize("name", ["tpe", "evolution", "local", "random"])
def test_samplers_go_on_by_draws_while_nothing_but_too_large_ones_is_known(name, bench):
    """Imitating what is too large would make the row longer."""
    space = bench.space
    sampler = samplers.make(name, space, 0)
    study = optuna.create_study(sampler=sampler)
    for theta in bench.thetas(30):
        trial = study.ask()
        trial.set_user_attr("theta", list(theta))
        study.tell(trial, state=TrialState.PRUNED)
    records = sampler.records(study)
    assert len(records) == 30
    proposals = {sampler.theta(records, number) for number in range(30, 90)}
    if name == "local":  # climbs from the best of its draws; a bounded neighbour is known
        assert not {space.digest(theta) for theta in proposals} & {record.digest for record in records}
    else:
        assert len({theta[0] for theta in proposals}) > 3
        assert len(proposals) == 60


def test_a_bound_is_checked_and_is_identity():
    for key in ("max_parameters_m", "max_multiply_adds_m"):
        for value in (0.0, -1.0, float("inf"), float("nan")):
            with pytest.raises(ConfigError, match=f"{key} is .*, must be above 0"):
                SearchConfig(**{key: value})
        assert identity(SearchConfig(**{key: 0.5}), "d", "cpu") != identity(SearchConfig(), "d", "cpu")
        assert bounds_of(SearchConfig(**{key: 0.5})) is not None
    assert bounds_of(SearchConfig()) is None
