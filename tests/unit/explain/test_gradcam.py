"""Grad-CAM: equal to the exact CAM where that exists, on the right layer, leaving nothing behind."""

from __future__ import annotations

import pytest
import timm
import torch
from explained import CLASSES, Pooled, noise
from torch import Tensor, nn
from torch.nn import functional as F

from dermonas.errors import ConfigError
from dermonas.explain.cam import raw_cam, scale, upsample
from dermonas.explain.gradcam import gradcam, target_layer
from dermonas.nn.network import Network
from dermonas.seeding import forked


def exact(features: Tensor, weight: Tensor, classes: Tensor, size: tuple[int, int]) -> Tensor:
    return scale(upsample(raw_cam(features, weight, classes).relu(), size))


def baseline(name: str, **options: object) -> nn.Module:
    with forked(0, "test"):
        return timm.create_model(name, num_classes=CLASSES, **options).eval()


@pytest.mark.parametrize("size", [(16, 16), (21, 17)])
def test_it_is_the_exact_cam_without_its_negative_part(pooled: Pooled, size: tuple[int, int]) -> None:
    images, classes = noise(3, 3, *size), torch.tensor([0, 4, 2])
    maps, explained = gradcam(pooled, images, classes)
    assert maps.shape == (3, *size)
    assert maps.dtype == torch.float32
    assert torch.equal(explained, classes)
    torch.testing.assert_close(maps, exact(pooled.body(images), pooled.head.weight, classes, size), atol=1e-4, rtol=0)


def test_it_is_the_exact_cam_of_our_own_network(network: Network) -> None:
    images = noise(2, 3, 16, 16)
    assert target_layer(network, images) == "cells.2"
    assert network.classifier is not None
    classes = torch.tensor([3, 1])
    wanted = exact(network.feature_maps(images)[0], network.classifier.weight, classes, (16, 16))
    torch.testing.assert_close(gradcam(network, images, classes)[0], wanted, atol=1e-4, rtol=0)


def test_it_explains_the_predicted_class_unless_told(pooled: Pooled) -> None:
    images = noise(4, 3, 16, 16)
    maps, classes = gradcam(pooled, images)
    assert torch.equal(classes, pooled(images).argmax(dim=1))
    assert torch.equal(maps, gradcam(pooled, images, classes)[0])
    assert gradcam(pooled, images, 2)[1].tolist() == [2] * 4
    assert not torch.equal(gradcam(pooled, images, 2)[0], gradcam(pooled, images, 3)[0])


def test_a_batch_is_its_images_and_a_second_time_is_the_first(pooled: Pooled) -> None:
    images = noise(3, 3, 15, 15)
    together = gradcam(pooled, images, 1)[0]
    assert torch.equal(together, gradcam(pooled, images, 1)[0])
    for k in range(3):
        torch.testing.assert_close(gradcam(pooled, images[k : k + 1], 1)[0], together[k : k + 1])


def test_mirrors_commute_where_the_network_commutes() -> None:
    network, images = Pooled(kernel=1, stride=1).eval(), noise(2, 3, 9, 9)
    torch.testing.assert_close(gradcam(network, images.flip(-1), 0)[0], gradcam(network, images, 0)[0].flip(-1))


def test_nothing_is_left_behind(pooled: Pooled) -> None:
    pooled.train()
    pooled.body[1].eval()  # a frozen batch norm
    pooled.head.bias.requires_grad_(False)
    pooled.head.weight.grad = torch.ones_like(pooled.head.weight)
    modes = [module.training for module in pooled.modules()]
    state = {name: value.clone() for name, value in pooled.state_dict().items()}
    images = noise(2, 3, 16, 16)
    before = images.clone()
    gradcam(pooled, images)
    with pytest.raises(ConfigError):
        gradcam(pooled, images, CLASSES)
    assert [module.training for module in pooled.modules()] == modes
    assert not any(module._forward_hooks or module._backward_hooks for module in pooled.modules())
    assert [n for n, p in pooled.named_parameters() if not p.requires_grad] == ["head.bias"]
    assert [n for n, p in pooled.named_parameters() if p.grad is not None] == ["head.weight"]
    assert torch.equal(pooled.head.weight.grad, torch.ones_like(pooled.head.weight))
    assert all(torch.equal(value, state[name]) for name, value in pooled.state_dict().items())
    assert torch.equal(images, before)
    assert not images.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_grad_mode_does_not_matter(pooled: Pooled, mode: type) -> None:
    images = noise(2, 3, 16, 16)
    with mode():
        maps = gradcam(pooled, images.clone(), 1)[0]
    assert not maps.requires_grad
    assert torch.equal(maps, gradcam(pooled, images, 1)[0])


def test_bfloat16() -> None:
    network, images = Pooled().eval(), noise(2, 3, 16, 16)
    wanted = gradcam(network, images, 1)[0]
    torch.testing.assert_close(gradcam(network, images.bfloat16(), 1)[0], wanted, atol=0.05, rtol=0)
    maps = gradcam(network.bfloat16(), images, 1)[0]
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps, wanted, atol=0.1, rtol=0)


