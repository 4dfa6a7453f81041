"""Every training recipe by name."""

from __future__ import annotations

from collections.abc import Mapping

from dermonas.errors import ConfigError
from dermonas.training.modern_recipes import CIFAR10_MODERN, IMAGENET_MODERN, ISIC2019_MODERN
from dermonas.training.paper_recipes import CIFAR10_PAPER, IMAGENET_PAPER, IMAGENET_UNNAS, ISIC2019_PAPER
from dermonas.training.settings import Recipe

RECIPES: Mapping[str, Recipe] = {
    "isic2019-paper": ISIC2019_PAPER,
    "cifar10-paper": CIFAR10_PAPER,
    "imagenet-paper": IMAGENET_PAPER,
    "imagenet-unnas": IMAGENET_UNNAS,
    "isic2019": ISIC2019_MODERN,
    "cifar10": CIFAR10_MODERN,
    "imagenet": IMAGENET_MODERN,
}
"""By name; as with the search's, a name without "-paper" is the modern recipe."""


def recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in RECIPES:
        raise ConfigError(f"recipe {name!r} is unknown; use one of {', '.join(RECIPES)}")
    return RECIPES[name]
