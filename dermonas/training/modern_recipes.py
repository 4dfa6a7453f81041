"""Our recipes: the papers' networks as one would train them today, every value with its reason."""

from __future__ import annotations

from dermonas.data.augmentation import AugmentSettings
from dermonas.imaging.normalise import CIFAR_MEAN, CIFAR_STD, ISIC_MEAN, ISIC_STD
from dermonas.training.paper_recipes import IMAGENET_VIEW
from dermonas.training.settings import Recipe, TrainSettings

_FLIPS = 0.5  # a fair coin

_MODERN_SOURCES = {
    "schedule": "cosine: one shape without decay constants to tune (Loshchilov and Hutter 2017; timm's default)",
    "warmup": "5 epochs: large steps on random weights diverge (Goyal et al. 2017; timm's recipes)",
    "label_smoothing": ".1: calibration and accuracy (Szegedy et al. 2016; timm's default)",
    "ema_decay": ".9998: timm's --model-ema-decay; its warm-up keeps short runs from averaging their start",
    "clip_norm": "5, as the papers: cell networks have rare large gradients",
    "auxiliary": ".4, as the papers: gradients reach the first cells",
    "precision": "auto: bfloat16 where it is faster, no loss scaling needed",
}

ISIC2019_MODERN = Recipe(
    stem="imagenet",
    layers=18,
    channels=48,
    runs=3,
    settings=TrainSettings(
        epochs=300,
        batch_size=128,
        learning_rate=0.05,
        weight_decay=3e-5,
        schedule="cosine",
        warmup=5,
        drop_path=0.2,
        auxiliary=0.4,
        label_smoothing=0.1,
        mixup=0.2,
        ema_decay=0.9998,
        balance="sampler",
        select="balanced_accuracy",
        augment=AugmentSettings(
            size=224,
            crop="random_resized",
            scale=(0.4, 1.0),
            horizontal_flip=_FLIPS,
            vertical_flip=_FLIPS,
            jitter=(0.2, 0.2, 0.2, 0.05),
            cutout=16,
            mean=ISIC_MEAN,
            std=ISIC_STD,
        ),
    ),
    sources={
        **_MODERN_SOURCES,
        "epochs": "300, as the paper's recipe here, so that the two differ in method and not in length",
        "learning_rate": ".05: .1 for 256 images, scaled with the batch (Goyal et al. 2017)",
        "weight_decay": "3e-5, as the paper's recipe: the network is small",
        "drop_path": ".2, as the paper",
        "mixup": ".2: Zhang et al. 2018 find .1 to .4 best on large images",
        "cutmix": "none: a pasted patch can hide the whole lesion while its label keeps a share",
        "balance": "sampler: the official metric is balanced accuracy; repeats within an epoch get other views",
        "select": "balanced accuracy, the official ISIC 2019 metric",
        "augment.crop": "random_resized: lesions come at any scale",
        "augment.scale": "at least .4 of the area: smaller boxes miss the lesion's border, which carries the diagnosis",
        "augment.vertical_flip": ".5: a dermoscopic image has no upright",
        "augment.jitter": ".2/.2/.2/.05: cameras and light differ, but colour is a criterion: half of ImageNet's",
        "augment.cutout": "16, as the paper",
    },
)

CIFAR10_MODERN = Recipe(
    stem="cifar",
    layers=20,
    channels=36,
    runs=3,
    settings=TrainSettings(
        epochs=300,
        batch_size=128,
        learning_rate=0.05,
        weight_decay=3e-4,
        schedule="cosine",
        warmup=5,
        drop_path=0.2,
        auxiliary=0.4,
        label_smoothing=0.1,
        mixup=0.2,
        cutmix=1.0,
        ema_decay=0.9998,
        select="accuracy",
        augment=AugmentSettings(size=32, crop="pad", padding=4, horizontal_flip=_FLIPS, mean=CIFAR_MEAN, std=CIFAR_STD),
    ),
    sources={
        **_MODERN_SOURCES,
        "epochs": "300: half of the paper's; mixing gains little from more on 45,000 images at 2 to 3 seeds",
        "learning_rate": ".05: .1 for 256 images, scaled with the batch (Goyal et al. 2017)",
        "weight_decay": "3e-4, as the paper",
        "drop_path": ".2, as the paper",
        "mixup": ".2: timm's recipes for small networks",
        "cutmix": "1.0: Yun et al. 2019, in place of cutout",
        "augment.cutout": "none: cutmix takes its place",
        "select": "accuracy: classes are equally frequent",
    },
)

IMAGENET_MODERN = Recipe(
    stem="imagenet",
    layers=14,
    channels=48,
    runs=1,
    settings=TrainSettings(
        epochs=250,
        batch_size=512,
        learning_rate=0.2,
        weight_decay=3e-5,
        schedule="cosine",
        warmup=5,
        drop_path=0.2,
        auxiliary=0.4,
        label_smoothing=0.1,
        mixup=0.2,
        ema_decay=0.9998,
        select="accuracy",
        augment=IMAGENET_VIEW,
    ),
    sources={
        **_MODERN_SOURCES,
        "epochs": "250, as App. B and C, so that the recipes differ in method and not in length",
        "learning_rate": ".2: .1 for 256 images, scaled with the batch (Goyal et al. 2017)",
        "weight_decay": "3e-5: mobile-size networks underfit with more (App. B)",
        "drop_path": ".2: between App. B's none and App. C's .3",
        "mixup": ".2: Zhang et al. 2018 for ImageNet; networks this small gain nothing from more",
        "cutmix": "none: under 600 M multiply-adds the network underfits already",
        "augment.jitter": "D .4/.4/.4/.2",
        "select": "accuracy: classes are nearly equally frequent",
    },
)
