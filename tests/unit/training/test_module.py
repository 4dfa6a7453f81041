"""What the settings change in the training itself, seen from outside Lightning."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dermonas.data.samples import KeyedSampler, class_weights
from dermonas.errors import ConfigError, DataError
from dermonas.events import Silent
from dermonas.seeding import numpy_generator, torch_generator
from dermonas.training.fit import fit
from dermonas.training.mixing import mix
from dermonas.training.module import TrainingDiverged, TrainModule

PLAIN = {
    "drop_path": 0.0,
    "auxiliary": 0.0,
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "ema_decay": 0.0,
}


def _epochs_by_hand(network, data, settings, epochs=1):
    """The same training without Lightning: torch and the formulas of the papers, nothing else."""
    network.train()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(
        trained, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    weights = class_weights(data.train.labels, data.classes) if settings.balance == "loss" else None
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1 + np.cos(np.pi * epoch / settings.epochs)) / 2
        sampler = KeyedSampler(data.train.labels, settings.seed, settings.balance)
        sampler.set_epoch(epoch)
        keys = list(sampler)
        for step, start in enumerate(range(0, len(keys), settings.batch_size)):
            items = [data.train[key] for key in keys[start : start + settings.batch_size]]
            images = torch.stack([item[0] for item in items])
            targets = F.one_hot(torch.tensor([item[1] for item in items]), 3).float()
            if settings.drop_path:
                generator = torch_generator(settings.seed, "drop path", epoch, step)
                network.set_drop_path(settings.drop_path * epoch / settings.epochs, generator)
            generator = numpy_generator(settings.seed, "mix", epoch, step)
            images, targets = mix(images, targets, generator, mixup=settings.mixup, cutmix=settings.cutmix)
            smooth = settings.label_smoothing
            targets = targets * (1 - smooth) + smooth / 3
            if weights is not None:
                targets = targets * weights
            outputs = network(images)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            losses = [-(targets * output.log_softmax(dim=1)).sum(dim=1).mean() for output in outputs]
            loss = losses[0] + settings.auxiliary * sum(losses[1:])
            optimizer.zero_grad()
            loss.backward()
            if settings.clip_norm:
                norm = torch.sqrt(sum(p.grad.square().sum() for p in trained))
                for parameter in trained:
                    parameter.grad *= min(1.0, settings.clip_norm / float(norm + 1e-6))
            optimizer.step()
    return network


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        (PLAIN, 1),
        ({**PLAIN, "auxiliary": 0.4, "label_smoothing": 0.1, "balance": "loss"}, 1),
        ({"ema_decay": 0.0, "clip_norm": 0.5}, 3),
    ],
)
def test_training_equals_a_plain_loop(make, tmp_path, changes, epochs):
    # A small rate: float32 differences of channels-last sums grow with every large step.
    settings = make.settings(epochs=epochs, learning_rate=0.005, **changes)
    auxiliary = settings.auxiliary > 0
    ours = make.network(auxiliary)
    fit(ours, make.data(), settings, tmp_path, Silent())
    theirs = _epochs_by_hand(make.network(auxiliary), make.data(), settings, epochs)
    start = make.network(auxiliary)
    for mine, other, before in zip(ours.parameters(), theirs.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)
        assert before.requires_grad == mine.requires_grad
    moved = [not torch.equal(a, b) for a, b in zip(ours.parameters(), start.parameters(), strict=True)]
    assert any(moved)


def test_drop_path_reaches_every_cell_with_the_epochs_probability(make, tmp_path):
    network, seen = make.network(), []

    def look(index, cell):
        generator = cell.drop_path.generator
        seen.append((index, cell.training, cell.drop_path.probability, generator and generator.initial_seed()))

    for index, cell in enumerate(network.cells):
        cell.register_forward_pre_hook(lambda cell, _, index=index: look(index, cell))
    fit(network, make.data(), make.settings(epochs=4, drop_path=0.4, ema_decay=0.0), tmp_path, Silent())
    for cell in range(3):
        training = [p for index, mode, p, _ in seen if index == cell and mode]
        assert training == pytest.approx([0.0] * 3 + [0.1] * 3 + [0.2] * 3 + [0.3] * 3)  # 20 images, 3 steps
    assert len({seed for _, mode, _, seed in seen if mode}) == 12  # new masks at every step
    assert {mode for _, mode, _, _ in seen} == {True, False}
    assert (network.drop_path.probability, network.drop_path.generator) == (0.0, None)


def test_drop_path_drops_in_training_and_not_in_evaluation(make):
    network, images = make.network(auxiliary=False), torch.randn(4, 3, 8, 8)
    network.set_drop_path(0.5, torch.Generator().manual_seed(0))
    network.train()
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


CHANGES = [
    {"drop_path": 0.0},
    {"label_smoothing": 0.0},
    {"mixup": 0.0},
    {"cutmix": 0.0},
    {"weight_decay": 0.1},
    {"clip_norm": 0.01},
    {"balance": "sampler"},
    {"balance": "loss"},
    {"seed": 1},
    {"momentum": 0.5},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_setting_changes_the_weights(make, tmp_path, change):
    data = make.data(19)  # classes differ in size
    with_default, changed = make.network(), make.network()
    fit(with_default, data, make.settings(epochs=2), tmp_path / "default", Silent())
    fit(changed, data, make.settings(epochs=2, **change), tmp_path / "changed", Silent())
    assert not torch.equal(with_default.classifier.weight, changed.classifier.weight)


def test_clipping_bounds_the_step(make, tmp_path):
    settings = make.settings(
        epochs=1, batch_size=20, clip_norm=0.001, weight_decay=0.0, momentum=0.0, learning_rate=1.0, ema_decay=0.0
    )
    network, start = make.network(), make.network()
    fit(network, make.data(), settings, tmp_path, Silent())
    pairs = zip(network.parameters(), start.parameters(), strict=True)
    step = torch.sqrt(sum((after - before).detach().square().sum() for after, before in pairs))
    assert float(step) == pytest.approx(0.001, rel=1e-3)


def test_the_average_follows_every_step(make, tmp_path):
    settings, network = make.settings(epochs=1, batch_size=10), make.network()
    weights = []

    def look(cell, _):
        if cell.training:
            weights.append(network.classifier.weight.detach().clone())

    network.cells[0].register_forward_pre_hook(look)  # so before each of the two steps
    fit(network, make.data(), settings, tmp_path, Silent())
    average, first, second = *weights, network.classifier.weight.detach()
    for n, step in ((1, first), (2, second)):
        average = average.lerp(step, 1 - (1 + n) / (10 + n))
    kept = torch.load(tmp_path / "best.pt", weights_only=True)
    torch.testing.assert_close(kept["classifier.weight"], average)


def test_the_average_is_validated_and_kept(make, tmp_path):
    settings, network = make.settings(epochs=2, ema_decay=0.9), make.network()
    fit(network, make.data(), settings, tmp_path, Silent())
    kept = torch.load(tmp_path / "best.pt", weights_only=True)
    assert not torch.equal(kept["classifier.weight"], network.classifier.weight)
    assert not torch.equal(kept["classifier.weight"], make.network().classifier.weight)
    assert set(kept) == set(network.state_dict())


def test_a_last_batch_of_one_image_is_left_out(make, tmp_path):
    network = make.network()
    sizes = []
    network.register_forward_pre_hook(lambda module, inputs: sizes.append((module.training, len(inputs[0]))))
    fit(network, make.data(17), make.settings(epochs=1, ema_decay=0.0), tmp_path, Silent())
    assert sizes == [(True, 8), (True, 8), (False, 8), (False, 1)]


def test_settings_that_do_not_fit_the_network_are_named(make):
    plain = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    with pytest.raises(ConfigError, match="drop_path"):
        TrainModule(plain, make.settings(auxiliary=0.0), 3)
    with pytest.raises(ConfigError, match=r"auxiliary 0\.4.*has none"):
        TrainModule(plain, make.settings(drop_path=0.0), 3)
    with pytest.raises(ConfigError, match=r"auxiliary 0\.0.*has one"):
        TrainModule(make.network(), make.settings(auxiliary=0.0), 3)
    TrainModule(plain, make.settings(**PLAIN), 3)


def test_a_loss_that_is_not_finite_ends_the_training(make, tmp_path):
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        fit(make.network(), make.data(), make.settings(learning_rate=1e30, clip_norm=0.0), tmp_path, Silent())


def test_data_that_cannot_be_trained_on_are_named(make, tmp_path):
    data = make.data()
    with pytest.raises(DataError, match="label 2"):
        type(data)(data.train, data.validation, ("a", "b"))
    more = type(data)(data.train, data.validation, (*data.classes, "never"))
    with pytest.raises(DataError, match="no image of never"):
        fit(make.network(), more, make.settings(balance="loss"), tmp_path, Silent())
    with pytest.raises(ConfigError, match="1 images"):
        fit(make.network(), make.data(1), make.settings(), tmp_path, Silent())
