from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dermonas.seeding import derive, forked, numpy_generator, torch_generator

KEYS = st.lists(st.one_of(st.integers(-(2**70), 2**70), st.text(max_size=8)), max_size=4)


@given(st.integers(-(2**70), 2**70), KEYS)
def test_a_derived_seed_is_stable_and_fits_every_generator(seed, keys):
    value = derive(seed, *keys)
    assert value == derive(seed, *keys)
    assert 0 <= value < 2**63
    assert numpy_generator(seed, *keys).integers(2**62) == numpy_generator(seed, *keys).integers(2**62)
    assert torch.equal(torch.rand(3, generator=torch_generator(seed, *keys)),
                       torch.rand(3, generator=torch_generator(seed, *keys)))  # fmt: skip


@given(st.tuples(st.integers(), KEYS), st.tuples(st.integers(), KEYS))
def test_other_keys_give_another_seed(one, other):
    same = one[0] == other[0] and [(type(k), k) for k in one[1]] == [(type(k), k) for k in other[1]]
    assert (derive(one[0], *one[1]) == derive(other[0], *other[1])) == same


def test_a_known_seed_never_changes():
    # Studies and runs of earlier versions are repeated only as long as these numbers stay.
    assert derive(0) == 4761921975702974394
    assert derive(0, "views", 3) == 8947966865746344730


def test_a_number_and_its_text_are_different_keys():
    assert derive(0, 1) != derive(0, "1")
    assert derive(0, "a", "b") != derive(0, "ab")
    assert derive(1, 2) != derive(12)


def test_streams_of_neighbouring_keys_are_uncorrelated():
    streams = np.stack([numpy_generator(0, "views", epoch).standard_normal(4096) for epoch in range(16)])
    off = np.corrcoef(streams) - np.eye(16)
    assert np.abs(off).max() < 0.09  # about six standard errors
    tensors = torch.stack([torch.randn(4096, generator=torch_generator(seed, "order")) for seed in range(16)])
    assert (torch.corrcoef(tensors) - torch.eye(16)).abs().max() < 0.09


def test_keyed_generators_leave_global_state_alone():
    before = _states()
    numpy_generator(3, "a").random(10)
    torch.rand(10, generator=torch_generator(3, "a"))
    _assert_same(before, _states())


def test_torch_draws_stay_on_the_cpu():
    assert torch_generator(0).device == torch.device("cpu")


def test_forked_seeds_the_block_and_restores_the_outside():
    torch.manual_seed(11)
    expected = torch.rand(4)
    torch.manual_seed(11)
    with forked(5, "construction"):
        first = torch.rand(4)
        torch.manual_seed(99)  # whatever the block does
    assert torch.equal(torch.rand(4), expected)
    with forked(5, "construction"):
        assert torch.equal(torch.rand(4), first)
    with forked(5, "training"):
        assert not torch.equal(torch.rand(4), first)
    with forked(6, "construction"):
        assert not torch.equal(torch.rand(4), first)


def test_forked_restores_after_an_exception_which_passes_through():
    before = _states()

    def fails() -> None:
        with forked(5, "construction"):
            torch.rand(4)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    _assert_same(before, _states())


def test_forked_blocks_nest():
    with forked(1, "outer"):
        torch.rand(1)
        state = torch.get_rng_state()
        with forked(2, "inner"):
            torch.rand(7)
        assert torch.equal(torch.get_rng_state(), state)


def test_forked_covers_every_gpu(monkeypatch):
    forks: list[list[int]] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: contextlib.nullcontext(forks.append(devices)))
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)
    with forked(5):
        pass
    assert forks == [[0, 1]]


def test_torch_is_imported_only_when_asked_for():
    code = """
import sys
from dermonas.seeding import derive, numpy_generator, torch_generator
numpy_generator(0, "a").random()
assert "torch" not in sys.modules
torch_generator(0, "a")
assert "torch" in sys.modules
"""
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=60)


def _states() -> tuple[object, tuple[object, ...], torch.Tensor]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 (the state itself is meant)


def _assert_same(before, after) -> None:
    assert before[0] == after[0]
    assert all(np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True))
    assert torch.equal(before[2], after[2])
