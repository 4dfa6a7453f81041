"""Every genotype builds, computes what the specification says, and trains exactly what is live."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import reference_network as reference
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dermonas.nn.network import Network, Stem
from dermonas.nn.operations import FactorizedReduce
from dermonas.space import zoo
from dermonas.space.darts import DartsSpace
from dermonas.space.genotype import PRIMITIVES, Cell, Edge, Genotype

EXTREME = reference.extreme_genotypes()
RANDOM = reference.random_genotypes(2, seed=5)
SIDE = {"cifar": 8, "imagenet": 32}


def build(genotype: Genotype, stem: Stem = "cifar", layers: int = 4, classes: int | None = None) -> Network:
    return Network(genotype, stem=stem, channels=4, layers=layers, classes=classes, seed=3)


def images(side: int = 8, batch: int = 4, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0), dtype=dtype)


def genotypes(space: DartsSpace) -> st.SearchStrategy[Genotype]:
    """Uniform thetas, and thetas rich in none: fillers, dead nodes and (in "all") ignored inputs."""
    uniform = st.tuples(*(st.integers(0, count - 1) for count in space.choices))
    sparse = st.tuples(*(st.sampled_from([0, 0, 0, count // 2, count - 1]) for count in space.choices))
    return (uniform | sparse).map(space.genotype)


def check_gradients(genotype: Genotype, stem: Stem, layers: int) -> None:
    """Live weights get finite gradients; dead ones are frozen and never computed; autograd says which is which."""
    network = build(genotype, stem, layers)
    x = images(SIDE[stem], batch=2)
    calls: Counter[str] = Counter()
    leaves = {name: module for name, module in network.named_modules() if not list(module.children())}
    for name, module in leaves.items():
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    out = network(x)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out * weights).sum().backward()

    # The reference computes all that is built: what its autograd does not reach is dead.
    mirror = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}
    slow = reference.forward(genotype, mirror, x, layers, stem, training=True)
    found = torch.autograd.grad((slow * weights).sum(), list(mirror.values()), allow_unused=True)
    gradients = dict(zip(mirror, found, strict=True))
    # Float32 sums in another order, amplified by batch norm over as few as two values.
    torch.testing.assert_close(out, slow, rtol=1e-3, atol=1e-3)
    for name, parameter in network.named_parameters():
        live = gradients[name] is not None
        assert parameter.requires_grad == live, name
        if live:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
        else:
            assert parameter.grad is None, name

    dead = {id(m) for outer in network.dead_modules() for m in outer.modules()}
    for name, module in leaves.items():
        computed = 0 if id(module) in dead else 1
        # The ReLU that a block begins with is shared by all that read the same map.
        assert calls[name] == computed or (isinstance(module, nn.ReLU) and not calls[name]), name
    dead_parameters = {id(p) for module in network.dead_modules() for p in module.parameters()}
    assert dead_parameters == {id(p) for p in network.parameters() if not p.requires_grad}


class ReluInputs(TorchDispatchMode):
    """Notes the maps that go through a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.relu.default:
            self.seen.append(args[0])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_no_map_of_a_cell_goes_through_a_relu_twice(stem: Stem) -> None:
    network = build(zoo.load("DermoCSNAS_5"), stem, 4)
    with ReluInputs() as inputs:
        network(images(SIDE[stem], batch=2))
    maps = [(x.data_ptr(), x.shape) for x in inputs.seen]
    assert len(maps) > 10
    assert len(set(maps)) == len(maps)


@pytest.mark.parametrize("space", reference.SPACES, ids=lambda space: space.name)
@settings(deadline=None, max_examples=5, derandomize=True)
@given(data=st.data())
def test_any_genotype_trains_what_is_live(space: DartsSpace, data: st.DataObject) -> None:
    genotype = data.draw(genotypes(space))
    check_gradients(genotype, "cifar", data.draw(st.sampled_from([3, 4])))


