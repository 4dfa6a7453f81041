"""The decode rules against slow references, and the measured figures of spec 1.3."""

import itertools

import numpy as np
import pytest

from dermonas.errors import GenotypeError
from dermonas.seeding import numpy_generator
from dermonas.space.darts import DartsSpace
from dermonas.space.encoding import ENCODINGS, Encoding
from dermonas.space.genotype import PRIMITIVES, Edge


def darts_parse(vector: tuple[int, ...], nodes: int) -> list[list[tuple[str, int]]]:
    """CSNAS's decode without its noise: 100 at the chosen operation, float32 softmax, the DARTS parse."""
    matrix = np.zeros((len(vector), len(PRIMITIVES)), dtype=np.float32)
    matrix[range(len(vector)), vector] = 100.0
    shifted = np.exp(matrix - matrix.max(axis=1, keepdims=True), dtype=np.float32)
    weights = shifted / shifted.sum(axis=1, keepdims=True, dtype=np.float32)
    out, start = [], 0
    for i in range(nodes):
        rows = weights[start : start + i + 2]
        real = [[w for k, w in enumerate(row) if PRIMITIVES[k] != "none"] for row in rows]
        kept = sorted(range(i + 2), key=lambda j: -max(real[j]))[:2]
        out.append([(PRIMITIVES[1 + real[j].index(max(real[j]))], j) for j in kept])
        start += i + 2
    return out


def thetas(nodes: int, none: float, count: int, seed: int) -> np.ndarray:
    rng = numpy_generator(seed, "thetas", nodes)
    size = (count, sum(i + 2 for i in range(nodes)))
    return np.where(rng.random(size) < none, 0, rng.integers(1, 8, size))


@pytest.mark.parametrize("nodes", [4, 5])
@pytest.mark.parametrize("none", [0.0, 1 / 8, 0.6, 0.95, 1.0])
def test_first2_is_the_darts_parse_of_the_matrix(nodes: int, none: float) -> None:
    for row in thetas(nodes, none, 80, seed=1):
        vector = tuple(row.tolist())
        decoded = ENCODINGS["first2"].decode(vector, nodes)
        assert [[tuple(edge) for edge in edges] for edges in decoded] == darts_parse(vector, nodes)


@pytest.mark.parametrize("nodes", [4, 5])
def test_all_keeps_every_edge_that_is_not_none(nodes: int) -> None:
    for row in thetas(nodes, 0.6, 100, seed=2):
        position, vector = 0, row.tolist()
        for i, edges in enumerate(ENCODINGS["all"].decode(vector, nodes)):
            want = {Edge(PRIMITIVES[vector[position + j]], j) for j in range(i + 2) if vector[position + j]}
            assert set(edges) == (want or {Edge("max_pool_3x3", 0)})
            assert len(edges) == len(set(edges))
            position += i + 2


def test_pairs_counts_source_pairs_in_lexicographic_order() -> None:
    choices = ENCODINGS["pairs"].choices(5)
    assert choices == (1, 7, 7, 3, 7, 7, 6, 7, 7, 10, 7, 7, 15, 7, 7)
    listed = []
    for pair in range(10):
        vector = [0] * 15
        vector[9:12] = [pair, 2, 6]
        low, high = ENCODINGS["pairs"].decode(vector, 5)[3]
        assert (low.operation, high.operation) == ("skip_connect", "dil_conv_5x5")
        listed.append((low.source, high.source))
    assert listed == list(itertools.combinations(range(5), 2))


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("nodes", [4, 5])
def test_encode_inverts_decode_whatever_the_edge_order(encoding: Encoding, nodes: int) -> None:
    rng = numpy_generator(3)
    for _ in range(100):
        vector = rng.integers(0, encoding.choices(nodes)).tolist()
        edges = encoding.decode(vector, nodes)
        again = encoding.encode([tuple(reversed(node)) for node in edges])
        assert [set(node) for node in encoding.decode(again, nodes)] == [set(node) for node in edges]
        assert encoding.encode(encoding.decode(again, nodes)) == again


def test_fillers_are_what_an_empty_vector_decodes_to() -> None:
    for encoding in ENCODINGS.values():
        empty = [0] * len(encoding.choices(5))
        assert all(node == encoding.filler() for node in encoding.decode(empty, 5)[:1])
    assert all(node == ENCODINGS["first2"].filler() for node in ENCODINGS["first2"].decode([0] * 20, 5))
    assert all(node == ENCODINGS["all"].filler() for node in ENCODINGS["all"].decode([0] * 20, 5))


def test_what_cannot_be_encoded_says_why() -> None:
    a, b, c = Edge("skip_connect", 0), Edge("skip_connect", 1), Edge("sep_conv_7x7", 1)
    for name in ("first2", "pairs"):
        with pytest.raises(GenotypeError, match="node 1 has 1 edges"):
            ENCODINGS[name].encode([(a, b), (a,)])
    for encoding in ENCODINGS.values():
        with pytest.raises(GenotypeError, match="node 0 uses one source twice"):
            encoding.encode([(a, a)])
        with pytest.raises(GenotypeError, match="node 0: sep_conv_7x7 cannot be searched"):
            encoding.encode([(a, c)])


# The figures below are measured on uniform thetas in spec 1.3 c and DESIGN 5. Fixed seeds; the
# tolerance is about three standard errors of the sample size.


@pytest.mark.parametrize("nodes", [4, 5])
def test_almost_half_of_uniform_thetas_need_a_filler(nodes: int) -> None:
    space = DartsSpace(nodes, "first2")
    sample = numpy_generator(4, nodes).integers(0, 8, (20_000, len(space.choices)))
    needs = np.zeros(len(sample), dtype=bool)
    for offset in (0, len(space.choices) // 2):
        start = offset
        for i in range(nodes):
            needs |= (sample[:, start : start + i + 2] > 0).sum(axis=1) < 2
            start += i + 2
    assert needs.mean() == pytest.approx(0.472, abs=0.011)


def test_node_0_is_dead_in_two_of_five_uniform_cells() -> None:
    space, rng = DartsSpace(5, "first2"), numpy_generator(5)
    genotypes = [space.genotype(space.sample(rng)) for _ in range(3000)]
    dead = [0 not in cell.live_nodes for g in genotypes for cell in (g.normal, g.reduce)]
    assert np.mean(dead) == pytest.approx(0.40, abs=0.02)


@pytest.mark.parametrize(("nodes", "unchanged"), [(4, 0.38), (5, 0.45)])
def test_many_single_changes_build_the_same_network(nodes: int, unchanged: float) -> None:
    space, rng, same = DartsSpace(nodes, "first2"), numpy_generator(6, nodes), []
    for _ in range(4000):
        theta = space.sample(rng)
        position = int(rng.integers(len(theta)))
        value = (theta[position] + int(rng.integers(1, 8))) % 8
        changed = (*theta[:position], value, *theta[position + 1 :])
        same.append(space.genotype(theta).structural_digest == space.genotype(changed).structural_digest)
    assert np.mean(same) == pytest.approx(unchanged, abs=0.025)
