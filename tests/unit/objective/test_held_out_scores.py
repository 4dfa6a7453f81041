"""Scores besides the papers': closed forms, and that training never sees what is held out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dermonas.data.views import Views
from dermonas.errors import ConfigError
from dermonas.events import Silent
from dermonas.imaging.normalise import IMAGENET_MEAN, IMAGENET_STD
from dermonas.objective.agreement import agreement, uniformity
from dermonas.objective.candidate import Candidate
from dermonas.objective.contrastive import ContrastiveObjective, ContrastiveSettings, chance
from dermonas.objective.scores import SCORES, TRAINED, operation_counts, trained_scores
from dermonas.space import zoo
from dermonas.space.nasbench201 import theta_of

TINY: dict[str, Any] = {
    "epochs": 2, "batch_size": 4, "learning_rate": 0.01, "width": 6, "resolution": 8, "channels": 4, "layers": 3,
}  # fmt: skip
PICTURES = np.random.default_rng(0).integers(0, 256, (15, 10, 10, 3), dtype=np.uint8)
A = zoo.load("DermoCSNAS_5")


class Keeper(Silent):
    """Keeps what each epoch told."""

    def __init__(self) -> None:
        self.told: list[dict[str, float]] = []

    def epoch(self, number, epoch, metrics):
        self.told.append(dict(metrics))


def objective(images=PICTURES, *, all_scores=False, **settings):
    chosen = ContrastiveSettings(**{**TINY, **settings})
    return ContrastiveObjective(images, chosen, torch.device("cpu"), all_scores=all_scores)


@pytest.mark.parametrize(
    "name", [name for name in TRAINED if name not in ("train_loss", "relative_loss", "sized_loss")]
)
def test_held_out_images_do_not_reach_training(name):
    """Other held-out pictures: the same weights, the same losses, another score."""
    first = objective(score=name)
    rows = {row.tobytes() for row in first.held_out.store.numpy()}
    held = np.array([picture.tobytes() in rows for picture in PICTURES])
    assert held.sum() == 3
    poisoned = PICTURES.copy()
    poisoned[held] = 255 - poisoned[held]
    second = objective(poisoned, score=name)
    assert torch.equal(first.views.store, second.views.store)
    scores = [each.score(A, Silent()) for each in (first, second)]
    assert scores[0].code_scaled == scores[1].code_scaled  # of the training loss
    if name != "view_agreement":  # of three images both may find all
        assert scores[0].value != scores[1].value


def test_all_scores_are_told_each_epoch_and_measuring_changes_nothing():
    keeper = Keeper()
    told = objective(all_scores=True).score(A, keeper)
    assert set(TRAINED) | {"score"} == set(keeper.told[0])
    assert [line["train_loss"] for line in keeper.told] == [line["score"] for line in keeper.told]
    named = objective(score="heldout_loss").score(A, Silent())
    assert named.epochs == tuple(line["heldout_loss"] for line in keeper.told)
    assert named.code_scaled == told.code_scaled


def test_relative_and_sized_loss_are_what_they_say():
    found = trained_scores([4.0, 3.0, 2.0], parameters=1000, size_weight=0.5, held=None)
    assert found == {"train_loss": 2.0, "relative_loss": 0.5, "sized_loss": 2.0 - 0.5 * math.log(1000)}


def test_the_measures_of_a_known_embedding():
    """Features of two views that are equal: nothing missed, alignment 0; the loss is cross-entropy by hand."""
    settings = ContrastiveSettings(**TINY)
    views = Views(PICTURES, "paper", 8, IMAGENET_MEAN, IMAGENET_STD, 0, torch.device("cpu"))
    candidate = Candidate(A, settings, len(PICTURES)).train()
    eye = torch.eye(15)

    class Trunk(torch.nn.Module):
        """Gives images their own axes, in the order in which they come."""

        def forward(self, x):
            return eye[: len(x)]

    class Heads(torch.nn.Module):
        """Passes on, and mixes each view with its neighbour's by a tenth."""

        def forward(self, x):
            return x

        def combine(self, views):
            return views[0] + 0.1 * views[1].roll(1, dims=0)

    candidate.trunk, candidate.heads = Trunk(), Heads()
    found = agreement(candidate, views, temperature=0.5, batch_size=15)
    logits = F.normalize(eye + 0.1 * eye.roll(1, dims=0), dim=1) / 0.5
    assert found.loss == pytest.approx(float(-F.log_softmax(logits, dim=1).diagonal().mean()), rel=1e-6)
    assert (found.miss, found.alignment) == (0.0, 0.0)
    assert found.uniformity == pytest.approx(-4.0, rel=1e-6)  # all axes are sqrt 2 apart: log exp(-2 * 2)


def test_uniformity_is_the_mean_over_pairs():
    points = F.normalize(torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    by_hand = [
        math.exp(-2 * float((points[i] - points[j]).square().sum())) for i in range(7) for j in range(7) if i != j
    ]
    assert float(uniformity(points)) == pytest.approx(math.log(np.mean(by_hand)), rel=1e-5)


def test_chance_is_told_of_the_papers_score_alone():
    assert chance(ContrastiveSettings(), 1000) == pytest.approx(math.log(299))
    assert all(
        chance(ContrastiveSettings(score=name, epochs=1), 1000) is None for name in SCORES if name != "train_loss"
    )


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"score": "accuracy"}, "score"),
        ({"heldout": 0.3}, "does not read"),
        ({"size_weight": 0.3}, "does not read"),
        ({"score": "heldout_loss", "heldout": 1.0}, "between 0 and 1"),
        ({"score": "naswot"}, "set epochs to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, word):
    with pytest.raises(ConfigError, match=word):
        ContrastiveSettings(**values)


def test_too_few_images_to_hold_any_out():
    with pytest.raises(ConfigError, match="leaves 1"):
        objective(PICTURES[:6], score="heldout_loss")


def test_operations_are_counted_by_hand():
    counts = operation_counts(zoo.load("DARTS_V2"))
    assert counts["normal_separable"] == 5
    assert counts["normal_skips"] == 2
    assert counts["normal_dilated"] == 1
    assert counts["reduce_pools"] == 5
    cell = theta_of("|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|")
    assert operation_counts(cell) == {
        "missing": 1, "skips": 1, "convolutions_1x1": 1, "convolutions_3x3": 2, "pools": 1,
    }  # fmt: skip
