"""The contrastive score: repeatable, independent of history, sensitive to every live edge, and right."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import dermonas.objective.contrastive as module
from dermonas.data.views import Views
from dermonas.errors import ConfigError
from dermonas.events import Silent
from dermonas.imaging.normalise import IMAGENET_MEAN, IMAGENET_STD
from dermonas.objective.candidate import Candidate
from dermonas.objective.contrastive import ContrastiveObjective, ContrastiveSettings, chance
from dermonas.objective.score import NotFinite, Score
from dermonas.seeding import torch_generator
from dermonas.space import zoo
from dermonas.space.darts import DartsSpace
from dermonas.space.genotype import PRIMITIVES, Cell, Edge, Genotype

A, B = zoo.load("DermoCSNAS_5"), zoo.load("DARTS_V2")
TINY: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 4,
    "learning_rate": 0.01,
    "width": 6,
    "resolution": 8,
    "channels": 4,
    "layers": 3,
    "seed": 11,
}


def pictures(count: int, side: int) -> np.ndarray:
    """Smooth random pictures, far from each other."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC)) for c in coarse])


def objective(
    images: int = 10, kind: type[ContrastiveObjective] = ContrastiveObjective, **settings: Any
) -> ContrastiveObjective:
    chosen = ContrastiveSettings(**{**TINY, **settings})
    side = chosen.resolution * 5 // 4 if chosen.views == "paper" else chosen.resolution
    return kind(pictures(images, side), chosen, torch.device("cpu"))


def score(genotype: Genotype = A, images: int = 10, **settings: Any) -> Score:
    return objective(images, **settings).score(genotype, Silent())


def facts(result: Score) -> tuple[Any, ...]:
    """All of a score but its time."""
    return tuple(value for key, value in vars(result).items() if key != "device_seconds")


def random_states() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


def test_two_calls_are_equal_to_the_bit_and_leave_no_trace() -> None:
    """A, B, A on one objective equal A and B on fresh ones, whatever the global generators hold."""
    shared = objective()
    states = random_states()
    first, second, third = (facts(shared.score(g, Silent())) for g in (A, B, A))
    assert random_states() == states
    assert first == third
    assert first != second
    with torch.random.fork_rng():
        torch.manual_seed(5)
        assert facts(score(A)) == first
        assert facts(score(B)) == second


def test_the_seed_matters() -> None:
    assert score(seed=12).epochs != score().epochs


class Recorder(Silent):
    """Keeps epochs; raises at one of them if asked to."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.seen: list[tuple[int, int, dict[str, float]]] = []
        self.fail_at = fail_at

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        self.seen.append((number, epoch, dict(metrics)))
        if epoch == self.fail_at:
            raise Pruned(epoch)


class Pruned(Exception):
    """What a pruner raises; not an error of ours."""


def test_the_observer_gets_every_epoch_once_in_order() -> None:
    recorder = Recorder()
    result = objective(epochs=4).score(A, recorder, number=7)
    assert recorder.seen == [(7, epoch, {"score": value}) for epoch, value in enumerate(result.epochs)]
    assert len(result.epochs) == 4
    assert result.value == result.epochs[-1]
    assert result.device_seconds > 0


def test_more_epochs_continue_fewer() -> None:
    """What a pruner saw of a candidate is what the full training shows."""
    assert score(epochs=4).epochs[:2] == score(epochs=2).epochs


def test_an_observers_exception_passes_and_spoils_nothing() -> None:
    shared = objective(epochs=3)
    expected = facts(shared.score(A, Silent()))
    states, recorder = random_states(), Recorder(fail_at=1)
    with pytest.raises(Pruned):
        shared.score(B, recorder)
    assert [epoch for _, epoch, _ in recorder.seen] == [0, 1]
    assert random_states() == states
    assert facts(shared.score(A, Silent())) == expected


def test_a_loss_that_is_not_finite_fails_the_candidate_only() -> None:
    recorder, wild = Recorder(), objective(learning_rate=1e30)
    states = random_states()
    with pytest.raises(NotFinite, match=r"loss is nan in epoch \d.*learning_rate"):
        wild.score(A, recorder)
    assert random_states() == states
    assert all(math.isfinite(metrics["score"]) for _, _, metrics in recorder.seen)
    assert facts(score(B)) == facts(score(B))


def changed(genotype: Genotype, kind: str, node: int, edge: int, operation: str) -> Genotype:
    cell: Cell = getattr(genotype, kind)
    nodes = [list(edges) for edges in cell.nodes]
    nodes[node][edge] = Edge(operation, nodes[node][edge].source)
    new = Cell(tuple(tuple(edges) for edges in nodes), cell.concat)
    return Genotype(new, genotype.reduce) if kind == "normal" else Genotype(genotype.normal, new)


@pytest.mark.parametrize("kind", ["normal", "reduce"])
def test_every_live_edge_changes_the_score_and_no_dead_one_does(kind: str) -> None:
    """The papers' defect 1: their objective read 2 of 40 positions (spec/csnas.md 4.4)."""
    base = score(epochs=1, images=6)
    cell = getattr(A, kind)
    for i, edges in enumerate(cell.nodes):
        for j, edge in enumerate(edges):
            other = next(op for op in PRIMITIVES[4:] if op != edge.operation)
            result = score(changed(A, kind, i, j, other), epochs=1, images=6)
            if i in cell.live_nodes:
                assert abs(result.value - base.value) > 1e-6, (kind, i, j)
            else:
                assert result.epochs == base.epochs
                assert result.parameters != base.parameters or other == edge.operation


