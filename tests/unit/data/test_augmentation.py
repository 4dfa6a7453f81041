import dataclasses
import os
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dermonas.data.augmentation import Augment, AugmentSettings, Evaluate, draw, fit_side, resize_side
from dermonas.errors import ConfigError
from dermonas.imaging.normalise import ISIC_MEAN, ISIC_STD, normalise
from dermonas.imaging.resize import resize
from dermonas.seeding import numpy_generator

EVERY = AugmentSettings(
    size=24,
    crop="random_resized",
    horizontal_flip=0.5,
    vertical_flip=0.5,
    jitter=(0.4, 0.4, 0.4, 0.2),
    cutout=7,
    mean=ISIC_MEAN,
    std=ISIC_STD,
)


@pytest.fixture
def image(draw) -> np.ndarray:
    return np.array(draw(0, 32))


def _pair(settings, image, count=40):
    for index in range(count):
        views = [
            Augment(dataclasses.replace(settings, backend=backend), 3).view(image, 2, index)
            for backend in ("albumentations", "torchvision")
        ]
        yield views[0], views[1]


@pytest.mark.parametrize("crop", ["resize", "pad", "none"])
def test_backends_agree_exactly_where_nothing_is_interpolated(image, crop):
    settings = AugmentSettings(size=28, crop=crop, horizontal_flip=0.5, vertical_flip=0.5)
    seen = set()
    for (ours, one), (theirs, two) in _pair(settings, image):
        assert one == two
        assert ours.shape == (28, 28, 3)
        assert ours.dtype == theirs.dtype == np.uint8
        np.testing.assert_array_equal(ours, theirs)
        seen.add((one.horizontal, one.vertical))
    assert len(seen) == 4


def test_backends_agree_on_resized_crops_within_rounding(image):
    settings = AugmentSettings(size=24, crop="random_resized", horizontal_flip=0.5)
    for (ours, one), (theirs, two) in _pair(settings, image):
        assert one == two
        assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_backends_agree_on_colour_within_a_few_levels(image):
    # OpenCV keeps the hue of 8-bit pixels in 180 steps.
    settings = dataclasses.replace(EVERY, crop="none", size=32)
    for (ours, one), (theirs, two) in _pair(settings, image):
        assert one == two
        difference = np.abs(ours.astype(int) - theirs)
        assert difference.max() <= 16
        assert difference.mean() < 2


def test_a_view_is_what_its_draw_says(image):
    settings = AugmentSettings(size=24, crop="pad", padding=3, horizontal_flip=0.5, vertical_flip=0.5)
    small = fit_side(image, 24)
    padded = np.zeros((30, 30, 3), np.uint8)
    padded[3:27, 3:27] = small
    for index in range(20):
        pixels, choices = Augment(settings, 0).view(image, 0, index)
        left, top, right, bottom = choices.box
        expected = padded[top:bottom, left:right]
        expected = expected[:, ::-1] if choices.horizontal else expected
        np.testing.assert_array_equal(pixels, expected[::-1] if choices.vertical else expected)


@pytest.mark.parametrize("backend", ["albumentations", "torchvision"])
def test_views_depend_on_seed_epoch_and_index_alone(image, backend):
    settings = dataclasses.replace(EVERY, backend=backend)
    augment = Augment(settings, 1)
    late = augment(image, 5, 9)
    random.seed(4)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    for epoch, index in ((0, 0), (5, 8)):
        augment(image, epoch, index)
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    again = pickle.loads(pickle.dumps(augment))  # as a spawned worker gets it
    assert torch.equal(again(image, 5, 9), late)
    others = [Augment(settings, 2)(image, 5, 9), augment(image, 6, 9), augment(image, 5, 10)]
    assert not any(torch.equal(other, late) for other in others)
    assert late.shape == (3, 24, 24)
    assert late.dtype == torch.float32


