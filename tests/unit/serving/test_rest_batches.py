"""Batches over requests: equal answers, order, models kept apart, and a fault that stays with whom it belongs to."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch
from packed import VIEW

from dermonas.errors import ConfigError, DataError
from dermonas.imaging.normalise import (
    CIFAR_MEAN,
    CIFAR_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    ISIC_MEAN,
    ISIC_STD,
    normalise,
)
from dermonas.serving.rest.batches import Batches
from dermonas.serving.rest.pixels import normalised, stacked
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


def pixels(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 250, (count, 32, 32, 3), generator=generator, dtype=torch.uint8)


def views(count, seed=0):
    """The same, as the network sees them."""
    return normalise(pixels(count, seed).permute(0, 3, 1, 2), VIEW.mean, VIEW.std)


def test_what_waits_becomes_one_batch_and_each_gets_its_own(held, batches, tiny):
    served, program = held
    jobs = [pixels(count, seed) for seed, count in enumerate((1, 3, 2, 20, 8, 5))]
    answers = [batches.submit(served, jobs[0])]
    assert program.begun.wait(30)
    answers += [batches.submit(served, job) for job in jobs[1:]]
    program.go.set()
    for seed, (job, answer) in enumerate(zip(jobs, answers, strict=True)):
        wanted = tiny.served.logits(views(len(job), seed))
        found = answer.result(30)
        np.testing.assert_allclose(found.logits, wanted.logits, atol=1e-5)
        torch.testing.assert_close(found.features, wanted.features, rtol=1e-5, atol=1e-5)
    # 3 + 2 + 20 leave no room for 8 in a batch of 32; nothing is overtaken.
    assert program.sizes == [1, 25, 13]
    assert BATCH == 32


def test_models_and_kinds_are_not_mixed(held, batches, tiny):
    served, program = held
    other = dataclasses.replace(served, description=dataclasses.replace(served.description, temperature=1.0))
    first = batches.submit(served, pixels(1))
    assert program.begun.wait(30)
    answers = [
        batches.submit(one, pixels(1, seed), tta=tta)
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
    first = batches.submit(served, pixels(1))
    assert program.begun.wait(30)
    forgotten, wanted = batches.submit(served, pixels(2)), batches.submit(served, pixels(3))
    assert forgotten.cancel()
    program.go.set()
    assert len(wanted.result(30).logits) == 3
    first.result(30)
    assert program.sizes == [1, 3]


WHITE = (1 - VIEW.mean[2]) / VIEW.std[2] - 0.01  # the last channel of 255, and of nothing less


def test_a_fault_stays_with_whom_it_belongs_to(held, batches):
    served, program = held
    program.go.set()
    inner = program.program

    def infinite(seen):
        logits, features = inner(seen)
        return torch.where(seen[:, 2].flatten(1).amax(1)[:, None] > WHITE, torch.inf, logits), features

    program.program = infinite
    program.go.clear()
    first = batches.submit(served, pixels(1))
    assert program.begun.wait(30)
    good, bad = (
        batches.submit(served, pixels(1)),
        batches.submit(served, torch.full((1, 32, 32, 3), 255, dtype=torch.uint8)),
    )
    program.go.set()
    assert np.isfinite(first.result(30).logits).all()
    assert np.isfinite(good.result(30).logits).all()
    with pytest.raises(DataError, match="not finite"):
        bad.result(30)
    still = dataclasses.replace(served, description=dataclasses.replace(served.description, flips=((),)))
    with pytest.raises(ConfigError):
        batches.submit(still, pixels(1), tta=True).result(30)
    assert len(batches.submit(served, pixels(1)).result(30).logits) == 1


def test_it_ends_when_all_that_waits_is_done(held):
    served, program = held
    batches = Batches()
    answers = [batches.submit(served, pixels(20, seed)) for seed in range(3)]
    closing = threading.Thread(target=batches.close)
    assert program.begun.wait(30)
    closing.start()
    program.go.set()
    closing.join(30)
    assert not closing.is_alive()
    assert [len(answer.result(0).logits) for answer in answers] == [20, 20, 20]


def test_pixels_are_normalised_bit_for_bit(cells, images):
    crops = [cells.served.crop(image) for image in images]
    found = normalised(stacked(crops), cells.description.mean, cells.description.std)
    assert torch.equal(found, torch.stack([cells.served.view(image) for image in images]))
    assert found.is_contiguous(memory_format=torch.channels_last)
    values = torch.arange(256, dtype=torch.uint8)[None, :, None, None].expand(1, 256, 5, 3)
    for mean, std in ((ISIC_MEAN, ISIC_STD), (CIFAR_MEAN, CIFAR_STD), (IMAGENET_MEAN, IMAGENET_STD)):
        assert torch.equal(normalised(values, mean, std), normalise(values.permute(0, 3, 1, 2), mean, std))
