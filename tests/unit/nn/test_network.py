"""Classifiers: auxiliary head, resolutions, features, export."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dermonas.errors import ConfigError, GenotypeError
from dermonas.nn.auxiliary import AuxiliaryHead
from dermonas.nn.network import Network, Stem, check_resolution
from dermonas.nn.operations import FactorizedReduce, Zero, build_operation
from dermonas.space import zoo


def build(stem: Stem = "cifar", classes: int | None = 3, auxiliary: int | None = None, layers: int = 6) -> Network:
    return Network(zoo.load("DermoCSNAS_5"), stem=stem, channels=4, layers=layers, classes=classes, auxiliary=auxiliary)


@pytest.mark.parametrize(
    ("stem", "resolution", "pool"),
    [
        ("cifar", 32, nn.AvgPool2d),
        ("imagenet", 224, nn.AvgPool2d),
        ("cifar", 64, nn.AvgPool2d),
        ("cifar", 8, nn.AdaptiveAvgPool2d),
        ("cifar", 28, nn.AdaptiveAvgPool2d),
        ("imagenet", 64, nn.AdaptiveAvgPool2d),
        ("imagenet", 192, nn.AdaptiveAvgPool2d),
    ],
)
def test_auxiliary_logits_in_training_only(stem: Stem, resolution: int, pool: type) -> None:
    network = build(stem, auxiliary=resolution)
    assert network.auxiliary is not None
    assert type(network.auxiliary[1]) is pool
    pooled = []
    network.auxiliary[1].register_forward_hook(lambda module, inputs, output: pooled.append(output.shape[-1]))
    x = torch.randn(2, 3, resolution, resolution, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, auxiliary = network.train()(x)
        assert logits.shape == auxiliary.shape == (2, 3)
        assert pooled == [2] or resolution == 64
        assert network.eval()(x).shape == (2, 3)
    assert len(pooled) == 1


def test_auxiliary_head_is_the_published_one() -> None:
    cifar, imagenet = (AuxiliaryHead(24, 5, stem, 8) for stem in ("cifar", "imagenet"))
    kinds = [type(m).__name__ for m in cifar]
    assert kinds[:8] == ["ReLU", "AvgPool2d", "Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU"]
    assert [type(m).__name__ for m in imagenet] == [kind for i, kind in enumerate(kinds) if i != 6]
    assert (cifar[1].kernel_size, cifar[1].stride, imagenet[1].stride) == (5, 3, 2)
    without_norm = 24 * 128 + 2 * 128 + 128 * 768 * 4 + 768 * 5 + 5
    assert sum(p.numel() for p in imagenet.parameters()) == without_norm
    assert sum(p.numel() for p in cifar.parameters()) == without_norm + 2 * 768


def test_auxiliary_head_reads_the_cell_at_two_thirds() -> None:
    network = build(auxiliary=16).train()
    seen = {}
    network.cells[4].register_forward_hook(lambda module, inputs, output: seen.update(cell=output))
    network.auxiliary.register_forward_hook(lambda module, inputs, output: seen.update(head=inputs[0]))
    _, auxiliary = network(torch.randn(2, 3, 16, 16))
    assert seen["head"] is seen["cell"]
    auxiliary.sum().backward()
    assert network.cells[4].preprocess1[1].weight.grad is not None
    assert network.cells[5].preprocess1[1].weight.grad is None


def test_auxiliary_head_leaves_the_trunks_weights_alone() -> None:
    plain, helped = build().state_dict(), build(auxiliary=16).state_dict()
    assert all(torch.equal(value, helped[key]) for key, value in plain.items())


@pytest.mark.parametrize(
    ("resolution", "stem", "divisor"),
    [(30, "cifar", 4), (0, "cifar", 4), (-4, "cifar", 4), (2, "cifar", 4), (225, "imagenet", 32), (16, "imagenet", 32)],
)
def test_impossible_resolutions_name_value_and_mend(resolution: int, stem: Stem, divisor: int) -> None:
    with pytest.raises(ConfigError, match=f"resolution {resolution} .*{stem}.* multiple of {divisor}"):
        check_resolution(resolution, stem)
    with pytest.raises(ConfigError, match=f"{resolution}"):
        build(stem, auxiliary=resolution)


def test_every_allowed_small_resolution_runs() -> None:
    for stem, resolutions in (("cifar", (4, 8, 12, 20)), ("imagenet", (32, 96))):
        network = build(stem)  # type: ignore[arg-type]
        for resolution in resolutions:
            check_resolution(resolution, stem)  # type: ignore[arg-type]
            assert network(torch.randn(2, 3, resolution, resolution)).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 3}, "channels 3"),
        ({"channels": 0}, "channels 0"),
        ({"layers": 2}, "layers 2"),
        ({"auxiliary": 32}, "auxiliary"),
    ],
)
def test_impossible_networks_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Network(zoo.load("DermoCSNAS_5"), **{"stem": "cifar", "channels": 4, "layers": 3, **settings})


def test_features_feed_the_classifier() -> None:
    network, trunk = build().eval(), build(classes=None).eval()
    x = torch.randn(3, 3, 8, 8)
    features = trunk(x)
    assert features.shape == (3, trunk.features_out)
    assert torch.equal(features, network.features(x))
    maps, middle = network.feature_maps(x)
    assert maps.shape == (3, network.features_out, 2, 2)
    assert middle is None
    assert torch.equal(network.classifier(maps.mean(dim=(2, 3))), network(x))


def test_state_dict_round_trip() -> None:
    network, other = build(), Network(zoo.load("DermoCSNAS_5"), stem="cifar", channels=4, layers=6, classes=3, seed=7)
    x = torch.randn(4, 3, 8, 8)
    network.train()(x)
    assert not torch.equal(network.eval()(x), other.eval()(x))
    other.load_state_dict(network.state_dict())
    assert torch.equal(network(x), other(x))


def test_a_classifier_exports_with_a_dynamic_batch() -> None:
    network = build(layers=3, auxiliary=16).eval()
    network.set_drop_path(0.5)  # must leave no trace in evaluation
    example = torch.randn(2, 3, 8, 8)
    program = torch.export.export(network, (example,), dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
    exported = program.module()
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(batch))
        torch.testing.assert_close(exported(x), network(x), rtol=1e-5, atol=1e-6)


def test_none_is_zeros_of_the_right_shape_and_grid() -> None:
    x = torch.randn(2, 4, 6, 6)
    for stride in (1, 2):
        out = build_operation("none", 4, stride)(x)
        assert out.shape == (2, 4, 6 // stride, 6 // stride)
        assert not out.any()
    x[0, 0, 0, 0] = float("inf")  # times 0, as published, not a fresh tensor of zeros
    assert Zero(2)(x)[0, 0, 0, 0].isnan()


def test_factorized_reduce_sees_every_other_pixel_of_both_diagonals() -> None:
    block = FactorizedReduce(1, 3).eval()
    assert [block.even.out_channels, block.odd.out_channels] == [1, 2]
    with torch.no_grad():
        for conv in (block.even, block.odd):
            conv.weight.fill_(1.0)
        for row in range(4):
            for column in range(4):
                one = torch.zeros(1, 1, 4, 4)
                one[..., row, column] = 1
                even, odd = block(one)[0, :2].sum(dim=(1, 2)) > 0.5
                assert (bool(even), bool(odd)) == (row % 2 == column % 2 == 0, row % 2 == column % 2 == 1)


def test_an_unknown_operation_is_refused_by_name() -> None:
    with pytest.raises(GenotypeError, match=r"'conv_9x9'.*max_pool_3x3"):
        build_operation("conv_9x9", 4, 1)