def test_random_boxes_have_the_area_and_ratio_asked_for():
    settings = AugmentSettings(size=8, crop="random_resized", scale=(0.25, 0.5), ratio=(0.5, 2.0))
    boxes = np.array([draw(settings, 100, numpy_generator(0, i)).box for i in range(500)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0
    assert boxes.max() <= 100
    assert 0.24 < (width * height / 1e4).min() < 0.27
    assert 0.48 < (width * height / 1e4).max() < 0.51
    assert 0.48 < (width / height).min() < 0.6
    assert 1.7 < (width / height).max() < 2.05


def test_an_impossible_box_becomes_the_whole_image():
    settings = AugmentSettings(size=8, crop="random_resized", scale=(1.0, 1.0), ratio=(3.0, 3.0))
    assert draw(settings, 50, numpy_generator(0)).box == (0, 0, 50, 50)


def test_cutout_blanks_a_square_in_pixels_after_normalisation(image):
    plain = AugmentSettings(size=32, mean=ISIC_MEAN, std=ISIC_STD)
    full, areas = Augment(plain, 0)(image, 0, 0), []
    for index in range(200):
        view = Augment(dataclasses.replace(plain, cutout=16), 0)(image, 0, index)
        hole = (view == 0).all(dim=0)
        assert torch.equal(view[:, ~hole], full[:, ~hole])
        areas.append(int(hole.sum()))
    assert max(areas) == 256
    assert min(areas) < 150  # cut off at the border, as in DARTS


def test_flips_come_as_often_as_asked():
    settings = AugmentSettings(size=8, horizontal_flip=0.2, vertical_flip=0.7)
    draws = [draw(settings, 8, numpy_generator(1, i)) for i in range(2000)]
    assert np.mean([d.horizontal for d in draws]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([d.vertical for d in draws]) == pytest.approx(0.7, abs=0.03)


def test_the_defaults_only_normalise(image):
    settings = AugmentSettings(size=32)
    expected = normalise(torch.from_numpy(image).permute(2, 0, 1), settings.mean, settings.std)
    assert torch.equal(Augment(settings, 0)(image, 3, 4), expected)
    assert torch.equal(Evaluate(settings)(image), expected)


def test_evaluation_is_the_centre_of_the_larger_image(image):
    assert resize_side(224) == 256
    settings = AugmentSettings(size=28, crop="resize")
    assert settings.stored == 32
    expected = normalise(torch.from_numpy(image[2:30, 2:30]).permute(2, 0, 1), settings.mean, settings.std)
    assert torch.equal(Evaluate(settings)(image, 7, 8), expected)
    other = np.array(Image.fromarray(image).resize((50, 50)))
    shrunk = resize(Image.fromarray(other), 32)[2:30, 2:30]
    expected = normalise(torch.from_numpy(shrunk).permute(2, 0, 1), settings.mean, settings.std)
    assert torch.equal(Evaluate(settings)(other), expected)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop", "random"),
        ("backend", "kornia"),
        ("size", 0),
        ("padding", -1),
        ("cutout", -1),
        ("horizontal_flip", 1.5),
        ("vertical_flip", -0.1),
        ("scale", (0.0, 1.0)),
        ("ratio", (2.0, 1.0)),
        ("jitter", (0.1, 0.1, 0.1, 0.6)),
        ("std", (0.0, 1.0, 1.0)),
    ],
)
def test_an_impossible_setting_is_named(key, value):
    with pytest.raises(ConfigError, match=key):
        AugmentSettings(**{key: value})


def test_albumentations_comes_on_first_use_and_asks_no_network():
    code = """
import socket, sys
import numpy as np
def refuse(*_): raise AssertionError("network")
socket.socket.connect = refuse
from dermonas.data.augmentation import Augment, AugmentSettings
augment = Augment(AugmentSettings(size=8), 0)
assert not {"albumentations", "cv2", "torchvision"} & set(sys.modules)
augment(np.zeros((8, 8, 3), np.uint8), 0, 0)
assert "albumentations" in sys.modules
"""
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