@pytest.mark.parametrize("name", reference.ZOO)
def test_any_published_genotype_trains_what_is_live(name: str) -> None:
    check_gradients(zoo.load(name), "cifar", 4)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("name", EXTREME)
def test_ignored_inputs_leave_dead_blocks_cells_and_stems(name: str, stem: Stem) -> None:
    check_gradients(EXTREME[name], stem, 6)


def test_ignored_inputs_are_dead_where_expected() -> None:
    """All cells read C_{k-2} only: cells 4, 2, 0 and stem1 of a 6-cell network reach nothing."""
    network = build(EXTREME["normal0-reduce0"], "imagenet", 6)
    dead = network.dead_modules()
    assert [k for k, cell in enumerate(network.cells) if any(cell is module for module in dead)] == [0, 2, 4]
    assert any(network.stem1 is module for module in dead) is False
    other = build(EXTREME["normal1-reduce1"], "imagenet", 6)
    assert not any(cell is module for cell in other.cells for module in other.dead_modules())
    assert all(any(cell.preprocess0 is module for module in other.dead_modules()) for cell in other.cells)
    odd = build(EXTREME["normal0-reduce0"], "imagenet", 5)  # its last cell, 4, leads to stem0 by 2 and 0
    assert any(odd.stem1 is module for module in odd.dead_modules())


