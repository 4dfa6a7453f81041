"""One thread a test, and the networks' slow reference, which stands beside their tests, on the import path.

Tiny tensors gain nothing from more threads, and threads that share cores wait for each other.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "nn"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
