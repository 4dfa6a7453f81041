"""A slow second implementation of the networks, written from spec/csnas.md 1.1, 1.4 and 1.5.

It reads nothing but a genotype, a few numbers and the weights by their path. Everything that is built is computed,
dead nodes included, so autograd tells which weights reach the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dermonas.space import zoo
from dermonas.space.darts import DartsSpace
from dermonas.space.genotype import PRIMITIVES, Cell, Edge, Genotype

Weights = Mapping[str, Tensor]
EPS = 1e-5  # torch's default of batch norm

SPACES = [DartsSpace(nodes, encoding) for nodes in (4, 5) for encoding in ("first2", "all", "pairs")]
ZOO = [name for name in zoo.names() if zoo.entry(name).genotype is not None]


def only(source: int, nodes: int = 5) -> Cell:
    """A cell of the space "all" whose nodes read the one input only (and node 0 nobody)."""
    operations = PRIMITIVES[1:]
    edges = tuple((Edge(operations[(i + source) % 7], source),) for i in range(nodes))
    return Cell(edges, tuple(range(nodes - 2, nodes + 2)))


def extreme_genotypes() -> dict[str, Genotype]:
    """Genotypes of the space "all" that ignore an input: dead preprocessing, dead cells, a dead stem."""
    full = DartsSpace(5, "all").genotype(tuple(1 + i % 7 for i in range(40)))
    out = {f"normal{a}-reduce{b}": Genotype(only(a), only(b)) for a, b in product((0, 1), repeat=2)}
    out["normal1-full"] = Genotype(only(1), full.reduce)
    out["full-reduce0"] = Genotype(full.normal, only(0))
    out["full"] = full
    return out


def random_genotypes(count: int, seed: int) -> list[Genotype]:
    """`count` genotypes of every space; in every other one half of the edges are none."""
    rng = np.random.default_rng(seed)
    out = []
    for space in SPACES:
        for k in range(count):
            theta = np.array(space.sample(rng))
            if k % 2:
                theta[rng.random(len(theta)) < 0.5] = 0
            out.append(space.genotype(tuple(theta.tolist())))
    return out


def batch_norm(x: Tensor, w: Weights, path: str, training: bool) -> Tensor:
    if training:
        mean, var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
    else:
        mean, var = w[f"{path}.running_mean"], w[f"{path}.running_var"]
    x = (x - mean[:, None, None]) / torch.sqrt(var + EPS)[:, None, None]
    return x * w[f"{path}.weight"][:, None, None] + w[f"{path}.bias"][:, None, None]


def relu(x: Tensor) -> Tensor:
    return x * (x > 0)


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    assert weight.shape[2:] == (1, 1)
    return torch.einsum("bchw,oc->bohw", x, weight[:, :, 0, 0])


def windows(x: Tensor, stride: int, fill: float) -> Tensor:
    """All 3x3 windows with padding 1, (..., 9)."""
    x = F.pad(x, (1, 1, 1, 1), value=fill)
    return x.unfold(2, 3, stride).unfold(3, 3, stride).flatten(-2)


def factorized_reduce(x: Tensor, w: Weights, path: str, training: bool) -> Tensor:
    x = relu(x)
    even = pointwise(x[:, :, 0::2, 0::2], w[f"{path}.even.weight"])
    odd = pointwise(x[:, :, 1::2, 1::2], w[f"{path}.odd.weight"])
    return batch_norm(torch.cat([even, odd], dim=1), w, f"{path}.bn", training)


def relu_conv_bn(x: Tensor, w: Weights, path: str, training: bool) -> Tensor:
    return batch_norm(pointwise(relu(x), w[f"{path}.1.weight"]), w, f"{path}.2", training)


def depthwise_round(
    x: Tensor, w: Weights, path: str, first: int, size: int, stride: int, dilation: int, t: bool
) -> Tensor:
    weight = w[f"{path}.{first + 1}.weight"]
    assert weight.shape[1:] == (1, size, size)
    padding = dilation * (size - 1) // 2
    x = F.conv2d(relu(x), weight, None, stride, padding, dilation, groups=x.shape[1])
    return batch_norm(pointwise(x, w[f"{path}.{first + 2}.weight"]), w, f"{path}.{first + 3}", t)


def operation(name: str, x: Tensor, w: Weights, path: str, stride: int, t: bool) -> Tensor:
    if name == "max_pool_3x3":
        return windows(x, stride, -float("inf")).amax(-1)
    if name == "avg_pool_3x3":  # the padding is not counted
        return windows(x, stride, 0.0).sum(-1) / windows(torch.ones_like(x), stride, 0.0).sum(-1)
    if name == "skip_connect":
        return x if stride == 1 else factorized_reduce(x, w, path, t)
    if name == "conv_7x1_1x7":
        x = F.conv2d(relu(x), w[f"{path}.1.weight"], None, (1, stride), (0, 3))
        return batch_norm(F.conv2d(x, w[f"{path}.2.weight"], None, (stride, 1), (3, 0)), w, f"{path}.3", t)
    size = int(name[-1])
    if name.startswith("dil"):
        return depthwise_round(x, w, path, 0, size, stride, 2, t)
    assert name.startswith("sep")
    x = depthwise_round(x, w, path, 0, size, stride, 1, t)
    return depthwise_round(x, w, path, 4, size, 1, 1, t)


def cell_forward(
    cell: Cell, s0: Tensor, s1: Tensor, w: Weights, path: str, reduction: bool, reduction_prev: bool, t: bool
) -> Tensor:
    first = factorized_reduce if reduction_prev else relu_conv_bn
    states = [first(s0, w, f"{path}.preprocess0", t), relu_conv_bn(s1, w, f"{path}.preprocess1", t)]
    for i, edges in enumerate(cell.nodes):
        total, seen = torch.zeros(()), set()
        for name, source in edges:
            key = f"{source}_{name}"
            while key in seen:
                key += "_again"
            seen.add(key)
            stride = 2 if reduction and source < 2 else 1
            total = total + operation(name, states[source], w, f"{path}.nodes.{i}.{key}", stride, t)
        states.append(total)
    return torch.cat([states[i] for i in cell.concat], dim=1)


def forward(genotype: Genotype, w: Weights, x: Tensor, layers: int, stem: str, *, training: bool) -> Tensor:
    """Return pooled features, or logits where `w` has a classifier."""
    t = training
    if stem == "cifar":
        s0 = s1 = batch_norm(F.conv2d(x, w["stem.0.weight"], None, 1, 1), w, "stem.1", t)
    else:
        x = relu(batch_norm(F.conv2d(x, w["stem0.0.weight"], None, 2, 1), w, "stem0.1", t))
        s0 = batch_norm(F.conv2d(x, w["stem0.3.weight"], None, 2, 1), w, "stem0.4", t)
        s1 = batch_norm(F.conv2d(relu(s0), w["stem1.1.weight"], None, 2, 1), w, "stem1.2", t)
    reduction_prev = stem == "imagenet"
    for k in range(layers):
        reduction = k in (layers // 3, 2 * layers // 3)
        cell = genotype.reduce if reduction else genotype.normal
        s0, s1 = s1, cell_forward(cell, s0, s1, w, f"cells.{k}", reduction, reduction_prev, t)
        reduction_prev = reduction
    pooled = s1.mean(dim=(2, 3))
    if "classifier.weight" not in w:
        return pooled
    return pooled @ w["classifier.weight"].T + w["classifier.bias"]