def test_dead_weights_never_move_in_training() -> None:
    network = build(EXTREME["normal0-reduce1"], layers=5)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    dead = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert dead
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        network(images())[:, ::2].sum().backward()
        optimizer.step()
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name]) == (name in dead), name
    dead_modules = [m for outer in network.dead_modules() for m in outer.modules()]
    assert all(m.num_batches_tracked == 0 for m in dead_modules if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_equals_the_slow_reference(stem: Stem, training: bool) -> None:
    chosen = [*RANDOM, zoo.load("NASNet"), zoo.load("AmoebaNet"), zoo.load("DermoCSNAS_5"), EXTREME["full"]]
    for k, genotype in enumerate(chosen):
        layers, classes = (3, None) if k % 2 else (4, 3)
        network = build(genotype, stem, layers, classes).double()
        x = images(SIDE[stem] * (2 if stem == "cifar" else 1), dtype=torch.float64)
        with torch.no_grad():
            for _ in range(2):  # gives the running statistics, which evaluation reads, other values than 0 and 1
                network(x * 1.5 + 0.5)
            for name, parameter in network.named_parameters():
                if ".bn." in name or parameter.ndim == 1:
                    generator = torch.Generator().manual_seed(len(name))
                    parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            network.train(training)
            state = {name: value.clone() for name, value in network.state_dict().items()}
            slow = reference.forward(genotype, state, x, layers, stem, training=training)
            torch.testing.assert_close(network(x), slow, rtol=1e-7, atol=1e-9)


def with_edge(genotype: Genotype, kind: str, node: int, edge: int, operation: str) -> Genotype:
    cell: Cell = getattr(genotype, kind)
    nodes = [list(edges) for edges in cell.nodes]
    nodes[node][edge] = Edge(operation, nodes[node][edge].source)
    changed = Cell(tuple(tuple(edges) for edges in nodes), cell.concat)
    return Genotype(changed, genotype.reduce) if kind == "normal" else Genotype(genotype.normal, changed)


def every_change(genotype: Genotype) -> list[tuple[str, int, int]]:
    return [
        (kind, i, j)
        for kind in ("normal", "reduce")
        for i, edges in enumerate(getattr(genotype, kind).nodes)
        for j in range(len(edges))
    ]


@pytest.mark.parametrize("name", ["DermoCSNAS_5", "DermoCSNAS_4", "full", "normal0-reduce1", "random0", "random6"])
def test_every_live_edge_acts_and_no_dead_one_does(name: str) -> None:
    """The papers' first defect: in their search 38 of 40 positions of theta changed nothing."""
    if name.startswith("random"):
        genotype = RANDOM[int(name[6:])]
    else:
        genotype = EXTREME[name] if name in EXTREME else zoo.load(name)
    x = images(16, dtype=torch.float64)
    # Training mode: batch norm keeps the signal's size through the depth, so a lost edge is not lost in rounding.
    with torch.no_grad():
        base = build(genotype).double()(x)
        for k, (kind, i, j) in enumerate(every_change(genotype)):
            cell = getattr(genotype, kind)
            others = [op for op in PRIMITIVES[1:] if op != cell.nodes[i][j].operation]
            changed = with_edge(genotype, kind, i, j, others[k % len(others)])
            out = build(changed).double()(x)
            if i in cell.live_nodes:
                assert (out - base).abs().max() > 1e-6 * base.abs().max(), (kind, i, j)
                assert changed.digest != genotype.digest
            else:
                assert torch.equal(out, base), (kind, i, j)
                assert changed.digest == genotype.digest


@pytest.mark.parametrize("space", reference.SPACES, ids=lambda space: space.name)
@settings(deadline=None, max_examples=5, derandomize=True)
@given(data=st.data())
def test_a_random_edge_acts_exactly_when_live(space: DartsSpace, data: st.DataObject) -> None:
    genotype = data.draw(genotypes(space))
    kind, i, j = data.draw(st.sampled_from(every_change(genotype)))
    old = getattr(genotype, kind).nodes[i][j].operation
    changed = with_edge(genotype, kind, i, j, data.draw(st.sampled_from([op for op in PRIMITIVES[1:] if op != old])))
    x = images(16, dtype=torch.float64)
    with torch.no_grad():
        base, out = build(genotype).double()(x), build(changed).double()(x)
    live = i in getattr(genotype, kind).live_nodes
    assert bool((out - base).abs().max() > 1e-6 * base.abs().max()) == live
    assert torch.equal(out, base) == (not live)


def test_the_order_of_a_nodes_edges_changes_nothing() -> None:
    genotype = zoo.load("DermoCSNAS_5")
    turned = Genotype(
        *(Cell(tuple(edges[::-1] for edges in cell.nodes), cell.concat) for cell in (genotype.normal, genotype.reduce))
    )
    assert torch.equal(build(genotype)(images()), build(turned)(images()))


def test_an_edge_given_twice_in_a_node_is_two_modules() -> None:
    """NASNet-A adds avg_pool of one source to itself; with weights, both copies must be independent."""
    twice = Cell(((Edge("dil_conv_3x3", 0), Edge("dil_conv_3x3", 0)),), (2,))
    network = build(Genotype(twice, twice), layers=3)
    assert len(network.cells[0].nodes[0]) == 2
    first, second = network.cells[0].nodes[0].values()
    assert not torch.equal(first[1].weight, second[1].weight)
    check_gradients(Genotype(twice, twice), "cifar", 3)


def test_halving_takes_the_pixels_of_a_strided_convolution_and_their_gradients() -> None:
    halving = FactorizedReduce(4, 6).double().train()
    x = torch.randn(3, 4, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for source in (x, x.to(memory_format=torch.channels_last)):
        strided = [
            F.conv2d(shifted, conv.weight, stride=2)
            for shifted, conv in ((F.relu(source), halving.even), (F.relu(source)[:, :, 1:, 1:], halving.odd))
        ]
        slow = F.batch_norm(torch.cat(strided, 1), None, None, halving.bn.weight, halving.bn.bias, training=True)
        fast = halving(source)
        torch.testing.assert_close(fast, slow)
        weights = torch.randn(fast.shape, dtype=fast.dtype, generator=torch.Generator().manual_seed(1))
        expected, found = (torch.autograd.grad((out * weights).sum(), x)[0] for out in (slow, fast))
        torch.testing.assert_close(found, expected)
