"""Tokens there and back; what is refused and why, against a slow reading of the rules."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dermonas.controller import nasbench101 as rules
from dermonas.controller.darts import EDGES, DartsLanguage
from dermonas.controller.languages import language_of, translate
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.controller.nasbench201 import PADDING, NasBench201Language
from dermonas.errors import ConfigError
from dermonas.space.darts import DartsSpace
from dermonas.space.modelspec import OPERATIONS, ModelSpec
from dermonas.space.nasbench101 import NasBench101Space
from dermonas.space.nasbench201 import NasBench201Space
from tests.unit.controller.cells import LANGUAGES, NAMES, some_cells

each_language = pytest.mark.parametrize("language", LANGUAGES, ids=NAMES)


@each_language
def test_decoding_gives_the_network_that_was_encoded(language):
    thetas = some_cells(language, 300)
    tokens = language.encode(thetas)
    assert tokens.shape == (300, language.length)
    assert tokens.dtype == np.int64
    assert tokens.min() >= 0
    assert tokens.max() < language.vocabulary
    cells = language.decode(tokens)
    assert set(cells.reasons) == {""}
    digest = language.space.digest
    assert [digest(tuple(t)) for t in cells.thetas.tolist()] == [digest(tuple(t)) for t in thetas.tolist()]
    np.testing.assert_array_equal(language.encode(cells.thetas), tokens)


@each_language
def test_every_cell_is_allowed_and_what_is_allowed_is_well_formed(language):
    tokens = language.encode(some_cells(language, 200))
    position = np.arange(language.length)
    real = tokens > 0
    assert language.allowed[position, tokens][real].all()
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.choice(np.flatnonzero(row), 200) for row in language.allowed], axis=1)
    malformed = {rules.NO_OUTPUT, rules.LENGTH, rules.CONNECTION, rules.OPERATION, PADDING}
    assert not malformed & set(language.decode(drawn).reasons)


def slow_tokens(spec: ModelSpec) -> list[int]:
    tokens: list[int] = []
    for column in range(1, len(spec.matrix)):
        tokens += [1 + spec.matrix[row][column] for row in range(column)]
        name = spec.operations[column]
        tokens.append(6 if name == "output" else 3 + OPERATIONS.index(name))
    return tokens + [0] * (27 - len(tokens))


def slow_decode(tokens: list[int]) -> tuple[ModelSpec | None, str]:
    """The rules of spec/nao.md 1.1 one token at a time."""
    if 6 not in tokens:
        return None, rules.NO_OUTPUT
    cut = tokens[: tokens.index(6) + 1]
    size = math.isqrt(2 * (len(cut) + 1))
    if len(cut) != (size + 2) * (size - 1) // 2:
        return None, rules.LENGTH
    matrix = [[0] * size for _ in range(size)]
    operations = ["input"]
    connections = True
    for column in range(1, size):
        for row in range(column):
            connections &= cut[0] in (1, 2)
            matrix[row][column] = int(cut.pop(0) == 2)
        operations.append(str(cut.pop(0)))
    if not connections:
        return None, rules.CONNECTION
    if any(operation not in "345" for operation in operations[1:-1]):
        return None, rules.OPERATION
    inner = [OPERATIONS[int(operation) - 3] for operation in operations[1:-1]]
    spec = ModelSpec(tuple(map(tuple, matrix)), ("input", *inner, "output")).pruned
    if spec is None:
        return None, rules.DISCONNECTED
    return (spec, "") if spec.valid else (None, rules.TOO_MANY_EDGES)


def test_nasbench101_decodes_as_the_rules_say():
    language = NasBench101Language()
    rng = np.random.default_rng(1)
    tokens = language.encode(some_cells(language, 600))
    for row in tokens:  # up to three tokens spoilt
        where = rng.integers(0, 27, rng.integers(0, 4))
        row[where] = rng.integers(0, 7, len(where))
    dense = np.where(language.allowed[:, 2], 2, 3)[None].repeat(20, axis=0)  # 21 edges less a few, vertices cut off
    dense[:, -1] = 6
    for row in dense:
        row[rng.choice(np.flatnonzero(language.allowed[:, 2]), 9)] = 1
    tokens = np.concatenate([tokens, dense, rng.integers(0, 7, (300, 27))])
    cells = language.decode(tokens)
    expected = [slow_decode(row) for row in tokens.tolist()]
    assert list(cells.reasons) == [reason for _, reason in expected]
    assert len(set(cells.reasons)) == 7
    for theta, again, (spec, _) in zip(
        cells.thetas.tolist(), language.encode(cells.thetas).tolist(), expected, strict=True
    ):
        if spec is None:
            assert not any(theta)
        else:
            assert again == slow_tokens(spec)  # order of the vertices kept
            assert language.space.digest(tuple(theta)) == spec.digest


def test_nasbench101_sequences_written_by_hand():
    language = NasBench101Language()
    edge = [2, 6]  # input -> output
    chain = [2, 3, 1, 2, 6]  # input -> conv3x3 -> output
    dangling = [2, 4, 2, 1, 6]  # the convolution leads nowhere
    sequences = [[*s, *[5] * (27 - len(s))] for s in (edge, chain, dangling, [1, 6], [6], [2, 3, 6], [2, 2, 6])]
    cells = language.decode(np.array(sequences))
    assert cells.reasons == ("", "", "", rules.DISCONNECTED, rules.LENGTH, rules.LENGTH, rules.LENGTH)
    tokens = language.encode(cells.thetas)[:3].tolist()
    assert [row[:6] for row in tokens] == [[*edge, 0, 0, 0, 0], [*chain, 0], [*edge, 0, 0, 0, 0]]


def test_our_theta_is_refused_or_filled_when_a_node_is_thin():
    language = DartsLanguage(4)
    theta = some_cells(language, 1)
    tokens = language.encode(theta)
    node = np.arange(2, 5)  # the second node of the normal cell
    tokens[0, node] = [1, 5, 1]
    padded = tokens.copy()
    padded[0, 27] = 0
    assert language.decode(np.concatenate([tokens, padded])).reasons == (EDGES, PADDING)
    lenient = DartsLanguage(4, decoding="lenient").decode(tokens)
    assert lenient.reasons == ("",)
    raw = tuple((tokens[0] - 1).tolist())
    assert tuple(lenient.thetas[0].tolist()) == language.space.canonical(raw)


def test_more_than_two_edges_are_canonical_after_decoding():
    language = DartsLanguage(5)
    tokens = np.full((1, 40), 5)
    theta = tuple(language.decode(tokens).thetas[0].tolist())
    assert theta == language.space.canonical((4,) * 40)
    assert theta != (4,) * 40


def test_a_space_has_a_language_unless_it_keeps_every_edge():
    assert isinstance(language_of(NasBench101Space()), NasBench101Language)
    assert isinstance(language_of(NasBench201Space()), NasBench201Language)
    assert language_of(DartsSpace(4, "pairs")) == DartsLanguage(4)
    with pytest.raises(ConfigError, match="darts5-all"):
        language_of(DartsSpace(5, "all"))


def test_thetas_are_carried_between_encodings():
    rng = np.random.default_rng(0)
    for space in (DartsSpace(5, "pairs"), DartsSpace(4, "first2"), NasBench201Space()):
        own = language_of(space).space
        for _ in range(20):
            theta = space.sample(rng)
            there = translate(theta, space, own)
            assert own.canonical(there) == there
            assert own.digest(there) == space.digest(theta)
            assert translate(there, own, space) == space.canonical(theta)
