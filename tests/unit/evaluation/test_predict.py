"""Logits of a split: equal to a plain loop, in evaluation mode, with and without flips."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dermonas.data.augmentation import AugmentSettings, Evaluate
from dermonas.errors import ConfigError, DataError
from dermonas.evaluation.predict import flips, predict
from dermonas.events import Silent
from dermonas.nn.network import Network
from dermonas.seeding import numpy_generator
from dermonas.space import zoo

# Whatever a training view does beyond Evaluate would show: cutout, jitter, padding.
VIEW = AugmentSettings(
    size=8, crop="pad", padding=2, cutout=4, jitter=(0.4, 0.4, 0.4, 0.1), horizontal_flip=0.5, vertical_flip=0.5
)


@pytest.fixture
def images() -> np.ndarray:
    return numpy_generator(0, "images").integers(0, 256, (11, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def network() -> Network:
    made = Network(zoo.load("DARTS_V2"), stem="cifar", channels=4, layers=3, classes=3, auxiliary=8, seed=1)
    made.set_drop_path(0.5, torch.Generator().manual_seed(0))
    return made.train()


class Pixels(nn.Module):
    """Logits that are single pixels: anything but the identity moves them."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0, 0, 1], x[:, 1, 2, 3], x[:, 2, 0, 0]], dim=1)


class Means(nn.Module):
    """Logits that no flip changes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def plain_loop(model: nn.Module, images: np.ndarray, view: AugmentSettings) -> np.ndarray:
    model.eval()
    with torch.no_grad():
        return np.concatenate([model(Evaluate(view)(image)[None]).double().numpy() for image in images])


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_logits_are_those_of_a_plain_loop(network, images, batch_size):
    got = predict(network, images, VIEW, batch_size=batch_size)
    assert got.dtype == np.float64
    assert got.shape == (11, 3)
    np.testing.assert_allclose(got, plain_loop(network, images, VIEW), atol=1e-6)


def test_larger_images_are_cut_as_evaluate_cuts_them(images):
    view = AugmentSettings(size=7, crop="random_resized")
    large = numpy_generator(1, "images").integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    np.testing.assert_allclose(predict(Pixels(), large, view), plain_loop(Pixels(), large, view))


def test_the_model_is_left_as_it_was(network, images):
    network.cells[0].eval()  # a part that its owner had frozen
    modes = [module.training for module in network.modules()]
    state = {key: value.clone() for key, value in network.state_dict().items()}
    generator = torch.get_rng_state()
    predict(network, images, VIEW, tta=True)
    assert [module.training for module in network.modules()] == modes
    assert True in modes
    assert False in modes
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in state.items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(parameter.is_inference() for parameter in network.parameters())


def test_the_model_is_left_as_it_was_after_a_failure(images):
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="out of memory"):
        predict(model, images, VIEW)
    assert model.training


@pytest.mark.parametrize(
    ("horizontal", "vertical", "want"),
    [(0.5, 0.0, ((), (3,))), (0.0, 1.0, ((), (2,))), (0.1, 0.1, ((), (3,), (2,), (2, 3)))],
)
def test_flips_are_those_of_training(horizontal, vertical, want):
    assert flips(AugmentSettings(horizontal_flip=horizontal, vertical_flip=vertical)) == want


def test_tta_without_flips_in_training_is_refused(images):
    with pytest.raises(ConfigError, match="saw none"):
        predict(Means(), images, AugmentSettings(size=8), tta=True)


def test_tta_is_the_mean_over_flipped_images(images, network):
    for model in (Pixels(), network):
        want = np.mean(
            [
                plain_loop(model, turned, VIEW)
                for turned in (images, images[:, :, ::-1], images[:, ::-1], images[:, ::-1, ::-1])
            ],
            axis=0,
        )
        got = predict(model, images, VIEW, tta=True, batch_size=4)
        np.testing.assert_allclose(got, want, atol=1e-6)
        assert np.abs(got - predict(model, images, VIEW)).max() > 1e-3


def test_tta_does_not_change_a_model_that_flips_do_not_change(images):
    np.testing.assert_allclose(predict(Means(), images, VIEW, tta=True), predict(Means(), images, VIEW), atol=1e-6)


def test_tta_gives_an_image_and_its_mirror_the_same_logits(images, network):
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    np.testing.assert_allclose(
        predict(network, images, VIEW, tta=True), predict(network, mirrored, VIEW, tta=True), atol=1e-6
    )


def test_progress_is_told(images):
    heard: list[Any] = []

    class Ears(Silent):
        def started(self, stage, total, info):
            heard.append((stage, total))

        def epoch(self, number, epoch, metrics):
            heard.append(metrics["images"])

        def finished(self, stage, metrics):
            heard.append(stage)

    predict(Means(), images, VIEW, batch_size=4, observer=Ears())
    assert heard == [("predict", 11), 4, 8, 11, "predict"]


def test_what_cannot_be_predicted_is_told(images):
    class Nowhere(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x.mean(dim=(2, 3)) == x.mean(dim=(2, 3)).max(), torch.nan, x.mean(dim=(2, 3)))

    class Maps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(DataError, match=r"row \d+: the model's logits are not finite \(1 such"):
        predict(Nowhere(), images, VIEW)
    with pytest.raises(DataError, match="no image to predict"):
        predict(Means(), images[:0], VIEW)
    with pytest.raises(ConfigError, match="no logits"):
        predict(Maps(), images, VIEW)
    with pytest.raises(ConfigError, match="batch_size 0"):
        predict(Means(), images, VIEW, batch_size=0)
