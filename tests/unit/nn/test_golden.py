"""Published and measured sizes: spec/csnas.md 1.5. Networks stand on the meta device: nothing is computed."""

from __future__ import annotations

import pytest
import torch

from dermonas.nn.measure import Cost, count_parameters, measure
from dermonas.nn.network import Network, Stem
from dermonas.nn.operations import FactorizedReduce, ReLUConvBN
from dermonas.space import zoo


def build(
    name: str, stem: Stem, layers: int, channels: int, classes: int | None, auxiliary: int | None = None
) -> Network:
    with torch.device("meta"):
        return Network(
            zoo.load(name),
            stem=stem,
            layers=layers,
            channels=channels,
            classes=classes,
            auxiliary=auxiliary,
            seed=None,
        )


@pytest.mark.parametrize(
    ("name", "stem", "layers", "channels", "classes", "parameters"),
    [
        ("DARTS_V2", "cifar", 20, 36, 10, 3_349_342),
        ("PDARTS", "cifar", 20, 36, 10, 3_433_798),
        ("PC_DARTS_cifar", "cifar", 20, 36, 10, 3_634_678),
        ("DARTS_V1", "cifar", 20, 36, 10, 3_169_414),
        ("NASNet", "cifar", 20, 36, 10, 3_830_950),
        ("DARTS_V2", "imagenet", 14, 48, 1000, 4_718_752),
        ("PC_DARTS_image", "imagenet", 14, 48, 1000, 5_342_464),
        ("DermoCSNAS_4", "imagenet", 18, 48, 8, 3_554_048),
        ("DermoCSNAS_4_figure", "imagenet", 18, 48, 8, 3_554_048),
        ("DermoCSNAS_5", "imagenet", 18, 48, 8, 4_151_648),
    ],
)
def test_parameters_are_the_published_ones(
    name: str, stem: Stem, layers: int, channels: int, classes: int, parameters: int
) -> None:
    assert count_parameters(build(name, stem, layers, channels, classes))[0] == parameters


@pytest.mark.parametrize(
    ("name", "layers", "channels", "classes", "millions"),
    [("DermoCSNAS_4", 24, 58, 8, 6.913), ("DermoCSNAS_5", 24, 58, 8, 8.084)],
)
def test_sizes_of_the_defaults_of_the_papers_code(
    name: str, layers: int, channels: int, classes: int, millions: float
) -> None:
    total = count_parameters(build(name, "imagenet", layers, channels, classes))[0]
    assert round(total / 1e6, 3) == millions


@pytest.mark.parametrize(
    ("name", "stem", "layers", "channels", "classes", "resolution", "millions"),
    [
        ("DARTS_V2", "imagenet", 14, 48, 1000, 224, 529.9),
        ("DermoCSNAS_4", "imagenet", 18, 48, 8, 224, 496.1),
        ("DermoCSNAS_5", "imagenet", 18, 48, 8, 224, 573.8),
        ("DermoCSNAS_4", "cifar", 8, 32, None, 32, 130.4),
        ("DermoCSNAS_5", "cifar", 8, 32, None, 32, 150.1),
    ],
)
def test_multiply_adds_are_the_published_ones(
    name: str, stem: Stem, layers: int, channels: int, classes: int | None, resolution: int, millions: float
) -> None:
    cost = measure(build(name, stem, layers, channels, classes), resolution)
    assert cost.multiply_adds / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(("name", "millions"), [("DermoCSNAS_4", 0.760), ("DermoCSNAS_5", 0.881)])
def test_search_trunks_have_the_measured_size(name: str, millions: float) -> None:
    assert round(count_parameters(build(name, "cifar", 8, 32, None))[0] / 1e6, 3) == millions


def test_the_dead_node_of_dermocsnas_5_is_counted_apart() -> None:
    """Its reduction node 0 holds one dil_conv_5x5: 25 C + C C weights and 2 C of batch norm, at C = 96 and 192."""
    cost = measure(build("DermoCSNAS_5", "imagenet", 18, 48, 8), 224)
    assert cost.dead_parameters == sum(25 * c + c * c + 2 * c for c in (96, 192))
    # One multiply-add a weight and output pixel; maps of 14 and 7 pixels leave the reductions.
    assert cost.dead_multiply_adds == (25 * 96 + 96 * 96) * 14 * 14 + (25 * 192 + 192 * 192) * 7 * 7
    none = measure(build("DermoCSNAS_4", "imagenet", 18, 48, 8), 224)
    assert (none.dead_parameters, none.dead_multiply_adds) == (0, 0)


@pytest.mark.parametrize(("stem", "resolution"), [("cifar", 32), ("imagenet", 224)])
def test_the_auxiliary_head_is_not_counted(stem: Stem, resolution: int) -> None:
    plain = build("DermoCSNAS_5", stem, 6, 8, 8)
    helped = build("DermoCSNAS_5", stem, 6, 8, 8, auxiliary=resolution)
    assert sum(p.numel() for p in helped.parameters()) > sum(p.numel() for p in plain.parameters())
    assert measure(helped, resolution) == measure(plain, resolution)


def test_measuring_leaves_the_network_as_it_was() -> None:
    network = Network(zoo.load("DermoCSNAS_5"), stem="cifar", layers=4, channels=4, classes=3).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    cost = measure(network, 8, latency=True)
    assert cost.latency_ms is not None
    assert cost.latency_ms > 0
    assert Cost(**{**vars(cost), "latency_ms": None}) == measure(network, 8)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("layers", "places"),
    [(3, (1, 2)), (8, (2, 5)), (14, (4, 9)), (18, (6, 12)), (20, (6, 13)), (24, (8, 16))],
)
def test_reductions_stand_at_one_and_two_thirds(layers: int, places: tuple[int, int]) -> None:
    network = build("DARTS_V2", "cifar", layers, 4, None)
    sides, width, widths = [], 4, []
    for cell in network.cells:
        cell.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[-1]))
    with torch.device("meta"):
        network(torch.zeros(2, 3, 16, 16))
    for k in range(layers):
        width *= 2 if k in places else 1
        widths.append(4 * width)
    assert sides == [16 // 2 ** sum(k >= place for place in places) for k in range(layers)]
    assert [cell.channels_out for cell in network.cells] == widths
    assert network.features_out == 64


def test_the_first_preprocessing_halves_behind_the_imagenet_stem_only() -> None:
    for stem, kind in (("imagenet", FactorizedReduce), ("cifar", ReLUConvBN)):
        cells = build("DARTS_V2", stem, 6, 4, None).cells  # type: ignore[arg-type]
        assert type(cells[0].preprocess0) is kind
        # After that, exactly behind each reduction (cells 2 and 4).
        assert [type(c.preprocess0) is FactorizedReduce for c in list(cells)[1:]] == [False, False, True, False, True]
        assert all(type(cell.preprocess1) is ReLUConvBN for cell in cells)
