"""The searched space as a Domain: canonical thetas, digests, neighbours, sampling."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermonas.errors import ConfigError, GenotypeError
from dermonas.seeding import numpy_generator
from dermonas.space.darts import DartsSpace
from dermonas.space.domain import Domain, Theta
from dermonas.space.genotype import Cell, Edge, Genotype

SPACES = [DartsSpace(nodes, encoding) for nodes in (4, 5) for encoding in ("first2", "all", "pairs")]
by_space = pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)


def thetas(space: DartsSpace) -> st.SearchStrategy[Theta]:
    """Uniform thetas and thetas rich in the choice 0 (none), where fillers and dead nodes are common."""
    uniform = st.tuples(*(st.integers(0, count - 1) for count in space.choices))
    sparse = st.tuples(*(st.sampled_from([0, 0, 0, count - 1]) for count in space.choices))
    return uniform | sparse


@by_space
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_round_trips_on_canonical_forms(space: DartsSpace, data: st.DataObject) -> None:
    theta = data.draw(thetas(space))
    canonical = space.canonical(theta)
    assert space.canonical(canonical) == canonical
    assert space.digest(canonical) == space.digest(theta) == space.genotype(theta).digest
    assert space.theta(space.genotype(theta)) == canonical
    genotype = space.genotype(canonical)
    assert space.genotype(space.theta(genotype)) == genotype
    assert all(0 <= value < count for value, count in zip(canonical, space.choices, strict=True))


@by_space
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_canonical_thetas_are_equal_exactly_when_digests_are(space: DartsSpace, data: st.DataObject) -> None:
    theta = data.draw(thetas(space))
    other = list(theta)
    for position in data.draw(st.lists(st.integers(0, len(theta) - 1), min_size=1, max_size=3)):
        other[position] = data.draw(st.integers(0, space.choices[position] - 1))
    same = space.canonical(theta) == space.canonical(tuple(other))
    assert same == (space.digest(theta) == space.digest(tuple(other)))


@pytest.mark.parametrize("encoding", ["first2", "all", "pairs"])
def test_the_positions_of_a_dead_node_do_not_count(encoding: str) -> None:
    space = DartsSpace(5, encoding)
    filler = {"first2": (1, 1), "all": (1, 0), "pairs": (0, 0, 0)}[encoding]
    width = len(filler)
    rng, seen = numpy_generator(7), 0
    for _ in range(300):
        # Many zeros (none, or the pair of both inputs), so that node 0 is often dead in every encoding.
        theta = tuple(np.where(rng.random(len(space.choices)) < 0.7, 0, space.sample(rng)).tolist())
        if 0 in space.genotype(theta).normal.live_nodes:
            continue
        seen += 1
        other = (*space.sample(rng)[:width], *theta[width:])
        assert space.canonical(theta) == space.canonical(other)
        assert space.digest(theta) == space.digest(other)
        assert space.canonical(theta)[:width] == filler
        # Both are built as theta says, dead node included: that is the structural identity.
        assert space.genotype(theta).normal.nodes[1:] == space.genotype(other).normal.nodes[1:]
    assert seen > 60


def test_first2_canonical_form_by_hand() -> None:
    space = DartsSpace(4, "first2")
    theta = (*(0, 4), *(5, 6, 7), *(0, 0, 0, 3), *(0, 0, 0, 0, 0))
    want = (*(1, 4), *(5, 6, 0), *(1, 0, 0, 3), *(1, 1, 0, 0, 0))
    assert space.canonical(theta + theta) == want + want
    nodes = space.genotype(theta + theta).normal.nodes
    assert nodes[0] == (Edge("sep_conv_3x3", 1), Edge("max_pool_3x3", 0))
    assert nodes[2] == (Edge("skip_connect", 3), Edge("max_pool_3x3", 0))


def test_renaming_gives_no_second_theta() -> None:
    """With 5 nodes one node is outside the concat: wherever it stands in the list, theta is the same."""
    space, rng, seen = DartsSpace(5, "pairs"), numpy_generator(8), 0
    for _ in range(200):
        genotype = space.genotype(space.sample(rng))
        nodes = genotype.normal.nodes
        if any(edge.source == 2 for edge in nodes[1]):
            continue  # node 1 needs node 0 before it
        seen += 1
        swap = {2: 3, 3: 2}
        swapped = (nodes[1], nodes[0], *(tuple(Edge(o, swap.get(s, s)) for o, s in edges) for edges in nodes[2:]))
        other = Genotype(Cell(swapped, (2, 4, 5, 6)), genotype.reduce)
        assert other.digest == genotype.digest
        assert space.theta(other) == space.theta(genotype)
    assert seen > 40


def test_a_genotype_of_four_nodes_is_one_of_five_with_a_dead_node() -> None:
    four, five = DartsSpace(4, "first2"), DartsSpace(5, "first2")
    genotype = four.genotype(four.sample(numpy_generator(9)))
    theta = five.theta(genotype)
    assert five.digest(theta) == genotype.digest
    assert 0 not in five.genotype(theta).normal.live_nodes
    assert four.theta(five.genotype(theta)) == four.theta(genotype)


def test_genotypes_outside_the_space_are_refused_by_name() -> None:
    space = DartsSpace(5, "first2")
    genotype = space.genotype(space.sample(numpy_generator(10)))
    narrow = Genotype(genotype.normal, Cell(genotype.reduce.nodes, (4, 5, 6)))
    with pytest.raises(GenotypeError, match="darts5-first2: reduce: the concat has 3 nodes"):
        space.theta(narrow)
    pair = (Edge("skip_connect", 0), Edge("skip_connect", 1))
    late = (Edge("skip_connect", 0), Edge("skip_connect", 2))
    user = (Edge("skip_connect", 0), Edge("skip_connect", 3))
    crossed = Cell((pair, late, user, pair, pair), (2, 4, 5, 6))
    with pytest.raises(GenotypeError, match="outside the concat uses one inside"):
        space.theta(Genotype(crossed, crossed))
    live = Cell((pair, late, pair, pair, pair), (3, 4, 5, 6))
    with pytest.raises(GenotypeError, match="darts4-first2: normal: 5 nodes reach the output"):
        DartsSpace(4, "first2").theta(Genotype(live, live))


@by_space
def test_neighbours_are_every_network_one_live_edit_away(space: DartsSpace) -> None:
    rng = numpy_generator(11)
    for _ in range(3):
        theta = space.sample(rng)
        canonical = space.canonical(theta)
        found = list(space.neighbours(theta))
        assert found == list(space.neighbours(canonical))
        assert canonical not in found
        assert all(space.canonical(other) == other for other in found)
        digests = {space.digest(other) for other in found}
        assert len(digests) == len(found)
        assert space.digest(theta) not in digests
        start = space.genotype(canonical)
        assert len(found) == sum(_count(space.encoding, cell) for cell in (start.normal, start.reduce))
        assert all(_one_edit(space.encoding, start, space.genotype(other)) for other in found)


def _count(encoding: str, cell: Cell) -> int:
    """The number of edits in closed form."""
    total = 0
    for i in cell.live_nodes:
        k = len(cell.nodes[i])
        total += 6 * k + (7 * (i + 2 - k) + (k if k > 1 else 0) if encoding == "all" else k * i)
    return total


def _one_edit(encoding: str, a: Genotype, b: Genotype) -> bool:
    gone, come = [], []
    for one, two in ((a.normal, b.normal), (a.reduce, b.reduce)):
        for i in one.live_nodes & two.live_nodes:
            gone += sorted(set(one.nodes[i]) - set(two.nodes[i]))
            come += sorted(set(two.nodes[i]) - set(one.nodes[i]))
    if encoding == "all":
        return (len(gone), len(come)) in {(1, 0), (0, 1)} or (
            len(gone) == len(come) == 1 and gone[0].source == come[0].source
        )
    same = gone[0].source == come[0].source, gone[0].operation == come[0].operation
    return len(gone) == len(come) == 1 and any(same)


@by_space
def test_neighbourhood_is_symmetric_among_networks_without_dead_nodes(space: DartsSpace) -> None:
    """An edit that kills a node forgets its edges, so there is no single way back from that one."""
    rng, tried = numpy_generator(12), 0
    while tried < 4:
        theta = space.canonical(space.sample(rng))
        others = list(space.neighbours(theta))
        other = others[int(rng.integers(len(others)))]
        cells = [c for t in (theta, other) for c in (space.genotype(t).normal, space.genotype(t).reduce)]
        if all(len(cell.live_nodes) == space.nodes for cell in cells):
            assert theta in set(space.neighbours(other))
            tried += 1


@by_space
def test_sampling_is_uniform_seeded_and_valid(space: DartsSpace) -> None:
    domain: Domain = space
    sample = np.array([domain.sample(numpy_generator(13, k)) for k in range(1500)])
    assert domain.sample(numpy_generator(13, 0)) == tuple(sample[0].tolist())
    assert all(type(value) is int for value in domain.sample(numpy_generator(13, 0)))
    for position, count in enumerate(domain.choices):
        share = np.bincount(sample[:, position], minlength=count) / len(sample)
        assert len(share) == count
        assert np.abs(share - 1 / count).max() < 0.06


def test_sizes_and_names() -> None:
    assert [len(space.choices) for space in SPACES] == [28, 28, 24, 40, 40, 30]
    assert [space.concat for space in (SPACES[0], SPACES[3])] == [(2, 3, 4, 5), (3, 4, 5, 6)]
    assert len({space.name for space in SPACES}) == 6
    assert DartsSpace(5, "pairs") == DartsSpace(5, "pairs")


@pytest.mark.parametrize(
    ("theta", "words"),
    [
        ((0,) * 39, "theta has 39 positions; give 40"),
        ((0,) * 39 + (8,), r"theta\[39\] is 8; use 0 to 7"),
        ((-1,) + (0,) * 39, r"theta\[0\] is -1"),
        ((1.0,) + (0,) * 39, r"theta\[0\] is 1.0"),
    ],
)
def test_impossible_thetas_are_refused(theta: Theta, words: str) -> None:
    space = DartsSpace(5, "first2")
    for use in (space.canonical, space.digest, space.genotype, lambda t: list(space.neighbours(t))):
        with pytest.raises(GenotypeError, match=words):
            use(theta)


def test_numpy_integers_are_integers() -> None:
    space = DartsSpace(5, "pairs")
    theta = space.sample(numpy_generator(14))
    assert space.canonical(tuple(np.array(theta))) == space.canonical(theta)
    assert all(type(value) is int for value in space.canonical(tuple(np.array(theta))))


@pytest.mark.parametrize(("nodes", "encoding"), [(3, "first2"), (6, "all"), (5, "first3")])
def test_impossible_spaces_are_refused(nodes: int, encoding: str) -> None:
    with pytest.raises(ConfigError, match=r"nodes: |encoding: "):
        DartsSpace(nodes, encoding)


def test_space_needs_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, dermonas.space.darts, dermonas.space.zoo, dermonas.space.drawing;"
        "print(sorted({'torch', 'matplotlib', 'optuna', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
