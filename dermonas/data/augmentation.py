"""Random training views of one image, and the fixed evaluation view, by albumentations or torchvision.

Every choice is drawn here, from a generator keyed by (seed, epoch, index); a backend only carries it out. So the
two backends cut the same geometry, and a resumed run repeats an uninterrupted one without saved worker state.
That is also why albumentations' own seeding (`Compose(seed=...)`, a stream by worker) is not used: its transforms'
`apply` takes explicit parameters.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from dermonas.errors import ConfigError
from dermonas.imaging.normalise import IMAGENET_MEAN, IMAGENET_STD, Channels, normalise
from dermonas.imaging.resize import resize
from dermonas.seeding import numpy_generator

Backend = Literal["albumentations", "torchvision"]
Crop = Literal["resize", "random_resized", "pad", "none"]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

EVALUATION_RATIO = 256 / 224
"""Side before the centre crop / side after it. Source: torchvision's ImageNet reference, spec/csnas.md 5."""
_ATTEMPTS = 10  # tries for a box of the drawn area and ratio before the centre; torchvision's RandomResizedCrop


def resize_side(size: int) -> int:
    """Return the side to which an image is resized before a crop of `size` pixels (256 for 224)."""
    return round(size * EVALUATION_RATIO)


@dataclass(frozen=True)
class AugmentSettings:
    """What happens to a training image, in this order; the defaults change nothing but its size.

    Attributes:
        size: Side of the view in pixels.
        crop: "resize" (the image at `resize_side(size)`, a random crop of it), "random_resized" (a random box of
            `scale` of the area and `ratio`, resized), "pad" (the image at `size`, padded, a random crop) or "none".
        padding: Black pixels on each side for "pad".
        scale: Smallest and largest share of the area, in (0, 1], for "random_resized".
        ratio: Smallest and largest width / height for "random_resized".
        horizontal_flip: Probability of a left-right flip.
        vertical_flip: Probability of an upside-down flip.
        jitter: Strengths of brightness, contrast, saturation (factor in [max(0, 1 - x), 1 + x]) and hue (in [0, .5],
            as a share of the circle), applied in random order.
        cutout: Side in pixels of a square set to 0 after normalisation, cut off at the border; 0 for none.
        mean: Channel means in [0, 1].
        std: Channel standard deviations.
        backend: Who carries it out.
    """

    size: int = 224
    crop: Crop = "none"
    padding: int = 4
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    cutout: int = 0
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    backend: Backend = "albumentations"

    def __post_init__(self) -> None:
        for key, kind in (("crop", Crop), ("backend", Backend)):
            if getattr(self, key) not in get_args(kind):
                raise ConfigError(f"{key} {getattr(self, key)!r} is unknown; use one of {', '.join(get_args(kind))}")
        for key, least in (("size", 1), ("padding", 0), ("cutout", 0)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key} {getattr(self, key)} must be at least {least}")
        for key in ("horizontal_flip", "vertical_flip"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"{key} {getattr(self, key)} must lie in [0, 1]")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ConfigError(f"scale {self.scale} must be two rising shares of the area in (0, 1]")
        if not 0 < self.ratio[0] <= self.ratio[1] < math.inf:
            raise ConfigError(f"ratio {self.ratio} must be two rising ratios above 0")
        if not all(0 <= x < math.inf for x in self.jitter) or self.jitter[3] > 0.5:
            raise ConfigError(f"jitter {self.jitter} must be at least 0, its last (hue) at most .5")
        if not all(x > 0 for x in self.std):
            raise ConfigError(f"std {self.std} must be above 0")

    @property
    def stored(self) -> int:
        """The side in pixels at which images are best kept: no resize is then needed at training time."""
        return self.size if self.crop in ("pad", "none") else resize_side(self.size)


@dataclass(frozen=True)
class Draw:
    """The choices for one view.

    Attributes:
        box: Of the image (of the padded image for "pad").
        horizontal: Whether to flip left-right.
        vertical: Whether to flip upside down.
        factors: Brightness, contrast, saturation factors and hue shift.
        order: Order of the four; empty where nothing is jittered.
        hole: The cutout in the view, or None.
    """

    box: Box
    horizontal: bool
    vertical: bool
    factors: tuple[float, float, float, float]
    order: tuple[int, ...]
    hole: Box | None


def draw(settings: AugmentSettings, side: int, generator: np.random.Generator) -> Draw:
    """Draw one view's choices for a square image of `side` pixels (already padded)."""
    if settings.crop == "random_resized":
        box = _random_box(settings, side, generator)
    else:
        left, top = (int(x) for x in generator.integers(0, side - settings.size + 1, 2))
        box = (left, top, left + settings.size, top + settings.size)
    coins = generator.random(2)
    factors = [generator.uniform(max(0.0, 1.0 - x), 1.0 + x) for x in settings.jitter[:3]]
    factors.append(generator.uniform(-settings.jitter[3], settings.jitter[3]))
    order = tuple(int(x) for x in generator.permutation(4))
    x, y = (int(v) for v in generator.integers(0, settings.size, 2))
    low, high = settings.cutout // 2, settings.cutout - settings.cutout // 2
    hole = (max(0, x - low), max(0, y - low), min(settings.size, x + high), min(settings.size, y + high))
    return Draw(
        box=box,
        horizontal=bool(coins[0] < settings.horizontal_flip),
        vertical=bool(coins[1] < settings.vertical_flip),
        factors=(factors[0], factors[1], factors[2], factors[3]),
        order=order if any(settings.jitter) else (),
        hole=hole if settings.cutout else None,
    )


