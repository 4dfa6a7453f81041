"""The plain loop of benchmarks/train_step.py is the same training as `fit`: in float64, where rounding is no excuse."""

from __future__ import annotations

import dataclasses

import pytest
from torch import Tensor, nn

from benchmarks.train_step import PlainImages, PlainLoop
from dermonas.data.augmentation import AugmentSettings
from dermonas.events import Silent
from dermonas.training.fit import fit


class Double(nn.Module):
    """A network in float64 behind float32 images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()
        self.auxiliary, self.set_drop_path = network.auxiliary, network.set_drop_path

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return what the network does."""
        return self.network(x.double())


AUGMENT = AugmentSettings(size=8, crop="none", horizontal_flip=0.5, vertical_flip=0.5, cutout=3)


def _settings(make, **changes):
    plain = {"label_smoothing": 0.0, "mixup": 0.0, "cutmix": 0.0, "ema_decay": 0.0}
    values = {"epochs": 2, "clip_norm": 0.5, "schedule": "exponential", "decay": 0.5, "augment": AUGMENT}
    return make.settings(**plain, **values, **changes)


def _plain(make, settings):
    data = make.data(24, AUGMENT)
    loop = PlainLoop(
        Double(make.network()), PlainImages(data.train.images, data.train.labels, AUGMENT, settings.seed), settings, 0
    )
    for epoch in range(settings.epochs):
        for step in range(3):
            loop(epoch, step)
    return loop.network


def _distance(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def test_the_plain_loop_ends_with_the_weights_of_fit(make, tmp_path):
    settings, network = _settings(make), Double(make.network())
    fit(network, make.data(24, AUGMENT), settings, tmp_path, Silent())
    start, plain = Double(make.network()), _plain(make, settings)
    # The loss is taken in float32 and views differ by its rounding.
    assert _distance(network, plain) < 1e-5 < 1e-2 < _distance(network, start)


@pytest.mark.parametrize(
    "change", [{"drop_path": 0.1}, {"auxiliary": 0.3}, {"clip_norm": 5.0}, {"decay": 0.9}, {"weight_decay": 0.01}]
)
def test_each_setting_counts_in_the_comparison(make, change):
    settings = _settings(make)
    other = _plain(make, dataclasses.replace(settings, **change))
    assert _distance(_plain(make, settings), other) > 1e-4
