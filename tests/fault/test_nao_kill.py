"""A search by nao that died goes on with the rounds that it would have had."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.fault

NAO = (
    "--sampler", "nao", "--trials", "8", "--nao_initial", "2", "--nao_count", "3", "--nao_epochs", "3",
    "--nao_constrained", "true", "--nao_at_least", "3",
)  # fmt: skip

DEATHS = {
    "in the middle of a round": """
def at(number, epoch):
    if (number, epoch) == (3, 1): os._exit(9)
""",
    "while the second round is trained": """
import dermonas.search.samplers.nao_rounds as rounds
train = rounds.train_on_pool
def die(*arguments):
    if arguments[-1] == 1: os._exit(9)
    return train(*arguments)
rounds.train_on_pool = die
""",
    "before the second round is on disk": """
import dermonas.search.samplers.nao_rounds as rounds
write = rounds.write_atomically
def die(path, content):
    if path.name.startswith("round-001"): os._exit(9)
    write(path, content)
rounds.write_atomically = die
""",
    "before the rounds are told": """
search.facts_of = lambda *_: os._exit(9)
""",
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    known = []

    def get(make_place, patch):
        if not known:
            place = make_place("uninterrupted")
            done = place.search(*NAO, patch=patch)
            assert done.code == 0, done.err
            known.append((place.trials(), done.out.split()[3]))
        return known[0]

    return get


@pytest.mark.parametrize("death", DEATHS)
def test_a_search_by_nao_that_died_goes_on_as_if_it_had_not(death, make_place, uninterrupted, fake, check_complete):
    trials, digest = uninterrupted(make_place, fake)
    place = make_place()
    assert place.search(*NAO, patch=fake + DEATHS[death]).code == 9
    done = place.search(*NAO, patch=fake)
    assert done.code == 0, done.err
    assert place.trials() == trials
    assert done.out.split()[3] == digest
    check_complete(place, done.run_id, starts=2)
    # One controller was pretrained, and both processes searched with it.
    assert "using that of run" in done.err
    assert len([run for run in place.runs("controller") if run.info.status == "FINISHED"]) == 1
    rounds = sorted(path.name[:9] for path in place.folder.glob("outputs/nao/*/round-*.pt"))
    assert rounds == ["round-000", "round-001"]
    told = place.client.get_metric_history(done.run_id, "controller/predictor_error")
    assert [metric.step for metric in told] == [2, 5]
