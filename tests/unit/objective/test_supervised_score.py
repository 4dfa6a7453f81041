"""The supervised score: blind to held-out labels, beside the contrastive one in all but the labels, and right."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dermonas.errors import DataError
from dermonas.events import Silent
from dermonas.imaging.normalise import IMAGENET_MEAN, IMAGENET_STD
from dermonas.objective.contrastive import ContrastiveObjective, ContrastiveSettings
from dermonas.objective.score import NotFinite
from dermonas.objective.supervised import HELD_OUT, Classifier, SupervisedObjective, held_out_rows
from dermonas.space import zoo

ROOT = Path(__file__).resolve().parents[3]
A, B = zoo.load("DermoCSNAS_5"), zoo.load("DARTS_V2")
CPU = torch.device("cpu")
CLASSES = 3
TINY: dict[str, Any] = {
    "epochs": 2, "batch_size": 4, "learning_rate": 0.02, "resolution": 8, "channels": 4, "layers": 3, "seed": 11,
}  # fmt: skip


def settings(**values: Any) -> ContrastiveSettings:
    return ContrastiveSettings(**{**TINY, **values})


def material(count: int = 15, side: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images whose colour tells the class, labels, and which are held out: a fifth of each class."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    images = rng.integers(0, 60, (count, side, side, 3))
    images[np.arange(count), :, :, labels] += 150
    held = np.arange(count) // CLASSES % 5 == 1
    return images.astype(np.uint8), labels, held


class Kept(SupervisedObjective):
    """Keeps the candidates that it builds, by which their trained weights are seen."""

    def build(self, genotype):
        self.last = super().build(genotype)
        return self.last


def objective(labels: np.ndarray | None = None, held: np.ndarray | None = None, count: int = 15, **values: Any) -> Kept:
    images, true, fifth = material(count)
    return Kept(
        images, true if labels is None else labels, fifth if held is None else held, CLASSES, settings(**values), CPU
    )


def trained(labels: np.ndarray | None = None, **values: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    one = objective(labels, **values)
    score = one.score(A, Silent())
    return score, {key: value.clone() for key, value in one.last.state_dict().items()}


def facts(score: Any) -> tuple[Any, ...]:
    return tuple(value for key, value in vars(score).items() if key != "device_seconds")


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("poison", ["shuffled", "constant", "wrong"])
def test_held_out_labels_are_never_trained_on(poison):
    """Whatever they are, the trained weights are the same to the bit; the score, which reads them, is not."""
    _, labels, held = material()
    poisoned = labels.copy()
    poisoned[held] = {
        "shuffled": np.roll(labels[held], 1), "constant": np.zeros_like(labels[held]), "wrong": 2 - labels[held],
    }[poison]  # fmt: skip
    assert (poisoned != labels).any()
    clean, weights = trained(labels)
    other, spoiled = trained(poisoned)
    assert same(weights, spoiled)
    assert clean.epochs != other.epochs


def test_held_out_pixels_are_never_trained_on_and_training_labels_are():
    images, labels, held = material()
    _, weights = trained()
    noise = images.copy()
    noise[held] = np.random.default_rng(5).integers(0, 256, noise[held].shape)
    one = Kept(noise, labels, held, CLASSES, settings(), CPU)
    one.score(A, Silent())
    assert same(weights, one.last.state_dict())
    wrong = labels.copy()
    wrong[0] = (wrong[0] + 1) % CLASSES  # not held out
    assert not held[0]
    assert not same(weights, trained(wrong)[1])


def test_judging_leaves_a_candidate_as_it_is():
    one = objective()
    candidate = one.build(A)
    before = {key: value.clone() for key, value in candidate.state_dict().items()}
    first = one.judge(candidate)
    assert same(before, candidate.state_dict())
    assert candidate.training
    assert one.judge(candidate) == first
    assert all(parameter.grad is None for parameter in candidate.parameters())


def test_the_score_is_the_held_out_cross_entropy_of_the_whole_images():
    one = objective(count=30)
    score = one.score(A, Silent())
    images, labels, held = material(30)
    rows = np.concatenate([index.numpy() for index in one.held_batches()])
    assert sorted(rows) == sorted(np.flatnonzero(held))
    total, wrong = 0.0, 0
    for index in one.held_batches():
        pixels = torch.from_numpy(images[index.numpy()]).permute(0, 3, 1, 2).float()
        small = torch.nn.functional.interpolate(pixels, size=8, mode="bilinear", antialias=True).round() / 255
        mean, std = (torch.tensor(value)[None, :, None, None] for value in (IMAGENET_MEAN, IMAGENET_STD))
        with torch.no_grad():
            shares = torch.softmax(one.last((small - mean) / std).double(), dim=1)
        for share, row in zip(shares.numpy(), index.tolist(), strict=True):
            total -= math.log(share[labels[row]])
            wrong += int(share.argmax() != labels[row])
    assert score.value == pytest.approx(total / held.sum(), rel=1e-5)
    assert one.judge(one.last)[1] == wrong / held.sum()


def test_two_calls_are_equal_to_the_bit_and_leave_no_trace():
    shared = objective()
    state = torch.get_rng_state()
    first, second, third = (facts(shared.score(genotype, Silent())) for genotype in (A, B, A))
    assert torch.equal(torch.get_rng_state(), state)
    assert first == third != second
    with torch.random.fork_rng():
        torch.manual_seed(5)
        assert facts(objective().score(A, Silent())) == first
    assert facts(objective(seed=12).score(A, Silent())) != first
    assert objective(epochs=4).score(A, Silent()).epochs[:2] == first[1]


def test_beside_the_contrastive_objective_the_labels_are_all_that_differs():
    images, labels, held = material(16)
    twin = ContrastiveObjective(images, settings(), CPU)
    one = Kept(images, labels, held, CLASSES, settings(), CPU)
    ours, theirs = one.build(A), twin.build(A)
    assert same(ours.trunk.state_dict(), theirs.trunk.state_dict())
    a, b = one.optimizer(ours), twin.optimizer(theirs)
    assert type(a) is type(b)
    assert a.defaults == b.defaults
    for epoch in range(3):
        order = torch.cat(twin.batches(epoch))
        assert torch.cat(one.batches(epoch)).tolist() == [row for row in order.tolist() if not held[row]]
        twin.views.begin_epoch(epoch)
        one.views.begin_epoch(epoch)
        index = torch.arange(16)
        assert torch.equal(one.views.original(index), twin.views.original(index))
        assert all(torch.equal(x, y) for x, y in zip(one.views.pair(index), twin.views.pair(index), strict=True))
    assert one._autocast.fast_dtype == twin._autocast.fast_dtype
    assert one._autocast._enabled == twin._autocast._enabled


def test_a_step_takes_the_original_and_both_views():
    seen: list[torch.Tensor] = []

    class Watched(Classifier):
        def forward(self, x):
            seen.append(x.detach())
            return super().forward(x)

    one = objective()
    candidate = Watched(A, settings(), CLASSES).train()
    one.views.begin_epoch(0)
    index = torch.tensor([0, 1, 2])
    one.step(candidate, one.optimizer(candidate), index)
    expected = [one.views.original(index), *one.views.pair(index)]
    assert len(seen) == 3
    assert all(torch.equal(x, y) for x, y in zip(seen, expected, strict=True))


def test_it_learns_what_can_be_learned_and_says_so():
    class Recorder(Silent):
        def __init__(self):
            self.seen = []

        def epoch(self, number, epoch, metrics):
            self.seen.append((number, epoch, dict(metrics)))

    recorder = Recorder()
    score = objective(count=60, epochs=8, batch_size=12, learning_rate=0.05).score(B, recorder, number=7)
    assert [(number, epoch) for number, epoch, _ in recorder.seen] == [(7, epoch) for epoch in range(8)]
    assert tuple(metrics["score"] for *_, metrics in recorder.seen) == score.epochs
    assert recorder.seen[-1][2]["error"] == 0
    assert score.value < 0.5 * math.log(CLASSES)
    assert score.value == score.epochs[-1]
    _, labels, _ = material(60)
    nonsense = np.random.default_rng(1).permutation(labels)
    assert objective(nonsense, count=60, epochs=8, batch_size=12, learning_rate=0.05).score(B, Silent()).value > 1.0


def test_a_loss_that_is_not_finite_fails_the_candidate_only():
    with pytest.raises(NotFinite, match=r"loss is .* in epoch \d.*learning_rate"):
        objective(learning_rate=1e30).score(A, Silent())


def test_no_batch_has_one_image():
    _, _, held = material(16)
    one = objective(np.arange(16) % CLASSES, held, 16)
    assert int((~held).sum()) % 4 == 1
    assert min(map(len, one.batches(0))) > 1
    assert sum(map(len, one.batches(0))) == int((~held).sum())


def test_a_fifth_is_held_out_by_class_and_whole_groups():
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 150, 400)).astype(str)
    labels = np.array([int(name) % 4 for name in groups])
    held = held_out_rows(labels, groups, 3)
    for label in range(4):
        own = labels == label
        largest = max(np.unique(groups[own], return_counts=True)[1])
        assert 0 <= held[own].sum() - round(HELD_OUT * own.sum()) < largest
    assert not set(groups[held]) & set(groups[~held])
    assert (held_out_rows(labels, groups, 3) == held).all()
    assert (held_out_rows(labels, groups, 4) != held).any()


def test_a_class_of_one_group_is_trained_on():
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    groups = np.array(list("abcdeffg"))
    held = held_out_rows(labels, groups, 0)
    assert held[:5].sum() == 1
    assert not held[5:].any()
    with pytest.raises(DataError, match="no fifth can be held out"):
        held_out_rows(np.array([0, 1, 2]), np.array(list("abc")), 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda labels, held: (labels[:-1], held), "equally many"),
        (lambda labels, held: (labels - 1, held), "must lie in"),
        (lambda labels, held: (labels + 1, held), "must lie in"),
        (lambda labels, held: (labels, held & False), "held out"),
        (lambda labels, held: (labels, held | True), "held out"),
    ],
)
def test_what_cannot_be_scored_is_refused(change, says):
    _, labels, held = material()
    with pytest.raises(DataError, match=says):
        objective(*change(labels, held))


def test_the_robustness_study_alone_can_reach_it():
    """No search by labels by accident: nothing else that is shipped imports the supervised objective."""
    importers = set()
    for path in (*(ROOT / "dermonas").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if "dermonas.objective.supervised" in names:
                importers.add(path.relative_to(ROOT).as_posix())
    assert importers == {"pipelines/robustness_search.py", "dermonas/audit/scoring.py"}
