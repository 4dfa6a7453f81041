"""A candidate that fails, and searches that leave each other alone."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest
import torch

from dermonas.events import Silent
from dermonas.objective.contrastive import ContrastiveObjective, ContrastiveSettings
from dermonas.search import samplers
from dermonas.search.loop import Search
from dermonas.search.pruning import make_pruner
from dermonas.search.study import opened
from dermonas.space.darts import DartsSpace

pytestmark = pytest.mark.fault

FAILING = """
def at(number, epoch):
    if number == 0: raise RuntimeError("out of memory, for instance")
    if number == 2: raise NotFinite("loss is nan in epoch 0; a lower learning_rate may help")
"""


def test_a_failing_candidate_fails_its_trial_and_too_many_the_search(place, fake):
    done = place.search("--max_failures", "1", patch=fake + FAILING)
    assert done.code == 1
    message = (
        "2 trials failed, more than max_failures 1; the last: loss is nan in epoch 0; a lower learning_rate may help"
    )
    assert done.last == f"error: {message}"
    (run,) = place.runs("search")
    assert run.info.status == "FAILED"
    assert run.data.tags["dermonas.error"] == message
    again = place.search("--max_failures", "1", patch=fake + FAILING)
    assert again.last == f"error: {message}"
    assert len(place.trials()) == 3  # nothing was tried under the bound that is used up
    done = place.search("--max_failures", "2", patch=fake + FAILING)
    assert done.code == 0, done.err
    assert "(distinct 3, duplicate 0, pruned 0, failed 2)" in done.last
    assert [trial["state"] for trial in place.trials()] == ["FAIL", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    children = {int(child.data.tags["dermonas.trial"]): child for child in place.runs("trial")}
    assert [children[number].info.status for number in range(5)] == [
        "FAILED", "FINISHED", "FAILED", "FINISHED", "FINISHED",
    ]  # fmt: skip
    assert children[0].data.tags["dermonas.error"] == "RuntimeError: out of memory, for instance"
    assert {child.data.tags["mlflow.parentRunId"] for child in children.values()} == {done.run_id}
    assert place.client.get_run(done.run_id).data.metrics["search/failed"] == 2


def test_a_search_in_which_everything_fails_has_no_genotype(place, fake):
    done = place.search(patch=fake + 'def at(*_): raise NotFinite("loss is inf")\n')
    assert done.code == 1
    assert done.out == ""
    assert "11 trials failed, more than max_failures 10" in done.last


def test_a_diverging_learning_rate_fails_trials_and_no_more(place, plain):
    done = place.search("--learning_rate", "1e30", "--max_failures", "0", patch=plain)
    assert done.code == 1
    assert "1 trials failed, more than max_failures 0; the last: loss is" in done.last
    assert "learning_rate" in done.last


def small_search(folder, study_tables, seed, observer=None):
    """A real search of two trials in this process; return what it found."""
    images = np.random.default_rng(3).integers(0, 256, (8, 20, 20, 3), dtype=np.uint8)
    settings = ContrastiveSettings(
        epochs=1, batch_size=4, width=4, channels=2, layers=3, resolution=16, seed=seed, precision="float32"
    )
    space = DartsSpace(4, "pairs")
    sampler = samplers.make("tpe", space, seed)
    shutil.copy(study_tables, folder)
    url = f"sqlite:///{folder}/studies.db"
    with opened(url, f"seed {seed}", {"seed": seed}, sampler, make_pruner("none", 1)) as study:
        objective = ContrastiveObjective(images, settings, torch.device("cpu"))
        search = Search(
            study, space, sampler, objective, trials=2, max_failures=0, observer=observer if observer else Silent()
        )
        search.run()
        return [(t.user_attrs["theta"], t.value) for t in study.get_trials(deepcopy=False)]


def test_a_search_leaves_the_global_random_numbers_alone(tmp_path, study_tables):
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    small_search(tmp_path, study_tables, 0)
    assert random.getstate() == states[0]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), states[1], strict=True))  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_two_searches_in_one_process_are_independent(tmp_path, study_tables):
    for name in ("alone", "nested", "inner"):
        (tmp_path / name).mkdir()
    alone = small_search(tmp_path / "alone", study_tables, 0)
    inner: list[object] = []

    class Nested(Silent):
        """Runs another search, and draws from every global generator, in the middle of the first."""

        def epoch(self, number, epoch, metrics):
            torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
            if not inner:
                inner.append(small_search(tmp_path / "inner", study_tables, 1))

    assert small_search(tmp_path / "nested", study_tables, 0, Nested()) == alone
    assert inner[0] != alone
