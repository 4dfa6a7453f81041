"""New cells from the best known ones: a step along the predictor's gradient, decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dermonas.controller.language import Language, Thetas, Tokens
from dermonas.controller.model import Controller, Encoded, pooled
from dermonas.controller.pool import predict
from dermonas.errors import ConfigError
from dermonas.seeding import numpy_generator
from dermonas.space.domain import Theta

Ascent = Literal["growing", "iterative"]

IN_POOL, IN_ROUND = "in the pool", "in the round"
"""Reasons for valid cells: the network is known, or was accepted earlier in the round."""

_LUCK = 1000  # positives tried in a row before the space near the seeds counts as exhausted


@dataclass(frozen=True)
class ProposalSettings:
    """How to propose.

    Attributes:
        count: Cells wanted.
        steps: Steps tried, in order, until there are enough.
        ascent: "growing" takes one gradient at each seed and steps 1, 2, 3, ... times that far from the seed, as the
            paper's code does; "iterative" takes a new gradient after each step.
        constrained: Whether the decoder may only use symbols that a position can have. The paper decodes freely.
        neighbours: Of how many of the best seeds all neighbours are considered too, by falling predicted value; they
            also take what the steps leave of a round. 0 is the paper's.
        near: Their share of a round, in [0, 1].
        at_least: Cells made up with random positives of the seeds if the steps give fewer, so that no search stalls.

    Raises:
        ConfigError: If a value is impossible.

    Source: spec/nao.md 5 and 8.
    """

    count: int = 128
    steps: int = 100
    ascent: Ascent = "growing"
    constrained: bool = False
    neighbours: int = 0
    near: float = 0.8
    at_least: int = 1

    def __post_init__(self) -> None:
        for key, low in (("count", 1), ("steps", 1), ("neighbours", 0), ("at_least", 0)):
            if getattr(self, key) < low:
                raise ConfigError(f"{key}: {getattr(self, key)} is not possible; give {low} or more")
        if not 0 <= self.near <= 1:
            raise ConfigError(f"near: {self.near} is not possible; give 0 to 1")
        if self.at_least > self.count:
            raise ConfigError(f"at_least: {self.at_least} is more than count ({self.count}); use at most count")


class Candidate(NamedTuple):
    """One accepted cell.

    Attributes:
        theta: Canonical.
        digest: Of the network.
        seed: Row of the seed that it comes from.
        step: Step length (growing) or number of steps (iterative); 0 for a neighbour or a random positive.
    """

    theta: Theta
    digest: str
    seed: int
    step: int


class Proposal(NamedTuple):
    """What a round gave.

    Attributes:
        candidates: In order of acceptance.
        decoded: Sequences decoded and looked at.
        rejected: Of these, how many by reason: the language's reasons, `IN_POOL`, `IN_ROUND`.
        relabelled: Of the valid ones rejected, how many the paper would have taken: their tokens are new.
        neighbours: Candidates that are neighbours of a seed, not decoded.
        fallbacks: Candidates that are random positives.
    """

    candidates: list[Candidate]
    decoded: int
    rejected: dict[str, int]
    relabelled: int
    neighbours: int
    fallbacks: int


def propose(
    controller: Controller,
    language: Language,
    seeds: Thetas,
    known: Set[str],
    pool: Tokens,
    settings: ProposalSettings,
    seed: int,
    round: int,
) -> Proposal:
    """Propose cells that are not known, from the best cells of the pool.

    A function of its arguments. Only the fallback draws, keyed by (seed, round).

    Args:
        controller: Trained on the pool.
        language: Of the controller.
        seeds: (seeds, positions) valid thetas, canonical for our space, the best first.
        known: Digests of the networks evaluated so far.
        pool: (cells, length) their tokens, to tell what the paper would call new.
        settings: How.
        seed: The search's.
        round: From 0.
    """
    device = next(controller.parameters()).device
    allowed = torch.from_numpy(language.allowed).to(device) if settings.constrained else None
    judge = _Judge(language, known, pool, settings.count)
    near = _neighbours(controller, language, seeds[: settings.neighbours])
    judge.add(near, int(settings.near * settings.count + 0.5))
    with torch.no_grad():
        outputs = controller.encoder(torch.from_numpy(language.encode(seeds)).to(device)).outputs
    gradient = value_gradient(controller, outputs)
    for step in range(1, settings.steps + 1):
        if judge.full:
            break
        if settings.ascent == "growing":
            point = moved(outputs, gradient, step)
        else:
            point = moved(outputs, gradient, 1)
            outputs, gradient = point.outputs, value_gradient(controller, point.outputs)
        judge.look(controller.generate(point, allowed).cpu().numpy(), step)
    judge.add(near, settings.count)
    neighbours = sum(not candidate.step for candidate in judge.accepted)
    fallbacks = _positives(judge, language, seeds, settings.at_least, seed, round)
    return Proposal(judge.accepted, judge.decoded, dict(judge.rejected), judge.relabelled, neighbours, fallbacks)


def value_gradient(
    controller: Controller, outputs: Float[Tensor, "seeds length hidden"]
) -> Float[Tensor, "seeds length hidden"]:
    """Return the gradient of each cell's predicted value with respect to its encoder outputs."""
    with torch.enable_grad():
        point = outputs.detach().requires_grad_()
        values = controller.predictor(pooled(point))
        return torch.autograd.grad(values.sum(), point)[0]


