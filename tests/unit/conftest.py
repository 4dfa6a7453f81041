"""One thread and one seed a test.

Tiny tensors gain nothing from more threads, and threads that share cores wait for each other.
"""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread_one_seed() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_num_threads(before)


@pytest.fixture
def broken_off():
    """Return a function that fails as a session does that an interrupt broke off."""

    def fail(error: Exception) -> str:
        try:
            raise KeyboardInterrupt
        finally:
            raise error

    return fail
