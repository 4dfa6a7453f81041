from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from explained import CLASSES, Pooled

from dermonas.nn.network import Network
from dermonas.space import zoo


@pytest.fixture(autouse=True)
def nothing_global_changes() -> Iterator[None]:
    """One thread, and neither the global generator nor the grad mode differs after a test."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    state = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    torch.set_num_threads(threads)


@pytest.fixture
def pooled() -> Pooled:
    return Pooled().eval()


@pytest.fixture(scope="session")
def network() -> Network:
    return Network(zoo.load("DermoCSNAS_5"), stem="cifar", channels=4, layers=3, classes=CLASSES).eval()