def _random_box(settings: AugmentSettings, side: int, generator: np.random.Generator) -> Box:
    """Draw a box by area and ratio. Source: torchvision RandomResizedCrop.get_params (last resort: the whole)."""
    for _ in range(_ATTEMPTS):
        area = side * side * generator.uniform(*settings.scale)
        ratio = math.exp(generator.uniform(math.log(settings.ratio[0]), math.log(settings.ratio[1])))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= side and 0 < height <= side:
            left, top = int(generator.integers(side - width + 1)), int(generator.integers(side - height + 1))
            return left, top, left + width, top + height
    return 0, 0, side, side


class _Albumentations:
    """By albumentations' transforms, each given its parameters."""

    def __init__(self, settings: AugmentSettings) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or its import asks the network for a newer version
        import albumentations  # type: ignore[import-untyped]

        size = settings.size
        self.crop: Any = albumentations.RandomCrop(size, size)
        if settings.crop == "random_resized":
            # Plain bilinear: a cache at `stored` pixels is hardly shrunk, and both backends then agree.
            self.crop = albumentations.RandomResizedCrop((size, size))
        self.horizontal = albumentations.HorizontalFlip(p=1)
        self.vertical = albumentations.VerticalFlip(p=1)
        self.jitter = albumentations.ColorJitter(p=1)

    def __call__(self, image: np.ndarray, choices: Draw) -> np.ndarray:
        image = self.crop.apply(image, crop_coords=choices.box)
        image = self.horizontal.apply(image) if choices.horizontal else image
        image = self.vertical.apply(image) if choices.vertical else image
        if choices.order:
            brightness, contrast, saturation, hue = choices.factors
            image = self.jitter.apply(image, brightness, contrast, saturation, hue, list(choices.order))
        return image


class _Torchvision:
    """By torchvision's v2 functions."""

    def __init__(self, settings: AugmentSettings) -> None:
        from torchvision.transforms.v2 import functional

        self.functional = functional
        self.size = settings.size
        self.adjust = [getattr(functional, f"adjust_{x}") for x in ("brightness", "contrast", "saturation", "hue")]

    def __call__(self, image: np.ndarray, choices: Draw) -> np.ndarray:
        left, top, right, bottom = choices.box
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        pixels = self.functional.crop(pixels, top, left, bottom - top, right - left)
        if pixels.shape[1:] != (self.size, self.size):
            pixels = self.functional.resize(pixels, [self.size, self.size], antialias=False)
        pixels = self.functional.horizontal_flip(pixels) if choices.horizontal else pixels
        pixels = self.functional.vertical_flip(pixels) if choices.vertical else pixels
        for i in choices.order:
            pixels = self.adjust[i](pixels, choices.factors[i])
        return pixels.permute(1, 2, 0).numpy()


class Augment:
    """Random views by (seed, epoch, index)."""

    def __init__(self, settings: AugmentSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed

    @cached_property
    def _execute(self) -> _Albumentations | _Torchvision:
        # On first use, so that an object made before the workers start carries no library with it.
        return (
            _Albumentations(self.settings) if self.settings.backend == "albumentations" else _Torchvision(self.settings)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "seed": self.seed}

    def view(self, image: np.ndarray, epoch: int, index: int) -> tuple[np.ndarray, Draw]:
        """Return the view as pixels, uint8 (size, size, 3), before normalisation and cutout, and its choices."""
        settings = self.settings
        if settings.crop != "random_resized":
            image = fit_side(image, settings.stored)
        if settings.crop == "pad":
            border = (settings.padding, settings.padding)
            image = np.pad(image, (border, border, (0, 0)))
        choices = draw(settings, image.shape[0], numpy_generator(self.seed, "augment", epoch, index))
        return self._execute(image, choices), choices

    def __call__(self, image: np.ndarray, epoch: int, index: int) -> Float[Tensor, "3 size size"]:
        """Return a normalised training view, float32 (3, size, size), of a uint8 (side, side, 3) image.

        Epoch (from 0) and index (which image, or which draw of it) key the choices.
        """
        pixels, choices = self.view(image, epoch, index)
        tensor = to_input(pixels, self.settings)
        if choices.hole is not None:
            left, top, right, bottom = choices.hole
            tensor[:, top:bottom, left:right] = 0.0
        return tensor


class Evaluate:
    """The fixed view of evaluation: the centre of the image at 256/224 of the size, or the whole image.

    "pad" and "none" train on whole images and are evaluated on them; the other crops by the centre.
    Takes epoch and index as `Augment` does, and ignores them.
    """

    def __init__(self, settings: AugmentSettings) -> None:
        self.settings = settings

    def __call__(self, image: np.ndarray, epoch: int = 0, index: int = 0) -> Float[Tensor, "3 size size"]:
        """Return the normalised view, float32 (3, size, size), of a uint8 (side, side, 3) image."""
        size, image = self.settings.size, fit_side(image, self.settings.stored)
        start = (image.shape[0] - size) // 2
        return to_input(image[start : start + size, start : start + size], self.settings)


def fit_side(image: np.ndarray, side: int) -> np.ndarray:
    """Return a square uint8 image at `side` pixels, by the project's only fixed resize where it has another size."""
    return image if image.shape[0] == side else resize(Image.fromarray(np.asarray(image)), side)


def to_input(pixels: np.ndarray, settings: AugmentSettings) -> Float[Tensor, "3 size size"]:
    """Normalise uint8 (size, size, 3) pixels to float32 (3, size, size)."""
    return normalise(torch.from_numpy(np.array(pixels)).permute(2, 0, 1), settings.mean, settings.std)
