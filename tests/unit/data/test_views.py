"""Views against PIL, one image at a time: which flip, crop and grey each view is, and how often."""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
import warnings
from collections import Counter
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from dermonas.data.views import Views, cached_resolution

SIDE = 8  # of a view; the paper preset caches 10, so its crops have 3 x 3 places
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PLAIN = (False, False, False)
CPU = torch.device("cpu")


class Recipe(NamedTuple):
    """What was done to one image."""

    top: int
    left: int
    horizontal: bool
    vertical: bool
    grey: bool


def pictures(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def make(preset: str, count: int = 6, seed: int = 1, images: np.ndarray | None = None) -> Views:
    if images is None:
        images = pictures(count, cached_resolution(preset, SIDE))  # type: ignore[arg-type]
    return Views(images, preset, SIDE, MEAN, STD, seed, CPU)  # type: ignore[arg-type]


def slow(image: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Crop and flip by PIL, grey by ITU-R 601 on floats, normalise: (3, SIDE, SIDE)."""
    top, left, horizontal, vertical, grey = recipe
    picture = Image.fromarray(image).crop((left, top, left + SIDE, top + SIDE))
    if horizontal:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if vertical:
        picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    pixels = np.asarray(picture).astype(np.float64) / 255
    if grey:
        pixels = np.repeat((pixels * [0.299, 0.587, 0.114]).sum(-1, keepdims=True), 3, axis=-1)
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)


@functools.cache
def candidates(raw: bytes, side: int) -> dict[Recipe, np.ndarray]:
    image = np.frombuffer(raw, dtype=np.uint8).reshape(side, side, 3)
    places = range(side - SIDE + 1)
    both = (False, True)
    return {Recipe(*r): slow(image, Recipe(*r)) for r in product(places, places, both, both, both)}


def recover(image: np.ndarray, view: torch.Tensor, tolerance: float = 1e-4) -> Recipe:
    """Return the one recipe that makes `view` from `image`; fail if none or several do."""
    found = [
        recipe
        for recipe, expected in candidates(image.tobytes(), len(image)).items()
        if np.abs(expected - view.numpy()).max() < tolerance
    ]
    assert len(found) == 1
    return found[0]


def recover_all(preset: str, count: int, epochs: int) -> tuple[list[Recipe], list[Recipe], list[Recipe]]:
    """Recipes of originals, first and second views of every image and epoch."""
    views = make(preset, count)
    images, small = views.store.numpy(), views.originals.numpy()
    out: tuple[list[Recipe], list[Recipe], list[Recipe]] = ([], [], [])
    index = torch.arange(count)
    for epoch in range(epochs):
        views.begin_epoch(epoch)
        first, second = views.pair(index)
        original = views.original(index)
        assert first.shape == second.shape == original.shape == (count, 3, SIDE, SIDE)
        assert first.dtype == second.dtype == original.dtype == torch.float32
        for i in range(count):
            out[0].append(recover(small[i], original[i]))
            out[1].append(recover(images[i], first[i]))
            out[2].append(recover(images[i], second[i]))
    return out


def assert_fair(values: list[tuple[bool, ...]] | list[tuple[int, ...]], kinds: int) -> None:
    """Every combination comes as often: chi-square below its mean plus about four deviations."""
    counts, expected = Counter(values), len(values) / kinds
    assert len(counts) == kinds
    statistic = sum((count - expected) ** 2 / expected for count in counts.values())
    assert statistic < (kinds - 1) + 4 * (2 * (kinds - 1)) ** 0.5 + 4


def test_paper_views_crop_flip_and_grey() -> None:
    original, first, second = recover_all("paper", 40, 15)
    assert {recipe[:2] for recipe in first} == {(1, 1)}  # always the centre of 10 x 10
    assert_fair([recipe[:2] for recipe in second], 9)
    for view in (first, second):
        assert_fair([recipe[2:] for recipe in view], 8)
    assert_fair([(*a[2:], *b[2:]) for a, b in zip(first, second, strict=True)], 64)  # independent of each other
    assert {(*recipe[:2], recipe.grey) for recipe in original} == {(0, 0, False)}
    assert_fair([recipe[2:4] for recipe in original], 4)
    assert_fair([(*o[2:4], *a[2:4]) for o, a in zip(original, first, strict=True)], 16)


def test_code_views_are_the_plain_image_and_a_flip_in_random_order() -> None:
    original, first, second = recover_all("code", 40, 15)
    changed, swapped = [], []
    for a, b in zip(first, second, strict=True):
        assert PLAIN in (a[2:], b[2:])
        swapped.append(b[2:] == PLAIN)
        changed.append((a if swapped[-1] else b)[2:])
    assert_fair(changed, 8)
    sure = [(swap,) for swap, change in zip(swapped, changed, strict=True) if change != PLAIN]
    assert_fair(sure, 2)
    assert {recipe.grey for recipe in original} == {False}
    assert_fair([recipe[2:4] for recipe in original], 4)


def test_originals_of_the_paper_preset_are_the_whole_image() -> None:
    images = np.stack(
        [np.asarray(Image.fromarray(p).resize((20, 20), Image.Resampling.BICUBIC)) for p in pictures(5, 5)]
    )
    views = Views(images, "paper", 16, MEAN, STD, 0, CPU)
    for image, small in zip(images, views.originals.numpy(), strict=True):
        expected = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR))
        assert np.abs(expected.astype(int) - small.astype(int)).max() <= 1  # PIL rounds twice
    assert make("code").originals is not None
    assert torch.equal(make("code").originals, make("code").store)


def test_many_originals_are_shrunk_as_one_is() -> None:
    """They are shrunk in chunks of bounded memory."""
    images = pictures(1100, 10)
    whole = make("paper", images=images).originals
    for i in (0, 511, 512, 1024, 1099):
        assert torch.equal(make("paper", images=images[i : i + 1]).originals[0], whole[i])


@pytest.mark.parametrize("resolution", [4, 32, 64])
def test_cached_sides(resolution: int) -> None:
    assert cached_resolution("code", resolution) == resolution
    assert cached_resolution("paper", resolution) == resolution * 5 / 4


@pytest.mark.parametrize("preset", ["paper", "code"])
def test_a_view_depends_on_seed_epoch_and_image_alone(preset: str) -> None:
    views = make(preset, 12)

    def everything(index: list[int]) -> dict[int, torch.Tensor]:
        t = torch.tensor(index)
        stacked = torch.stack([views.original(t), *views.pair(t)], dim=1)
        return dict(zip(index, stacked, strict=True))

    views.begin_epoch(4)
    whole = everything(list(range(12)))
    for batch in ([3], [7, 3, 11], [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]):
        assert all(torch.equal(view, whole[i]) for i, view in everything(batch).items())
    views.begin_epoch(5)
    assert sum(not torch.equal(view, whole[i]) for i, view in everything(list(range(12))).items()) >= 6
    views.begin_epoch(4)
    assert all(torch.equal(view, whole[i]) for i, view in everything(list(range(12))).items())
    views = make(preset, 12)
    views.begin_epoch(4)  # a resumed search starts here
    assert all(torch.equal(view, whole[i]) for i, view in everything(list(range(12))).items())
    views = make(preset, 12, seed=2)
    views.begin_epoch(4)
    assert sum(not torch.equal(view, whole[i]) for i, view in everything(list(range(12))).items()) >= 6


def test_no_global_generator_moves_or_matters() -> None:
    views = make("paper")
    views.begin_epoch(0)
    expected = views.pair(torch.arange(6))[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        views.begin_epoch(0)
        assert torch.equal(views.pair(torch.arange(6))[1], expected)
        views.original(torch.arange(6))
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]
        assert np.random.get_state()[1].tolist() == states[2]  # noqa: NPY002


@pytest.mark.parametrize(
    "images",
    [
        pictures(3, 9),
        pictures(3, 8),
        pictures(3, 10)[..., :1],
        pictures(3, 10)[:, :, :8],
        pictures(3, 10)[0],
        pictures(3, 10).transpose(0, 3, 1, 2),
        pictures(3, 10).astype(np.float32),
        pictures(3, 10).astype(np.int64),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_wrong_shapes_and_types_are_refused(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 \(n, 10, 10, 3\), not ") as caught:
        make("paper", images=images)
    assert str(images.dtype) in str(caught.value)
    assert str(images.shape) in str(caught.value)


def test_a_read_only_memory_map_is_used_in_silence_and_never_written(tmp_path: Path) -> None:
    path = tmp_path / "cache.npy"
    np.save(path, pictures(4, 8))
    before = path.read_bytes()
    script = (
        "import warnings, sys, numpy as np, torch\n"
        "from dermonas.data.views import Views\n"
        "warnings.simplefilter('error')\n"
        "images = np.load(sys.argv[1], mmap_mode='r')\n"
        "v = Views(images, 'code', 8, (.5, .5, .5), (.2, .2, .2), 0, torch.device('cpu'))\n"
        "v.begin_epoch(0); v.original(torch.arange(4)); v.pair(torch.arange(4))\n"
        "assert v.store.data_ptr() == images.ctypes.data, 'copied'\n"
    )
    # torch warns once a process, so a process of its own is the only honest test.
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert path.read_bytes() == before


def test_other_warnings_are_still_heard() -> None:
    make("code")
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", UserWarning, stacklevel=1)