def test_size_facts_are_the_trunks() -> None:
    result = score()
    trunk = objective().build(A).trunk
    assert result.parameters == sum(p.numel() for p in trunk.parameters())
    assert result.dead_parameters == sum(p.numel() for p in trunk.parameters() if not p.requires_grad) > 0
    assert result.multiply_adds > 0


# --- A second implementation: plain loops, one image at a time, float64 -------------------------------------


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / a.square().sum().sqrt() / b.square().sum().sqrt()


def slow_nce(anchor: Tensor, query: Tensor, negatives: list[Tensor], tau: float, kind: str) -> Tensor:
    positive = torch.exp(cosine(anchor, query) / tau)
    others = [torch.exp(cosine(query, n) / tau) for n in negatives]
    total = positive + sum(others)
    loss = -torch.log(positive / total)
    if kind == "pirl":
        for k in range(len(others)):
            loss = loss - torch.log((positive + sum(others[:k]) + sum(others[k + 1 :])) / total)
    return loss


class Exact(ContrastiveObjective):
    """In float64: rounding of float32 can put an activation on ReLU's other side, and which one depends on the CPU."""

    def fill_bank(self, candidate: Candidate) -> None:  # comes before the first step
        embed = candidate.double().embed
        candidate.embed = lambda views: embed(views.double())  # type: ignore[method-assign]
        super().fill_bank(candidate)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Score]:
    """Return `score` in float64 throughout."""
    single = torch.Tensor.float
    # The steps end their autocast with `.float()`.
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x if x.dtype is torch.float64 else single(x))

    return lambda genotype, images, **settings: objective(images, Exact, **settings).score(genotype, Silent())


def slow_batches(images: int, size: int, seed: int, epoch: int) -> list[list[int]]:
    order = torch.randperm(images, generator=torch_generator(seed, "order", epoch)).tolist()
    batches = [order[i : i + size] for i in range(0, images, size)]
    if len(batches[-1]) == 1:  # batch statistics and negatives need two images
        last = batches.pop()
        batches[-1] += last
    return batches


