"""One thread and one seed a test, and the networks' slow reference (it stands beside their tests) on the import path.

Tiny tensors gain nothing from more threads, and threads that share cores wait for each other.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "nn"))


@pytest.fixture(autouse=True)
def one_thread_one_seed() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_num_threads(before)
