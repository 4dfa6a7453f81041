"""The memory bank against the slow recurrence of spec/csnas.md 2.4."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dermonas.contrastive.memory import MemoryBank

Epoch = list[tuple[list[int], np.ndarray]]


class SlowBank:
    """One image at a time, in float64, as the recurrence reads."""

    def __init__(self, images: int, width: int) -> None:
        self.sums = [np.zeros(width) for _ in range(images)]
        self.rows = [np.zeros(width) for _ in range(images)]
        self.count = 1.0

    def fill(self, index: list[int], z: np.ndarray) -> None:
        for i, row in zip(index, z, strict=True):
            self.sums[i] = row.astype(float)
            self.rows[i] = row.astype(float)

    def begin_epoch(self) -> None:
        self.count = 1 + 0.5 * self.count

    def update(self, index: list[int], z: np.ndarray) -> None:
        for i, row in zip(index, z, strict=True):
            self.sums[i] = row + 0.5 * self.sums[i]
            self.rows[i] = self.sums[i] / self.count


def epochs(images: int, width: int, batch: int, count: int, seed: int) -> list[Epoch]:
    """`count` epochs of shuffled batches with their z; the last batch may be partial."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        order = rng.permutation(images)
        batches = [order[i : i + batch].tolist() for i in range(0, images, batch)]
        out.append([(index, rng.normal(size=(len(index), width)).astype(np.float32)) for index in batches])
    return out


def play(bank: MemoryBank | SlowBank, history: list[Epoch], first: bool) -> None:
    for k, epoch in enumerate(history):
        filling = first and k == 0
        if not filling:
            bank.begin_epoch()
        for index, z in epoch:
            act = bank.fill if filling else bank.update
            if isinstance(bank, SlowBank):
                act(index, z)
            else:
                act(torch.tensor(index), torch.from_numpy(z))


def assert_equal(bank: MemoryBank, slow: SlowBank) -> None:
    np.testing.assert_allclose(bank.rows.numpy(), np.array(slow.rows), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bank.sums.numpy(), np.array(slow.sums), rtol=1e-5, atol=1e-6)
    assert float(bank.count) == pytest.approx(slow.count)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(2, 9), st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
def test_equals_the_slow_recurrence(images: int, width: int, batch: int, count: int, seed: int) -> None:
    history = epochs(images, width, batch, count, seed)
    bank, slow = MemoryBank(images, width), SlowBank(images, width)
    for k, epoch in enumerate(history):
        play(bank, [epoch], first=k == 0)
        play(slow, [epoch], first=k == 0)
        assert_equal(bank, slow)


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_new_bank_continues_from_the_state_dict(stop: int) -> None:
    history = epochs(images=7, width=3, batch=3, count=5, seed=1)
    whole = MemoryBank(7, 3)
    play(whole, history, first=True)
    before, after = MemoryBank(7, 3), MemoryBank(7, 3)
    play(before, history[:stop], first=True)
    state = {key: value.clone() for key, value in before.state_dict().items()}
    play(before, history[:1], first=False)  # what the old bank does later must not reach the new one
    after.load_state_dict(state)
    play(after, history[stop:], first=False)
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in after.state_dict().items())


def test_the_average_is_bias_corrected() -> None:
    """Equal representations in every epoch leave the row as it is; without correction it would drift to 2 z."""
    bank, z = MemoryBank(2, 3), torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    bank.fill(torch.tensor([0, 1]), z)
    for _ in range(20):
        bank.begin_epoch()
        bank.update(torch.tensor([1, 0]), z.flip(0))
        torch.testing.assert_close(bank.rows, z)
    assert float(bank.count) == pytest.approx(2.0, abs=1e-5)


def test_rows_outside_the_batch_stay_and_no_graph_is_kept() -> None:
    bank = MemoryBank(3, 2)
    bank.fill(torch.arange(3), torch.ones(3, 2))
    bank.begin_epoch()
    z = torch.full((1, 2), 5.0, requires_grad=True)
    bank.update(torch.tensor([1]), z * 2)
    assert torch.equal(bank.rows[[0, 2]], torch.ones(2, 2))
    assert float(bank.rows[1, 0]) == pytest.approx(10.5 / 1.5)
    assert not bank.rows.requires_grad
    assert not list(bank.parameters())


def test_half_precision_representations_are_averaged_in_float32() -> None:
    bank = MemoryBank(2, 1)
    bank.fill(torch.arange(2), torch.ones(2, 1, dtype=torch.bfloat16))
    for _ in range(3):
        bank.begin_epoch()
        bank.update(torch.arange(2), torch.full((2, 1), 1.0078125, dtype=torch.bfloat16))
    assert bank.rows.dtype == torch.float32
    assert 1.0 < float(bank.rows[0]) < 1.0078125  # bfloat16 has no number between
