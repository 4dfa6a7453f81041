from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from dermonas.nn.network import Network
from dermonas.seeding import forked, torch_generator
from dermonas.space import zoo

CLASSES = 5


@pytest.fixture(autouse=True)
def nothing_global_changes() -> Iterator[None]:
    """One thread, and neither the global generator nor the grad mode differs after a test."""
    torch.set_num_threads(1)
    state = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch_generator(seed, "test"))


class Pooled(nn.Module):
    """Convolutions, global average pool, linear: what has an exact CAM. Pointwise: mirrors commute exactly."""

    def __init__(self, kernel: int = 3, stride: int = 2) -> None:
        super().__init__()
        with forked(3, "test"):
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, kernel, stride, kernel // 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, kernel)
            )
            self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(dim=(2, 3)))


@pytest.fixture
def pooled() -> Pooled:
    return Pooled().eval()


@pytest.fixture(scope="session")
def network() -> Network:
    return Network(zoo.load("DermoCSNAS_5"), stem="cifar", channels=4, layers=3, classes=CLASSES).eval()
