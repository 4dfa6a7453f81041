"""NAS-Bench-201's cells: four nodes, an operation on each of the six edges."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dermonas.errors import GenotypeError
from dermonas.space.domain import Theta
from dermonas.space.theta import check_theta

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""The five operations in the benchmark's own order; a choice is an index into them."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(source, target) of each position of theta: target by target, sources ascending, as in an architecture string."""

_NODES = 4
_INDEX = {operation: choice for choice, operation in enumerate(OPERATIONS)}
_ZERO = "#"


@dataclass(frozen=True)
class NasBench201Space:
    """NAS-Bench-201's topology space, 15,625 thetas of 6,466 classes; implements `Domain`.

    A class is what the benchmark's authors count as one cell: thetas with equal `expression`. Canonical is the first
    theta of the class in lexicographic order (position by position, choices in the order of OPERATIONS).

    The rule leaves some functionally equal cells apart: a zero summand stays written ("#+x" is not "x"), so does a
    node all of whose inputs are zero ("#+#" is not "#"), and a sum that a skip connection joins keeps its own order.
    The 6,466 classes are 4,930 functions (measured in the tests). It is kept because the published count, and every
    table's isomorphism column, follow it.

    Source: Dong and Yang, NAS-Bench-201 (ICLR 2020), section 2.1 and appendix; the counting rule is the benchmark's
    `to_unique_str(consider_zero=True)`, whose strings the data's column `unique` holds.
    """

    @property
    def name(self) -> str:
        """Always "nasbench201"."""
        return "nasbench201"

    @property
    def choices(self) -> tuple[int, ...]:
        """Five choices for each of the six edges."""
        return (len(OPERATIONS),) * len(EDGES)

    def canonical(self, theta: Theta) -> Theta:
        """Return the lexicographically first theta of the class of `theta`.

        Raises:
            GenotypeError: If theta has the wrong length or a choice out of range.
        """
        return _classes().representatives[self._class(theta)]

    def digest(self, theta: Theta) -> str:
        """Return 32 hexadecimal digits, equal exactly when two thetas are of one class.

        Raises:
            GenotypeError: If theta has the wrong length or a choice out of range.
        """
        return _classes().digests[self._class(theta)]

    def sample(self, rng: np.random.Generator) -> Theta:
        """Draw each edge's operation uniformly, independently."""
        return tuple(rng.integers(0, len(OPERATIONS), size=len(EDGES)).tolist())

    def neighbours(self, theta: Theta) -> Iterator[Theta]:
        """Yield the canonical thetas of the classes one operation away, each once, in lexicographic order.

        Two classes are neighbours when some theta of the one differs from some theta of the other in one position,
        so the relation is symmetric and does not depend on which theta stands for a class.

        Raises:
            GenotypeError: If theta has the wrong length or a choice out of range.
        """
        table = _classes()
        return (table.representatives[other] for other in table.neighbours[self._class(theta)])

    def representatives(self) -> tuple[Theta, ...]:
        """Return the canonical thetas of all 6,466 classes in lexicographic order."""
        return _classes().representatives

    def _class(self, theta: Theta) -> int:
        check_theta(self.name, self.choices, theta)
        index = 0
        for choice in theta:
            index = index * len(OPERATIONS) + int(choice)
        return _classes().of_theta[index]


def expression(theta: Theta) -> str:
    """Write what the cell computes as the benchmark's isomorphism string.

    A node is the sorted sum of its inputs. A none edge, or an edge from the node that is "#", gives "#" (zero); a
    skip connection gives its source's own string; any other operation gives "(source)@operation".

    Args:
        theta: Six choices; must fit the space.

    Returns:
        The output node's string, for example "#+(0)@nor_conv_3x3+0"; "0" is the cell's input.
    """
    nodes = ["0"]
    for target in range(1, _NODES):
        terms = []
        for (source, to), choice in zip(EDGES, theta, strict=True):
            if to != target:
                continue
            operation = OPERATIONS[choice]
            if operation == "none" or nodes[source] == _ZERO:
                terms.append(_ZERO)
            elif operation == "skip_connect":
                terms.append(nodes[source])
            else:
                terms.append(f"({nodes[source]})@{operation}")
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def architecture(theta: Theta) -> str:
    """Return the benchmark's string, for example "|none~0|+|skip_connect~0|none~1|+|none~0|none~1|none~2|".

    Raises:
        GenotypeError: If theta has the wrong length or a choice out of range.
    """
    space = NasBench201Space()
    check_theta(space.name, space.choices, theta)
    terms = [(target, f"{OPERATIONS[choice]}~{source}") for (source, target), choice in zip(EDGES, theta, strict=True)]
    return "+".join("|" + "|".join(text for target, text in terms if target == node) + "|" for node in range(1, _NODES))


def theta_of(text: str) -> Theta:
    """Return the theta of an architecture string; the inverse of `architecture`.

    Raises:
        GenotypeError: If the string is no cell of this space; quotes it.
    """
    terms = [re.fullmatch(r"(\w+)~(\d)", term) for node in text.split("+") for term in node.strip("|").split("|")]
    theta = tuple(_INDEX.get(term[1], -1) for term in terms if term)
    if len(theta) != len(EDGES) or -1 in theta or architecture(theta) != text:
        raise GenotypeError(
            f"{text!r} is no NAS-Bench-201 cell: write |op~0|+|op~0|op~1|+|op~0|op~1|op~2| with op one of "
            + ", ".join(OPERATIONS)
        )
    return theta


@dataclass(frozen=True)
class _Classes:
    """The space by class; classes are numbered in the order of their first thetas."""

    of_theta: list[int]
    representatives: tuple[Theta, ...]
    digests: list[str]
    neighbours: list[list[int]]


@lru_cache(maxsize=1)
def _classes() -> _Classes:
    """Sort all thetas into classes; takes about a quarter of a second, once a process."""
    count, positions = len(OPERATIONS), len(EDGES)
    numbers: dict[str, int] = {}
    of_theta: list[int] = []
    representatives: list[Theta] = []
    for theta in itertools.product(range(count), repeat=positions):
        text = expression(theta)
        if text not in numbers:
            numbers[text] = len(numbers)
            representatives.append(theta)
        of_theta.append(numbers[text])
    digests = [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in numbers]

    cube = np.array(of_theta).reshape((count,) * positions)
    codes = []
    for position, shift in itertools.product(range(positions), range(1, count)):
        pairs = np.stack([cube.ravel(), np.roll(cube, shift, axis=position).ravel()])
        codes.append(pairs[0] * len(numbers) + pairs[1])
    here, there = np.divmod(np.unique(np.concatenate(codes)), len(numbers))
    apart = here != there
    bounds = np.searchsorted(here[apart], np.arange(len(numbers) + 1)).tolist()
    others = there[apart].tolist()
    neighbours = [others[start:stop] for start, stop in itertools.pairwise(bounds)]
    return _Classes(of_theta, tuple(representatives), digests, neighbours)
