import dataclasses
import json
import math

import pytest

from dermonas.errors import ConfigError
from dermonas.imaging.normalise import CIFAR_MEAN, ISIC_MEAN, ISIC_STD
from dermonas.training.recipes import RECIPES, recipe
from dermonas.training.settings import TrainSettings


def _settings(**changes) -> TrainSettings:
    return TrainSettings(**{"epochs": 10, "batch_size": 4, "learning_rate": 0.1, **changes})


# spec/csnas.md 5, typed in again.
STATED = {
    "isic2019-paper": (18, 48, 10, 128, 0.02, 0.9, 3e-5, "exponential", 0.2, 0.4, 16, 224),
    "cifar10-paper": (20, 36, 10, 128, 0.025, 0.9, 3e-4, "cosine", 0.2, 0.4, 16, 32),
    "imagenet-paper": (14, 48, 10, 128, 0.1, 0.9, 3e-5, "exponential", 0.0, 0.4, 0, 224),
    "imagenet-unnas": (14, 48, 3, 512, 0.5, 0.9, 3e-5, "cosine", 0.3, 0.4, 0, 224),
}


@pytest.mark.parametrize("name", STATED)
def test_the_papers_recipes_are_the_papers(name):
    r = recipe(name)
    s = r.settings
    assert (
        r.layers, r.channels, r.runs, s.batch_size, s.learning_rate, s.momentum, s.weight_decay,
        s.schedule, s.drop_path, s.auxiliary, s.augment.cutout, s.augment.size,
    ) == STATED[name]  # fmt: skip
    assert s.clip_norm == 5
    assert (s.mixup, s.cutmix, s.ema_decay, s.balance) == (0, 0, 0, "none")


def test_what_single_recipes_say_besides():
    isic, cifar, imagenet, unnas = (recipe(name).settings for name in STATED)
    assert (isic.decay, isic.period) == (0.99, 3.5)
    assert (isic.augment.crop, isic.augment.stored) == ("resize", 256)
    assert (isic.augment.horizontal_flip, isic.augment.vertical_flip) == (0.5, 0.5)
    assert (isic.augment.mean, isic.augment.std) == (ISIC_MEAN, ISIC_STD)
    assert (cifar.epochs, cifar.augment.crop, cifar.augment.padding) == (600, "pad", 4)
    assert cifar.augment.mean == CIFAR_MEAN
    assert cifar.augment.vertical_flip == 0
    assert (imagenet.epochs, imagenet.decay, imagenet.period, imagenet.label_smoothing) == (250, 0.97, 2.5, 0.1)
    assert (unnas.epochs, unnas.warmup, unnas.label_smoothing) == (250, 5, 0.1)


@pytest.mark.parametrize("name", RECIPES)
def test_sources_name_settings_that_exist(name):
    r = RECIPES[name]
    known = {field.name for field in dataclasses.fields(r)} | {f.name for f in dataclasses.fields(r.settings)}
    known |= {f"augment.{field.name}" for field in dataclasses.fields(r.settings.augment)}
    assert set(r.sources) <= known
    assert all(r.sources.values())


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in STATED])
def test_every_choice_of_a_modern_recipe_has_its_reason(name):
    settings = RECIPES[name].settings
    unreasoned = {"batch_size", "momentum", "seed", "patience", "augment", "decay", "period"}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name not in unreasoned and value not in (0, "none"):
            assert field.name in RECIPES[name].sources, field.name


def test_an_unknown_recipe_is_named():
    with pytest.raises(ConfigError, match=r"'mnist'.*isic2019-paper"):
        recipe("mnist")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("warmup", -1),
        ("warmup", 10),
        ("patience", -1),
        ("learning_rate", 0.0),
        ("learning_rate", math.inf),
        ("learning_rate", math.nan),
        ("period", 0.0),
        ("weight_decay", -1e-3),
        ("clip_norm", math.nan),
        ("auxiliary", -0.4),
        ("mixup", -1.0),
        ("cutmix", math.inf),
        ("momentum", 1.0),
        ("drop_path", 1.0),
        ("label_smoothing", -0.1),
        ("ema_decay", 1.0),
        ("decay", 0.0),
        ("decay", 0.9),  # without an exponential schedule
        ("schedule", "step"),
        ("balance", "both"),
        ("precision", "int8"),
        ("select", "test/accuracy"),
    ],
)
def test_an_impossible_setting_is_named(key, value):
    with pytest.raises(ConfigError, match=key):
        _settings(**{key: value})


def test_settings_survive_json():
    plain = _settings().as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["augment"]["mean"] == list(_settings().augment.mean)