class Head(nn.Module):
    """A trunk with a ReLU in place after the layer of interest, a layer that runs twice, and one aside."""

    def __init__(self) -> None:
        super().__init__()
        with forked(5, "test"):
            self.first, self.last, self.aside = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
            self.again = nn.Identity()
            self.linear = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        self.aside(x)
        x = F.relu(self.last(self.again(self.again(self.first(x)))), inplace=True)
        return self.linear(x.mean(dim=(2, 3)))


def test_a_relu_in_place_does_not_change_what_is_explained() -> None:
    model, images = Head().eval(), noise(2, 3, 8, 8)
    assert target_layer(model, images) == "last"
    before = model.last(model.first(images)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.linear(before.relu().mean(dim=(2, 3)))[:, 1].sum(), before)
    raw = (gradient.mean(dim=(2, 3), keepdim=True) * before.detach()).sum(dim=1)
    torch.testing.assert_close(gradcam(model, images, 1)[0], scale(upsample(raw.relu(), 8)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ("lust", r"layer 'lust' is not in Head; there are first, last, aside, again, linear"),
        ("", "layer '' is not in Head"),
        ("trunk.last", "there are last"),
        ("again", "layer again runs 2 times"),
        ("linear", r"layer linear gives \(2, 5\); Grad-CAM needs \(batch, features, h, w\)"),
        ("aside", "layer aside does not reach the logits"),
    ],
)
def test_layers_that_cannot_be_explained(layer: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        gradcam(Head().eval(), noise(2, 3, 8, 8), 0, layer)


def test_a_map_without_a_positive_place_is_zeros(pooled: Pooled) -> None:
    with torch.no_grad():
        pooled.head.weight[0] = 0.0
    assert not gradcam(pooled, noise(2, 3, 16, 16), 0)[0].any()


@pytest.mark.parametrize(
    ("name", "layer"), [("tf_efficientnet_lite0", "bn2"), ("resnet10t", "layer4"), ("mobilenetv3_small_050", "blocks")]
)
def test_timm_models(name: str, layer: str) -> None:
    model, images = baseline(name), noise(2, 3, 64, 64)
    assert target_layer(model, images) == layer
    maps, _ = gradcam(model, images)
    assert maps.shape == (2, 64, 64)
    assert maps.amax(dim=(1, 2)).tolist() == [1.0, 1.0]
    assert torch.equal(maps, gradcam(model, images, layer=layer)[0])


def test_images_too_small_for_the_last_stage() -> None:
    model, images = baseline("resnet14t"), noise(1, 3, 32, 32)
    with pytest.raises(ConfigError, match=r"block layer4\.0 gives one position at 32 x 32 pixels: name an earlier"):
        gradcam(model, images)
    assert gradcam(model, images, layer="layer3")[0].shape == (1, 32, 32)


def test_a_trunk_that_pools_itself() -> None:
    with forked(0, "test"):
        trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        model = nn.Sequential(trunk, nn.Flatten(), nn.Linear(4, CLASSES))
    assert target_layer(model, noise(1, 3, 8, 8)) == "0.1"


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("vit_tiny_patch16_224", {"img_size": 32, "depth": 1}, r"layer norm gives tokens \(1, 5, 192\)"),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 64, "window_size": 2, "depths": (1, 1, 1, 1), "embed_dim": 24},
            r"layer norm gives \(1, 2, 2, 192\), not \(batch, features, h, w\)",
        ),
    ],
)
def test_transformers_are_refused_in_one_line(name: str, options: dict[str, object], text: str) -> None:
    model = baseline(name, **options)
    size = options["img_size"]
    with pytest.raises(ConfigError, match=text):
        gradcam(model, noise(1, 3, size, size))


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)), "no layer gives a 4-d map of more than one position"),
        (nn.Conv2d(3, 4, 3), r"Conv2d gives \(1, 4, 6, 6\) in eval mode; Grad-CAM needs logits"),
        (nn.Flatten(), "Flatten has no parameters"),
    ],
)
def test_models_that_cannot_be_explained(model: nn.Module, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        gradcam(model, noise(1, 3, 8, 8))


def test_classes_and_images_that_do_not_fit(pooled: Pooled) -> None:
    images = noise(2, 3, 16, 16)
    for wrong in (CLASSES, -1, torch.tensor([0, CLASSES])):
        with pytest.raises(ConfigError, match=r"class -?\d does not exist; the model gives \(5\) logits"):
            gradcam(pooled, images, wrong)
    for wrong in (torch.tensor([0]), torch.tensor([0.0, 1.0])):
        with pytest.raises(ValueError, match="classes must be one integer or integers"):
            gradcam(pooled, images, wrong)
    with pytest.raises(ValueError, match="images must be"):
        gradcam(pooled, images[0])
