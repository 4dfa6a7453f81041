"""The papers' training recipes, every value that they do not state with its source.

Source: spec/csnas.md 5, where P is the paper, D DARTS' code, and REC what the specification settles where the paper
says nothing or contradicts itself.
"""

from __future__ import annotations

from dermonas.data.augmentation import AugmentSettings
from dermonas.imaging.normalise import CIFAR_MEAN, CIFAR_STD, ISIC_MEAN, ISIC_STD
from dermonas.training.settings import Recipe, TrainSettings

_FLIPS = 0.5  # a fair coin: the papers say "random flips" and no more
_JITTER = (0.4, 0.4, 0.4, 0.2)  # D, train_imagenet.py


_ISIC_VIEW = AugmentSettings(
    size=224,
    crop="resize",
    horizontal_flip=_FLIPS,
    vertical_flip=_FLIPS,
    cutout=16,
    mean=ISIC_MEAN,
    std=ISIC_STD,
)
_CIFAR_VIEW = AugmentSettings(
    size=32, crop="pad", padding=4, horizontal_flip=_FLIPS, cutout=16, mean=CIFAR_MEAN, std=CIFAR_STD
)
IMAGENET_VIEW = AugmentSettings(size=224, crop="random_resized", horizontal_flip=_FLIPS, jitter=_JITTER)

ISIC2019_PAPER = Recipe(
    stem="imagenet",
    layers=18,
    channels=48,
    runs=10,
    settings=TrainSettings(
        epochs=300,
        batch_size=128,
        learning_rate=0.02,
        momentum=0.9,
        weight_decay=3e-5,
        schedule="exponential",
        decay=0.99,
        period=3.5,
        clip_norm=5.0,
        drop_path=0.2,
        auxiliary=0.4,
        select="accuracy",
        augment=_ISIC_VIEW,
    ),
    sources={
        "epochs": "not stated; REC 300",
        "momentum": "P says '0.9 weights decay'; REC reads it as momentum .9",
        "weight_decay": "see momentum; REC 3e-5, the papers' code",
        "clip_norm": "not stated for ISIC; REC 5, the papers' code",
        "augment.mean": "the papers' code",
        "augment.std": "the papers' code",
        "select": "the papers' code keeps the best top-1, but on test; REC validation",
        "precision": "not stated",
    },
)

CIFAR10_PAPER = Recipe(
    stem="cifar",
    layers=20,
    channels=36,
    runs=10,
    settings=TrainSettings(
        epochs=600,
        batch_size=128,
        learning_rate=0.025,
        momentum=0.9,
        weight_decay=3e-4,
        schedule="cosine",
        clip_norm=5.0,
        drop_path=0.2,
        auxiliary=0.4,
        select="accuracy",
        augment=_CIFAR_VIEW,
    ),
    sources={
        "schedule": "not stated; REC cosine to 0, D",
        "augment.crop": "not stated; REC pad 4 and crop, D",
        "augment.padding": "not stated; REC 4, D",
        "augment.horizontal_flip": "not stated; REC .5, D",
        "augment.mean": "not stated; REC, D",
        "augment.std": "not stated; REC, D",
        "select": "the metric is test error; chosen on validation",
        "precision": "not stated",
    },
)

IMAGENET_PAPER = Recipe(
    stem="imagenet",
    layers=14,
    channels=48,
    runs=10,
    settings=TrainSettings(
        epochs=250,
        batch_size=128,
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=3e-5,
        schedule="exponential",
        decay=0.97,
        period=2.5,
        clip_norm=5.0,
        auxiliary=0.4,
        label_smoothing=0.1,
        select="accuracy",
        augment=IMAGENET_VIEW,
    ),
    sources={
        "clip_norm": "not stated; D 5",
        "drop_path": "not stated; none, D's ImageNet default",
        "label_smoothing": "not stated; D .1",
        "augment.crop": "not stated; D RandomResizedCrop",
        "augment.horizontal_flip": "not stated; D",
        "augment.jitter": "not stated; D .4/.4/.4/.2",
        "augment.cutout": "'+ cutout' in Table II, not in App. B; REC off",
        "select": "the metric is top-1 error; chosen on validation",
        "precision": "not stated",
    },
)

IMAGENET_UNNAS = Recipe(
    stem="imagenet",
    layers=14,
    channels=48,
    runs=3,
    settings=TrainSettings(
        epochs=250,
        batch_size=512,
        learning_rate=0.5,
        momentum=0.9,
        weight_decay=3e-5,
        schedule="cosine",
        warmup=5,
        clip_norm=5.0,
        drop_path=0.3,
        auxiliary=0.4,
        label_smoothing=0.1,
        select="accuracy",
        augment=IMAGENET_VIEW,
    ),
    sources={
        "channels": "not stated; REC 48",
        "momentum": "not stated; REC .9",
        "weight_decay": "not stated; REC 3e-5",
        "label_smoothing": "not stated; REC .1",
        "clip_norm": "not stated; REC 5",
        "augment.crop": "not stated; D RandomResizedCrop",
        "augment.horizontal_flip": "not stated; D",
        "augment.jitter": "not stated; D .4/.4/.4/.2",
        "select": "the metric is top-1 error; chosen on validation",
        "precision": "not stated",
    },
)
