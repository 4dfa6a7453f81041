"""The pieces of a tiny training."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dermonas.data.augmentation import Augment, AugmentSettings, Evaluate
from dermonas.data.samples import Samples, Transform
from dermonas.nn.network import Network
from dermonas.seeding import forked
from dermonas.space import zoo
from dermonas.training.loaders import TrainData
from dermonas.training.settings import TrainSettings

CLASSES = ("dark", "middle", "light")
AUGMENT = AugmentSettings(size=8, crop="pad", padding=1, horizontal_flip=0.5, cutout=2, backend="torchvision")


def settings(**changes: Any) -> TrainSettings:
    """Every regularisation at once, on images of 8 pixels."""
    values: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.05,
        "drop_path": 0.3,
        "auxiliary": 0.4,
        "label_smoothing": 0.1,
        "mixup": 0.2,
        "cutmix": 1.0,
        "ema_decay": 0.9,
        "augment": AUGMENT,
    }
    return TrainSettings(**{**values, **changes})


def network(auxiliary: bool = True) -> Network:
    """Three cells of four channels."""
    genotype = zoo.load("DARTS_V2")
    with forked(0, "test network"):
        return Network(
            genotype, stem="cifar", channels=4, layers=3, classes=3, auxiliary=8 if auxiliary else None, seed=1
        )


def data(count: int = 20, augment: AugmentSettings = AUGMENT, train: Transform | None = None) -> TrainData:
    """Noise around three brightnesses; the last nine are validation."""
    generator = np.random.default_rng(0)
    labels = np.append(np.arange(count) % 3, [0, 0, 0, 0, 1, 1, 1, 2, 2])
    noise = generator.integers(0, 120, (count + 9, 8, 8, 3))
    images = (noise + labels[:, None, None, None] * 60).astype(np.uint8)
    return TrainData(
        Samples(images, labels, train or Augment(augment, 0), rows=range(count)),
        Samples(images, labels, Evaluate(augment), rows=range(count, count + 9)),
        CLASSES,
    )


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The pieces of a tiny training, as functions."""
    return SimpleNamespace(settings=settings, network=network, data=data, classes=CLASSES, augment=AUGMENT)
