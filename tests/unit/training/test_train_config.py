"""The settings of train and benchmark: the recipe's, what changes them, and what is told of the change."""

from __future__ import annotations

import dataclasses

import pytest

from dermonas.data.augmentation import AugmentSettings
from dermonas.errors import ConfigError
from dermonas.training.config import (
    BenchmarkConfig,
    FitConfig,
    TrainConfig,
    deviations,
    seeds_of,
    settings_of,
    size_of,
)
from dermonas.training.recipes import RECIPES
from dermonas.training.settings import TrainSettings


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_alone_is_taken_as_it_is(name):
    config = TrainConfig(recipe=name)
    recipe = RECIPES[name]
    assert settings_of(config) == dataclasses.replace(recipe.settings, seed=0)
    assert size_of(config) == (recipe.stem, recipe.layers, recipe.channels)
    assert list(seeds_of(config)) == list(range(recipe.runs))


@pytest.mark.parametrize("name", ["isic2019-paper", "cifar10-paper", "imagenet-paper", "imagenet-unnas"])
def test_a_papers_recipe_deviates_in_nothing(name):
    assert deviations(TrainConfig(recipe=name)) == {}


def test_every_key_of_the_training_can_be_given_and_reaches_it():
    keys = {field.name for field in dataclasses.fields(FitConfig)}
    training = {field.name for field in dataclasses.fields(TrainSettings)} - {"augment", "seed"}
    view = {field.name for field in dataclasses.fields(AugmentSettings)}
    assert training | view <= keys
    given = {
        "epochs": 7, "batch_size": 5, "learning_rate": 0.3, "momentum": 0.1, "weight_decay": 0.2,
        "schedule": "exponential", "decay": 0.5, "period": 2.0, "warmup": 3, "clip_norm": 1.5, "drop_path": 0.15,
        "auxiliary": 0.7, "label_smoothing": 0.05, "mixup": 0.35, "cutmix": 0.45, "ema_decay": 0.55,
        "balance": "loss", "precision": "bfloat16", "select": "loss", "patience": 4,
    }  # fmt: skip
    seen = {
        "size": 48, "crop": "pad", "padding": 3, "scale": (0.2, 0.9), "ratio": (0.9, 1.1), "horizontal_flip": 0.25,
        "vertical_flip": 0.35, "jitter": (0.1, 0.2, 0.3, 0.05), "cutout": 5, "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6), "backend": "torchvision",
    }  # fmt: skip
    assert (given.keys(), seen.keys()) == (training, view)
    settings = settings_of(FitConfig(seed=9, **given, **seen))
    assert settings == TrainSettings(**given, seed=9, augment=AugmentSettings(**seen))


def test_a_zero_is_given_and_not_left_to_the_recipe():
    config = TrainConfig(warmup=0, clip_norm=0.0, ema_decay=0.0, mixup=0.0, cutmix=0.0, label_smoothing=0.0, layers=0)
    settings = settings_of(config)
    assert (settings.warmup, settings.clip_norm, settings.ema_decay) == (0, 0.0, 0.0)
    assert (settings.mixup, settings.cutmix, settings.label_smoothing) == (0.0, 0.0, 0.0)
    assert size_of(config)[1] == 0  # which the network then refuses


def test_cosine_leaves_out_what_only_the_other_schedule_has():
    paper = RECIPES["isic2019-paper"].settings
    exponential = next(name for name, recipe in RECIPES.items() if recipe.settings.schedule == "exponential")
    changed = settings_of(FitConfig(recipe=exponential, schedule="cosine"))
    assert (changed.schedule, changed.decay, changed.period) == ("cosine", 1.0, 1.0)
    assert paper.schedule in ("cosine", "exponential")
    with pytest.raises(ConfigError, match=r"decay 0\.5"):
        FitConfig(recipe=exponential, schedule="cosine", decay=0.5)


def test_deviations_name_what_differs_with_both_values():
    name = "isic2019-paper"
    recipe = RECIPES[name]
    config = TrainConfig(recipe=name, epochs=3, warmup=0, channels=4, runs=2, label_fraction=0.5, cutout=1)
    assert deviations(config) == {
        "epochs": {"paper": recipe.settings.epochs, "here": 3},
        "channels": {"paper": recipe.channels, "here": 4},
        "runs": {"paper": recipe.runs, "here": 2},
        "label_fraction": {"paper": 1.0, "here": 0.5},
        "cutout": {"paper": recipe.settings.augment.cutout, "here": 1},
        **({} if recipe.settings.warmup == 0 else {"warmup": {"paper": recipe.settings.warmup, "here": 0}}),
    }
    modern = deviations(TrainConfig(recipe="isic2019"))
    assert modern["ema_decay"]["here"] == RECIPES["isic2019"].settings.ema_decay
    assert all(found["paper"] != found["here"] for found in modern.values())
    # Neither the seed nor who draws the views is part of the paper's recipe.
    assert deviations(TrainConfig(recipe=name, seed=3, backend="torchvision")) == {}


def test_seeds_follow_each_other():
    assert list(seeds_of(FitConfig(seed=4, runs=3))) == [4, 5, 6]


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (FitConfig, {"recipe": "isic"}, "recipe 'isic' is unknown"),
        (FitConfig, {"seed": -1}, "seed is -1"),
        (FitConfig, {"workers": -1}, "workers is -1"),
        (FitConfig, {"threads": -1}, "threads is -1"),
        (FitConfig, {"devices": 0}, "devices is 0"),
        (FitConfig, {"num_nodes": 0}, "num_nodes is 0"),
        (FitConfig, {"runs": 0}, "runs is 0"),
        (FitConfig, {"label_fraction": 0.0}, "label_fraction is 0"),
        (FitConfig, {"label_fraction": 1.1}, r"label_fraction is 1\.1"),
        (FitConfig, {"label_fraction": float("nan")}, "label_fraction is nan"),
        (FitConfig, {"epochs": 2, "warmup": 2}, "warmup 2 must be less than epochs 2"),
        (FitConfig, {"learning_rate": 0.0}, "learning_rate"),
        (FitConfig, {"std": (0.1, 0.0, 0.1)}, "std"),
        (TrainConfig, {"momentum": 1.0}, "momentum"),
        (BenchmarkConfig, {"models": []}, "models is empty"),
        (BenchmarkConfig, {"epochs": 0}, "epochs 0"),
    ],
)
def test_impossible_values_are_refused_at_once(kind, values, says):
    with pytest.raises(ConfigError, match=says):
        kind(**values)