def moved(
    outputs: Float[Tensor, "seeds length hidden"], gradient: Float[Tensor, "seeds length hidden"], step: float
) -> Encoded:
    """Return normalise(outputs + step * gradient), and the embedding that follows from it."""
    stepped = F.normalize(outputs + step * gradient, dim=2)
    return Encoded(stepped, pooled(stepped))


class _Judge:
    """Takes valid cells whose network is new, and counts the others."""

    def __init__(self, language: Language, known: Set[str], pool: Tokens, count: int) -> None:
        self.language, self.known, self.count = language, known, count
        self.tokens = {row.tobytes() for row in pool.astype(np.int64)}
        self.raw: set[bytes] = set()
        self.digests: set[str] = set()
        self.accepted: list[Candidate] = []
        self.rejected: Counter[str] = Counter()
        self.decoded = self.relabelled = 0

    @property
    def full(self) -> bool:
        return len(self.accepted) >= self.count

    def look(self, tokens: Tokens, step: int) -> None:
        """Judge decoded sequences, one a seed, until there are enough cells."""
        cells = self.language.decode(tokens)
        pruned = self.language.encode(cells.thetas)
        for row, reason in enumerate(cells.reasons):
            if self.full:
                return
            self.decoded += 1
            if not reason:
                reason = self.take(tuple(cells.thetas[row].tolist()), row, step)
                raw = tokens[row].tobytes()
                new = raw not in self.raw and pruned[row].tobytes() not in self.tokens
                self.relabelled += bool(reason) and new
                self.raw.add(raw)
            self.rejected.update([reason] if reason else [])

    def add(self, cells: Sequence[tuple[Theta, int]], count: int) -> None:
        """Take cells with their seeds, in order, until `count` are accepted; who is refused is not counted."""
        for theta, seed in cells:
            if len(self.accepted) >= count:
                return
            self.take(theta, seed, 0)

    def take(self, theta: Theta, seed: int, step: int) -> str:
        """Accept a valid cell, or return why not."""
        digest = self.language.space.digest(theta)
        if digest in self.known:
            return IN_POOL
        if digest in self.digests:
            return IN_ROUND
        self.digests.add(digest)
        self.accepted.append(Candidate(self.language.space.canonical(theta), digest, seed, step))
        return ""


def _neighbours(controller: Controller, language: Language, seeds: Thetas) -> list[tuple[Theta, int]]:
    """Return the neighbours of the seeds, each with its seed, by falling predicted value."""
    found: dict[Theta, int] = {}
    for row, seed in enumerate(seeds.tolist()):
        for theta in language.space.neighbours(tuple(seed)):
            found.setdefault(theta, row)
    if not found:
        return []
    cells = list(found.items())
    values = predict(controller, torch.from_numpy(language.encode(np.array([theta for theta, _ in cells]))))
    return [cells[place] for place in np.argsort(-values, kind="stable")]


def _positives(judge: _Judge, language: Language, seeds: Thetas, at_least: int, seed: int, round: int) -> int:
    """Fill up to `at_least` candidates with random positives of the seeds in turn, and return how many."""
    before = len(judge.accepted)
    for attempt in range(_LUCK):
        if len(judge.accepted) >= at_least:
            break
        row = attempt % len(seeds)
        numbers = numpy_generator(seed, "fallback", round, attempt).random((1, 1, language.draws))
        near = language.positives(seeds[row : row + 1], numbers)
        judge.take(tuple(near.thetas[0, 0].tolist()), row, 0)
    return len(judge.accepted) - before