def slow_score(genotype: Genotype, images: int, **changes: Any) -> tuple[list[float], float]:
    """Return each epoch's per-image mean loss and the code's scaled score; weights as the library starts them."""
    import reference_network as reference

    settings = ContrastiveSettings(**{**TINY, **changes})
    built = objective(images, **changes)
    candidate = built.build(genotype)
    w = {key: value.double() for key, value in candidate.state_dict().items() if value.is_floating_point()}
    names = [name for name, p in candidate.named_parameters() if p.requires_grad]
    for name in names:
        w[name].requires_grad_()
    momentum = {name: torch.zeros_like(w[name]) for name in names}
    side = settings.resolution * 5 // 4 if settings.views == "paper" else settings.resolution
    views = Views(
        pictures(images, side),
        settings.views,
        settings.resolution,
        IMAGENET_MEAN,
        IMAGENET_STD,
        settings.seed,
        torch.device("cpu"),
    )

    def head(x: Tensor, path: str) -> Tensor:
        if settings.projection == "linear":
            return x @ w[f"heads.{path}.weight"].T + w[f"heads.{path}.bias"]
        hidden = x @ w[f"heads.{path}.0.weight"].T + w[f"heads.{path}.0.bias"]
        return hidden.clamp(min=0) @ w[f"heads.{path}.2.weight"].T + w[f"heads.{path}.2.bias"]

    def embed(stack: list[Tensor]) -> Tensor:
        trunk = {key[len("trunk.") :]: value for key, value in w.items() if key.startswith("trunk.")}
        x = torch.stack(stack).double()
        return head(reference.forward(genotype, trunk, x, settings.layers, "cifar", training=True), "image")

    def original(i: int) -> Tensor:
        return views.original(torch.tensor([i]))[0]

    def view(i: int, which: int) -> Tensor:
        return views.pair(torch.tensor([i]))[which][0]

    views.begin_epoch(-1)
    sums, count = {}, 1.0
    for batch in slow_batches(images, settings.batch_size, settings.seed, -1):
        for i, z in zip(batch, embed([original(i) for i in batch]), strict=True):
            sums[i] = z.detach()
    rows = dict(sums)
    means, scaled = [], 0.0
    for epoch in range(settings.epochs):
        views.begin_epoch(epoch)
        count = 1 + count / 2
        losses: list[float] = []
        batches = slow_batches(images, settings.batch_size, settings.seed, epoch)
        weighted = 0.0
        for step, batch in enumerate(batches):
            z = embed([original(i) for i in batch])
            z1, z2 = (embed([view(i, which) for i in batch]) for which in (0, 1))
            both = head(torch.cat([z1, z2], dim=1), "views")
            generator = torch_generator(settings.seed, "negatives", epoch, step)
            wanted = min(2 * (settings.batch_size - 1), images - 1)
            drawn = torch.randperm(images, generator=generator).tolist()[: wanted + 1]
            per_image = []
            for k, i in enumerate(batch):
                if settings.negatives == "memory":
                    others = [row for row in drawn if row != i][:wanted]
                    negatives = [rows[row] for row in others]
                else:
                    negatives = [part[m] for part in (z1, z2) for m in range(len(batch)) if m != k]
                by_views = slow_nce(rows[i], both[k], negatives, settings.temperature, settings.nce)
                by_image = slow_nce(rows[i], z[k], negatives, settings.temperature, settings.nce)
                per_image.append(settings.balance * by_views + (1 - settings.balance) * by_image)
            loss = sum(per_image) / len(batch)
            gradients = torch.autograd.grad(loss, [w[name] for name in names])  # type: ignore[arg-type]
            with torch.no_grad():
                for name, gradient in zip(names, gradients, strict=True):
                    momentum[name] = settings.momentum * momentum[name] + gradient
                    w[name] -= settings.learning_rate * momentum[name]
            for k, i in enumerate(batch):
                sums[i] = z[k].detach() + 0.5 * sums[i]
                rows[i] = sums[i] / count
            losses += [float(value.detach()) for value in per_image]
            weighted += sum(losses[-len(batch) :])
        assert len(losses) == images
        means.append(sum(losses) / images)
        scaled = weighted / len(batches)
    return means, scaled


@pytest.mark.parametrize(
    ("images", "changes"),
    [
        (10, {}),
        (10, {"views": "code", "balance": 0.2, "temperature": 0.3}),
        (9, {"nce": "pirl", "projection": "mlp"}),
        (10, {"negatives": "batch", "momentum": 0.0}),
        (6, {"negatives": "batch", "nce": "pirl", "batch_size": 6}),
        (5, {"batch_size": 50, "epochs": 3}),
        (12, {"batch_size": 2, "epochs": 1}),
    ],
    ids=[
        "paper-partial-batch",
        "code-views",
        "pirl-mlp-last-image-joins",
        "batch-negatives",
        "batch-pirl",
        "one-batch-clipped",
        "pairs",
    ],
)
def test_equals_a_plain_second_implementation(
    images: int, changes: dict[str, Any], exact: Callable[..., Score]
) -> None:
    result = exact(A, images, **changes)
    means, scaled = slow_score(A, images, **changes)
    assert result.epochs == pytest.approx(means, abs=1e-7)
    assert result.code_scaled == pytest.approx(scaled, abs=1e-7 * images)
    if len(means) > 1:
        assert abs(means[1] - means[0]) > 1e-3  # the training has acted, so the equality says something


def test_equals_the_second_implementation_on_other_genotypes(exact: Callable[..., Score]) -> None:
    for genotype in (B, DartsSpace(5, "all").genotype(tuple(range(8)) * 5)):
        assert exact(genotype, 6).epochs == pytest.approx(slow_score(genotype, 6)[0], abs=1e-7)


# --- Parts of the objective ---------------------------------------------------------------------------------


