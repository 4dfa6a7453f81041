"""The exact CAM: its identity, its scaling, and what serving loads with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from explained import CLASSES, Pooled, noise
from torch import Tensor

from dermonas.errors import ConfigError, DataError
from dermonas.explain.cam import class_activation, raw_cam, roi, scale, upsample
from dermonas.nn.network import Network

WEIGHT = noise(CLASSES, 7, seed=1)
FEATURES = noise(3, 7, 4, 5)


def slow(features: Tensor, weight: Tensor, classes: list[int]) -> Tensor:
    """Write the weighted sum out."""
    batch, channels, height, width = features.shape
    out = torch.zeros(batch, height, width)
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                out[b, i, j] = sum(features[b, f, i, j] * weight[classes[b], f] for f in range(channels))
    return out


def test_a_weighted_sum_of_the_class_of_each_image() -> None:
    classes = [4, 0, 2]
    torch.testing.assert_close(raw_cam(FEATURES, WEIGHT, torch.tensor(classes)), slow(FEATURES, WEIGHT, classes))
    torch.testing.assert_close(raw_cam(FEATURES, WEIGHT, 1), slow(FEATURES, WEIGHT, [1, 1, 1]))


@pytest.mark.parametrize("label", range(CLASSES))
def test_the_mean_and_the_bias_are_the_logit(network: Network, label: int) -> None:
    images = noise(2, 3, 16, 16)
    with torch.no_grad():
        features, logits = network.feature_maps(images)[0], network(images)
    assert network.classifier is not None
    cam = raw_cam(features, network.classifier.weight, label)
    torch.testing.assert_close(cam.mean(dim=(1, 2)) + network.classifier.bias[label].detach(), logits[:, label])


def test_maps_span_0_to_1_at_the_size_asked_for() -> None:
    for size, shape in ((16, (16, 16)), ((9, 31), (9, 31)), ((3, 2), (3, 2)), (1, (1, 1))):
        cam = class_activation(FEATURES, WEIGHT, 2, size)
        assert cam.shape == (3, *shape)
        assert cam.dtype == torch.float32
        if size != 1:
            assert torch.equal(cam.amin(dim=(1, 2)), torch.zeros(3))
            assert torch.equal(cam.amax(dim=(1, 2)), torch.ones(3))


def test_a_batch_is_its_images() -> None:
    together = class_activation(FEATURES, WEIGHT, torch.tensor([1, 2, 3]), 12)
    alone = [class_activation(FEATURES[k : k + 1], WEIGHT, k + 1, 12) for k in range(3)]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together, class_activation(FEATURES, WEIGHT, torch.tensor([1, 2, 3]), 12))
    assert class_activation(FEATURES[:0], WEIGHT, 0, 12).shape == (0, 12, 12)


def test_upsampling_is_bilinear_between_pixel_centres() -> None:
    cam = torch.tensor([[[0.0, 1.0]]])
    torch.testing.assert_close(upsample(cam, (1, 4))[0, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))
    assert torch.equal(upsample(FEATURES[:, 0], (4, 5)), FEATURES[:, 0])


@pytest.mark.parametrize("level", [0.0, 0.1, -3.7, 1e20])
@pytest.mark.parametrize("size", [7, 33])
def test_a_constant_map_is_zeros(level: float, size: int) -> None:
    features = torch.full((2, 7, 3, 3), level)
    cam = class_activation(features, WEIGHT, 0, size)
    assert torch.equal(cam, torch.zeros(2, size, size))
    assert not roi(cam).any()


def test_one_position_and_cancelling_channels_are_constant() -> None:
    assert not class_activation(FEATURES[:, :, :1, :1], WEIGHT, 0, 8).any()
    # 300 channels whose weighted sum is zero in exact arithmetic: rounding must not become a picture.
    half = noise(1, 150, 1, 1).expand(1, 150, 8, 8)
    weight = noise(1, 150, seed=2)
    assert not class_activation(torch.cat([half, half], 1), torch.cat([weight, -weight], 1), 0, 8).any()


def test_a_faint_map_is_no_constant() -> None:
    cam = class_activation(FEATURES * 1e-20, WEIGHT, 0, 12)
    torch.testing.assert_close(cam, class_activation(FEATURES, WEIGHT, 0, 12))


def test_mirrored_features_give_the_mirrored_map() -> None:
    for dim in (-1, -2):
        cam = class_activation(FEATURES.flip(dim), WEIGHT, 1, 13)
        torch.testing.assert_close(cam, class_activation(FEATURES, WEIGHT, 1, 13).flip(dim))


def test_a_pointwise_network_commutes_with_mirrors() -> None:
    network, images = Pooled(kernel=1, stride=1).eval(), noise(2, 3, 9, 9)
    maps = [class_activation(network.body(x), network.head.weight, 2, 20) for x in (images, images.flip(-1))]
    torch.testing.assert_close(maps[1], maps[0].flip(-1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    features, weight = FEATURES.to(dtype), WEIGHT.to(dtype)
    cam = class_activation(features, weight, 3, 10)
    assert cam.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(cam.float(), class_activation(features.float(), weight.float(), 3, 10))
    assert class_activation(features, WEIGHT, 3, 10).dtype == cam.dtype


def test_no_graph_is_kept() -> None:
    assert not class_activation(FEATURES.clone().requires_grad_(), WEIGHT.clone().requires_grad_(), 0, 8).requires_grad


def test_the_region_is_where_the_map_reaches_the_threshold() -> None:
    cam = torch.tensor([[0.0, 0.69, 0.7, 1.0]])
    assert roi(cam).tolist() == [[False, False, True, True]]
    assert roi(cam, 1.0).tolist() == [[False, False, False, True]]
    assert roi(cam[None]).shape == (1, 1, 4)


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.01, float("nan")])
def test_a_threshold_out_of_range(threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"threshold .* must lie in \(0, 1\]"):
        roi(FEATURES[:, 0], threshold)


@pytest.mark.parametrize(
    ("features", "weight", "classes", "error", "text"),
    [
        (FEATURES[0], WEIGHT, 0, ValueError, r"features must be .* not \(7, 4, 5\)"),
        (FEATURES[:, :, :0], WEIGHT, 0, ValueError, "features must be"),
        (FEATURES, WEIGHT[:, :6], 0, ValueError, r"weight must be \(classes, 7\), not \(5, 6\)"),
        (FEATURES, WEIGHT[0], 0, ValueError, "weight must be"),
        (FEATURES, WEIGHT, 5, ConfigError, r"class 5 does not exist; the classifier has 0\.\.4"),
        (FEATURES, WEIGHT, -1, ConfigError, "class -1 does not exist"),
        (FEATURES, WEIGHT, torch.tensor([0, 9, 1]), ConfigError, "class 9"),
        (FEATURES, WEIGHT, torch.tensor([0, 1]), ValueError, r"one integer or \(3,\), not \(2,\)"),
        (FEATURES, WEIGHT, torch.tensor(1.0), ValueError, "must be integers"),
    ],
)
def test_what_does_not_fit(features: Tensor, weight: Tensor, classes: Tensor | int, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        class_activation(features, weight, classes, 8)


def test_features_that_are_not_finite_name_their_image() -> None:
    broken = FEATURES.clone()
    broken[1, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match=r"image 1 in the batch is not finite \(1 such\)"):
        class_activation(broken, WEIGHT, 0, 8)


@pytest.mark.parametrize("size", [0, (3, 0), -2])
def test_sizes_that_do_not_exist(size: int | tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot resize"):
        class_activation(FEATURES, WEIGHT, 0, size)


def test_scale_keeps_order() -> None:
    values = noise(1, 6, 6)
    assert torch.equal(scale(values).flatten().argsort(), values.flatten().argsort())


def test_serving_loads_torch_and_little_else() -> None:
    code = "import json, sys, dermonas.explain.cam; print(json.dumps(sorted(sys.modules)))"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    heavy = "timm sklearn scipy matplotlib lightning optuna albumentations cv2 pytorch_grad_cam mlflow pandas PIL"
    assert not {name.partition(".")[0] for name in loaded} & set(heavy.split())
    mine = {name for name in loaded if name.startswith("dermonas")}
    assert mine == {"dermonas", "dermonas.errors", "dermonas.explain", "dermonas.explain.cam"}
