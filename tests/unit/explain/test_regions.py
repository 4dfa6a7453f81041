"""Regions, agreement with a lesion, deletion and insertion: against written-out answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from explained import noise
from torch import Tensor

from dermonas.errors import DataError
from dermonas.explain.cam import roi
from dermonas.explain.regions import Curve, Overlap, blurred, curve, overlap, pointing_game, regions


def picture(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


def test_regions_by_size_with_boxes_shares_and_centres() -> None:
    found = regions(picture("##...", "#....", "....#", "...#.", "....#"))
    assert [region.box for region in found] == [(0, 0, 2, 2), (2, 3, 5, 5)]  # corners join; the upper first
    assert [region.area for region in found] == [3, 3]
    assert found[0].share == 3 / 25
    assert found[0].centre == pytest.approx((1 / 3, 1 / 3))
    assert found[1].centre == pytest.approx((3, 11 / 3))


def test_the_largest_first_and_none_at_all() -> None:
    assert [r.area for r in regions(picture("#.##", "#.##", "..##"))] == [6, 2]
    assert regions(np.zeros((3, 4), dtype=bool)) == []
    (all_of_it,) = regions(torch.ones(3, 4, dtype=torch.bool))
    assert (all_of_it.box, all_of_it.share) == ((0, 0, 3, 4), 1.0)
    assert regions(roi(torch.zeros(5, 5))) == []
    with pytest.raises(ValueError, match=r"a mask is \(height, width\)"):
        regions(np.zeros((1, 2, 3)))


def test_a_ring_around_another_region() -> None:
    ring = picture("#####", "#...#", "#.#.#", "#...#", "#####")
    assert [(r.area, r.box) for r in regions(ring)] == [(16, (0, 0, 5, 5)), (1, (2, 2, 3, 3))]


def test_overlap() -> None:
    lesion = picture("##..", "##..")
    assert overlap(picture(".##.", ".##."), lesion) == Overlap(iou=2 / 6, coverage=0.5, precision=0.5)
    assert overlap(lesion, lesion) == Overlap(1.0, 1.0, 1.0)
    assert overlap(picture("#...", "...."), lesion) == Overlap(0.25, 0.25, 1.0)
    empty = overlap(~lesion & lesion, lesion)
    assert (empty.iou, empty.coverage) == (0.0, 0.0)
    assert math.isnan(empty.precision)


def test_a_lesion_mask_must_fit_and_show_something() -> None:
    lesion = picture("#.", "..")
    with pytest.raises(ValueError, match=r"lesion mask \(2, 2\) does not fit \(3, 2\)"):
        overlap(np.ones((3, 2)), lesion)
    for compare in (overlap, pointing_game):
        with pytest.raises(DataError, match="lesion mask is empty"):
            compare(np.ones((2, 2)), np.zeros((2, 2)))


def test_the_pointing_game() -> None:
    lesion = picture("......", ".##...", ".##...", "......")
    cam = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) * 0.9
    cam[2, 5] = 1.0
    assert not pointing_game(cam, lesion)
    assert not pointing_game(cam, lesion, tolerance=2.9)
    assert pointing_game(cam, lesion, tolerance=3)
    cam[1, 1] = 1.0  # two peaks, one off the lesion
    assert not pointing_game(cam, lesion)
    cam[2, 5] = 0.0
    assert pointing_game(cam, lesion)
    assert not pointing_game(np.zeros((4, 6)), lesion)


class Counting:
    """A model whose logit of class 1 is the number of ones among some pixels; keeps the batches that it saw."""

    def __init__(self, where: Tensor) -> None:
        self.where, self.batches = where, []

    def __call__(self, images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.batches.append(len(images))
        count = (images[:, 0] * self.where).sum(dim=(1, 2))
        return torch.stack([torch.zeros_like(count), count], dim=1)


WHERE = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
IMAGE = torch.ones(3, 2, 3)


def run(kind: str, cam: Tensor, **options: object) -> Curve:
    options = {"baseline": torch.zeros_like(IMAGE), "steps": 6} | options
    return curve(kind, Counting(WHERE), IMAGE, cam, 1, **options)


def test_curves_written_out() -> None:
    sigmoid = [1 / (1 + math.exp(-count)) for count in (0, 1, 2)]
    deletion, insertion = run("deletion", WHERE), run("insertion", WHERE)
    assert deletion.fractions.tolist() == pytest.approx([k / 6 for k in range(7)])
    assert deletion.probabilities.tolist() == pytest.approx([sigmoid[k] for k in (2, 1, 0, 0, 0, 0, 0)])
    assert insertion.probabilities.tolist() == pytest.approx([sigmoid[k] for k in (0, 1, 2, 2, 2, 2, 2)])
    ends = (deletion.probabilities[0] + deletion.probabilities[-1]) / 2
    assert deletion.area == pytest.approx((ends + deletion.probabilities[1:-1].sum()) / 6)


def test_a_good_map_beats_its_opposite() -> None:
    assert run("deletion", WHERE).area < run("deletion", -WHERE).area
    assert run("insertion", WHERE).area > run("insertion", -WHERE).area
    assert run("deletion", WHERE).area == run("deletion", 5 * WHERE - 2).area  # only the order counts


def test_ties_go_row_by_row() -> None:
    flat = run("deletion", torch.zeros(2, 3))
    assert flat.probabilities.tolist() == run("deletion", -torch.arange(6.0).view(2, 3)).probabilities.tolist()


@pytest.mark.parametrize("batch", [1, 3, 7, 50])
def test_batches_do_not_matter(batch: int) -> None:
    model = Counting(WHERE)
    found = curve("insertion", model, IMAGE, WHERE, 1, baseline=torch.zeros_like(IMAGE), steps=6, batch=batch)
    assert found.probabilities.tolist() == run("insertion", WHERE).probabilities.tolist()
    assert sum(model.batches) == 7
    assert max(model.batches) == min(batch, 7)


@pytest.mark.parametrize("steps", [1, 4, 100])
def test_steps_that_do_not_divide_the_pixels(steps: int) -> None:
    found = run("deletion", WHERE, steps=steps)
    assert (found.fractions[0], found.fractions[-1]) == (0.0, 1.0)
    assert len(found.fractions) == min(steps, 6) + 1
    assert (np.diff(found.fractions) > 0).all()


def test_baselines_by_default_are_those_of_rise() -> None:
    image = noise(3, 12, 10)
    seen: list[Tensor] = []

    def model(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.zeros(len(images), 2)

    cam = noise(12, 10, seed=1)
    curve("deletion", model, image, cam, 0, steps=3)
    curve("insertion", model, image, cam, 0, steps=3)
    deletion, insertion = seen
    assert torch.equal(deletion[0], image)
    assert not deletion[-1].any()
    assert torch.equal(insertion[0], blurred(image))
    assert torch.equal(insertion[-1], image)


def test_blurring_keeps_shape_and_level_and_takes_detail() -> None:
    image = noise(3, 56, 57).double()
    soft = blurred(image)
    assert (soft.shape, soft.dtype) == (image.shape, torch.float64)
    assert soft.std() < 0.6 * image.std()
    torch.testing.assert_close(blurred(torch.full((3, 9, 9), 2.5)), torch.full((3, 9, 9), 2.5))


def test_bfloat16_logits() -> None:
    def model(images: Tensor) -> Tensor:
        return Counting(WHERE)(images).bfloat16()

    found = curve("deletion", model, IMAGE, WHERE, 1, steps=6)
    assert found.probabilities.dtype == np.float64
    assert found.area == pytest.approx(run("deletion", WHERE).area, abs=1e-2)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"steps": 0}, "no deletion curve with 0 steps"),
        ({"batch": 0}, "in batches of 0"),
        ({"baseline": torch.zeros(1)}, "baseline"),
    ],
)
def test_settings_that_do_not_fit(options: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        run("deletion", WHERE, **options)


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"map \(3, 2\) does not fit image"):
        run("deletion", WHERE.T)
    with pytest.raises(ValueError, match="no removal curve"):
        run("removal", WHERE)
    with pytest.raises(ValueError, match=r"no class 2 in model output \(7, 2\)"):
        curve("deletion", Counting(WHERE), IMAGE, WHERE, 2, steps=6)