def test_negatives_change_by_step_and_epoch_and_are_common_to_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The papers' defect 3: one fixed set of negatives served the whole search."""
    draws: list[list[int]] = []
    real = module.draw_negatives

    def recorded(*args: Any) -> Tensor:
        drawn = real(*args)
        draws.append(drawn.tolist())
        return drawn

    monkeypatch.setattr(module, "draw_negatives", recorded)
    shared = objective(images=12)  # 3 steps an epoch, 2 epochs
    shared.score(A, Silent())
    first, draws[:] = list(draws), []
    shared.score(B, Silent())
    assert first == draws
    assert len(first) == 6
    assert len({tuple(drawn) for drawn in first}) == 6
    assert {len(drawn) for drawn in first} == {2 * (4 - 1) + 1}  # one more, of which each image leaves one out


def test_running_statistics_never_move() -> None:
    """The papers' defect 11: filling the bank moved batch norm's statistics."""
    shared = objective()
    candidate = shared.build(A)
    optimizer = shared.optimizer(candidate)
    shared.fill_bank(candidate)
    assert bool(candidate.bank.rows.any(dim=1).all())
    shared.train_epoch(candidate, optimizer, 0)
    norms = [m for m in candidate.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert not norm.running_mean.any()
        assert torch.equal(norm.running_var, torch.ones_like(norm.running_var))
        assert norm.num_batches_tracked == 0


def test_the_bank_ages_once_an_epoch() -> None:
    """The cosine hides a wrong count from the loss, so it is looked at itself."""
    shared = objective()
    candidate = shared.build(A)
    optimizer = shared.optimizer(candidate)
    shared.fill_bank(candidate)
    assert float(candidate.bank.count) == 1.0
    for epoch, count in enumerate((1.5, 1.75, 1.875)):
        shared.train_epoch(candidate, optimizer, epoch)
        assert float(candidate.bank.count) == count
        torch.testing.assert_close(candidate.bank.rows, candidate.bank.sums / count)


def test_an_epoch_continues_from_saved_states() -> None:
    """All state of a candidate is in its and its optimizer's state_dict: no generator needs saving."""
    first = objective()
    candidate = first.build(A)
    optimizer = first.optimizer(candidate)
    first.fill_bank(candidate)
    first.train_epoch(candidate, optimizer, 0)
    saved = copy.deepcopy((candidate.state_dict(), optimizer.state_dict()))
    expected = first.train_epoch(candidate, optimizer, 1)

    second = objective()
    candidate = second.build(A)
    optimizer = second.optimizer(candidate)
    candidate.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    assert second.train_epoch(candidate, optimizer, 1) == expected == score().epochs[1]


@pytest.mark.parametrize("genotype", [A, B], ids=["DermoCSNAS_5", "DARTS_V2"])
def test_the_first_loss_is_below_chance_but_near_it(genotype: Genotype) -> None:
    settings = {"batch_size": 16, "learning_rate": 1e-9, "epochs": 1, "resolution": 16, "channels": 8, "width": 32}
    result = score(genotype, 64, **settings)
    level = chance(ContrastiveSettings(**{**TINY, **settings}), 64)
    assert level == math.log(1 + 30)
    assert 0.5 * level < result.value < level


def test_chance_is_clipped_with_the_negatives() -> None:
    assert chance(ContrastiveSettings(batch_size=150), 8238) == pytest.approx(5.70, abs=0.005)
    assert chance(ContrastiveSettings(batch_size=256), 8238) == pytest.approx(6.24, abs=0.005)
    assert chance(ContrastiveSettings(batch_size=150), 100) == math.log(100)


def test_training_lowers_the_loss() -> None:
    epochs = score(epochs=8, images=16, batch_size=8, learning_rate=0.05).epochs
    assert epochs[-1] < 0.8 * epochs[0]


def test_bfloat16_is_near_float32() -> None:
    exact, rough = score(precision="float32"), score(precision="bfloat16")
    assert rough.epochs != exact.epochs
    assert rough.epochs == pytest.approx(exact.epochs, rel=0.1)
    assert facts(score(precision="auto")) == facts(exact)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("channels", 0),
        ("channels", 3),
        ("width", 0),
        ("layers", 2),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("learning_rate", -1.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("temperature", 0.0),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("momentum", -0.1),
        ("momentum", 1.1),
        ("momentum", math.nan),
        ("balance", -0.1),
        ("balance", 1.1),
        ("resolution", 30),
        ("resolution", 0),
        ("projection", "cubic"),
        ("nce", "triplet"),
        ("negatives", "none"),
        ("views", "jigsaw"),
        ("precision", "float16"),
    ],
)
def test_impossible_settings_name_key_and_value(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{key}\b.*{value:g}" if isinstance(value, float) else rf"{key}\b.*{value}"):
        ContrastiveSettings(**{key: value})


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least 4 images.* 3"):
        objective(images=3)
