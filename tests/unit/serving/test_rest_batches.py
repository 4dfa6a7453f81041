"""Batches over requests: equal answers, order, models kept apart, and a fault that stays with whom it belongs to."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch

from dermonas.errors import ConfigError, DataError
from dermonas.serving.rest.batches import Batches
from dermonas.serving.served import BATCH


class Held:
    """A program that begins when it is let."""

    def __init__(self, program):
        self.program, self.go, self.begun, self.sizes = program, threading.Event(), threading.Event(), []

    def __call__(self, views):
        self.begun.set()
        assert self.go.wait(30)
        self.sizes.append(len(views))
        return self.program(views)


@pytest.fixture
def held(tiny):
    program = Held(tiny.served.program)
    return dataclasses.replace(tiny.served, program=program), program


@pytest.fixture
def batches():
    made = Batches()
    yield made
    made.close()


def views(count, seed=0):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_what_waits_becomes_one_batch_and_each_gets_its_own(held, batches, tiny):
    served, program = held
    jobs = [views(count, seed) for seed, count in enumerate((1, 3, 2, 20, 8, 5))]
    answers = [batches.submit(served, jobs[0])]
    assert program.begun.wait(30)
    answers += [batches.submit(served, job) for job in jobs[1:]]
    program.go.set()
    for job, answer in zip(jobs, answers, strict=True):
        wanted = tiny.served.logits(job)
        found = answer.result(30)
        np.testing.assert_allclose(found.logits, wanted.logits, atol=1e-5)
        torch.testing.assert_close(found.features, wanted.features, rtol=1e-5, atol=1e-5)
    # 3 + 2 + 20 leave no room for 8 in a batch of 32; nothing is overtaken.
    assert program.sizes == [1, 25, 13]
    assert BATCH == 32


def test_models_and_kinds_are_not_mixed(held, batches, tiny):
    served, program = held
    other = dataclasses.replace(served, description=dataclasses.replace(served.description, temperature=1.0))
    first = batches.submit(served, views(1))
    assert program.begun.wait(30)
    answers = [
        batches.submit(one, views(1, seed), tta=tta)
        for seed, (one, tta) in enumerate([(served, False), (other, False), (served, True), (served, False)])
    ]
    program.go.set()
    first.result(30)
    wanted = [tiny.served.logits(views(1, seed), tta=seed == 2).logits for seed in range(4)]
    for answer, logits in zip(answers, wanted, strict=True):
        np.testing.assert_allclose(answer.result(30).logits, logits, atol=1e-5)
    assert program.sizes[:3] == [1, 2, 1]


def test_a_job_that_nobody_waits_for_is_left_out(held, batches):
    served, program = held
    first = batches.submit(served, views(1))
    assert program.begun.wait(30)
    forgotten, wanted = batches.submit(served, views(2)), batches.submit(served, views(3))
    assert forgotten.cancel()
    program.go.set()
    assert len(wanted.result(30).logits) == 3
    first.result(30)
    assert program.sizes == [1, 3]


def test_a_fault_stays_with_whom_it_belongs_to(held, batches):
    served, program = held
    program.go.set()
    inner = program.program

    def infinite(seen):
        logits, features = inner(seen)
        return torch.where(seen.flatten(1).amax(1)[:, None] > 100, torch.inf, logits), features

    program.program = infinite
    program.go.clear()
    first = batches.submit(served, views(1))
    assert program.begun.wait(30)
    good, bad = batches.submit(served, views(1)), batches.submit(served, views(1) + 1000)
    program.go.set()
    assert np.isfinite(first.result(30).logits).all()
    assert np.isfinite(good.result(30).logits).all()
    with pytest.raises(DataError, match="not finite"):
        bad.result(30)
    still = dataclasses.replace(served, description=dataclasses.replace(served.description, flips=((),)))
    with pytest.raises(ConfigError):
        batches.submit(still, views(1), tta=True).result(30)
    assert len(batches.submit(served, views(1)).result(30).logits) == 1


def test_it_ends_when_all_that_waits_is_done(held):
    served, program = held
    batches = Batches()
    answers = [batches.submit(served, views(20, seed)) for seed in range(3)]
    closing = threading.Thread(target=batches.close)
    assert program.begun.wait(30)
    closing.start()
    program.go.set()
    closing.join(30)
    assert not closing.is_alive()
    assert [len(answer.result(0).logits) for answer in answers] == [20, 20, 20]
