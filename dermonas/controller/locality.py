"""Are cells that are few edits apart embedded near each other? Pairs of known distance, and their cosine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dermonas.controller.darts import DartsLanguage
from dermonas.controller.edit_distance import edit_distances
from dermonas.controller.language import Language, Thetas
from dermonas.controller.model import Controller
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.controller.nasbench101_bits import fingerprints, from_thetas
from dermonas.errors import ConfigError, DataError
from dermonas.metrics.intervals import GroupBootstrap, Interval, interval
from dermonas.metrics.ranks import spearman_statistic
from dermonas.seeding import numpy_generator

DISTANCES = tuple(range(1, 9))
"""Those that the locality of a controller is judged on."""

_ANCHORS = 2048  # cells that a round starts from
_STEPS = 4  # rounds of edits, 1 to 3 each, that a walk takes from its anchor
_ROUNDS = 60  # after which a distance that still lacks pairs is left with those it has
_IDLE = 5  # rounds in a row without a pair to keep, after which there are none
_BATCH = 4096  # cells embedded at once


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of cells.

    Attributes:
        first: (pairs, positions), valid thetas; the anchors.
        second: (pairs, positions), the others.
        distance: (pairs,) exact edit distances; sorted.
        anchor: (pairs,) place of the first among the cells that pairs were drawn from.
        other: (pairs,) place of the second among them; -1 where it need not be one of them.
    """

    first: Thetas
    second: Thetas
    distance: NDArray[np.int64]
    anchor: NDArray[np.int64]
    other: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.distance)

    def count(self, distance: int) -> int:
        """Return the number of pairs of a distance."""
        return int((self.distance == distance).sum())


def random_distances(language: Language, cells: Thetas, count: int, seed: int) -> NDArray[np.int64]:
    """Return the distances of pairs of two different cells, drawn uniformly.

    Args:
        language: Of the cells.
        cells: (cells, positions), at least two.
        count: Pairs.
        seed: Keys the pairs.

    Raises:
        DataError: Fewer than two cells.
    """
    _enough(cells)
    rng = numpy_generator(seed, "random pairs")
    one = rng.integers(0, len(cells), count)
    other = (one + rng.integers(1, len(cells), count)) % len(cells)
    return edit_distances(language, cells[one], cells[other])


def pairs_by_distance(
    language: Language,
    cells: Thetas,
    per_distance: int,
    distances: Sequence[int] = DISTANCES,
    seed: int = 0,
    *,
    listed: bool = True,
) -> Pairs:
    """Draw pairs of every wanted exact distance.

    Among random pairs near ones are too rare to wait for, so every round starts 2,048 walks at random cells: four
    times 1 to 3 random edits (`Language.positives`), the cell after each step and one random cell being partners of
    the walk's anchor. The exact distance of each partner is measured, and of each distance the first pairs are kept,
    no pair of networks twice, until there are enough, five rounds gave none, or 60 are over. Near pairs are thus
    uniform over anchors and edits, not over pairs.

    Args:
        language: Of the cells.
        cells: (cells, positions), what anchors are drawn from; at least two different networks.
        per_distance: Pairs of a distance.
        distances: Wanted, each 1 or more.
        seed: Keys all draws.
        listed: Whether a partner must be one of `cells`, and is then written as it is there: other vertex numbers
            than its anchor's, as two cells of a benchmark have them. False takes the edited cell as the edit left it.

    Returns:
        The pairs, fewer of a distance that is rare or does not exist.

    Raises:
        ConfigError: No pairs, or a distance below 1.
        DataError: Fewer than two cells, or cells without a distance.

    Source: spec/nao.md 6 walks a shuffled list from each anchor, which takes the whole list for a near pair.
    """
    if per_distance < 1 or not distances or min(distances) < 1:
        raise ConfigError(f"{per_distance} pairs of distances {list(distances)} are not possible; give 1 or more")
    _enough(cells)
    index = _Index(language, cells)
    taken: dict[int, list[tuple[int, Thetas, int]]] = {distance: [] for distance in distances}
    seen: set[tuple[int, int]] = set()
    idle = 0
    for number in range(_ROUNDS):
        if idle == _IDLE or all(len(found) >= per_distance for found in taken.values()):
            break
        rng = numpy_generator(seed, "pairs", number)
        anchor, partner = _candidates(language, cells, rng)
        keys, place = index.find(partner)
        if listed:
            known = place >= 0
            anchor, partner, keys, place = anchor[known], cells[place[known]], keys[known], place[known]
        new = _unseen(index.keys[anchor], keys, seen)
        rng.shuffle(new)
        found = edit_distances(language, cells[anchor[new]], partner[new])
        idle += 1
        for row, distance in zip(new, found.tolist(), strict=True):
            kept = taken.get(distance)
            if kept is not None and len(kept) < per_distance:
                kept.append((int(anchor[row]), partner[row], int(place[row]) if listed else -1))
                idle = 0
    rows = [(distance, *pair) for distance in sorted(taken) for pair in taken[distance]]
    anchors = np.array([row[1] for row in rows], np.int64)
    second = np.array([row[2] for row in rows], cells.dtype).reshape(len(rows), cells.shape[1])
    distance, other = (np.array([row[place] for row in rows], np.int64) for place in (0, 3))
    return Pairs(cells[anchors], second, distance, anchors, other)


def embed(controller: Controller, language: Language, cells: Thetas) -> NDArray[np.float32]:
    """Return (cells, hidden) embeddings of unit norm.

    Args:
        controller: On any device.
        language: That it speaks.
        cells: (cells, positions).
    """
    device = next(controller.parameters()).device
    tokens = torch.from_numpy(language.encode(cells))
    with torch.no_grad():
        parts = [controller.encoder(part.to(device)).embedding.cpu() for part in tokens.split(_BATCH)]
    return np.asarray(torch.cat(parts).numpy())


def cosine(controller: Controller, language: Language, pairs: Pairs) -> NDArray[np.float64]:
    """Return the cosine similarity of each pair's embeddings, in [-1, 1]."""
    one, other = (embed(controller, language, side).astype(np.float64) for side in (pairs.first, pairs.second))
    return np.asarray((one * other).sum(axis=1))


def locality(
    similarity: NDArray[np.float64], pairs: Pairs, *, replicates: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return Spearman's rho of distance and similarity, with an interval that resamples anchors.

    Args:
        similarity: (pairs,).
        pairs: Of at least two distances, else rho is NaN.
        replicates: Resamples.
        level: Nominal coverage.
        seed: Of the resamples.

    Raises:
        DataError: Fewer than two pairs.
    """
    bootstrap = GroupBootstrap(pairs.anchor.tolist(), len(pairs), replicates=replicates, seed=seed)
    return interval(spearman_statistic(similarity, pairs.distance), bootstrap, level=level)


def _candidates(language: Language, cells: Thetas, rng: np.random.Generator) -> tuple[NDArray[np.int64], Thetas]:
    """Return the anchors' places and a partner each: the steps of their walks, and random cells."""
    start = rng.integers(0, len(cells), min(_ANCHORS, 8 * len(cells)))
    walked, now = [], cells[start]
    for _ in range(_STEPS):
        now = language.positives(now, rng.random((len(now), 1, language.draws))).thetas[:, 0]
        walked.append(now)
    walked.append(cells[rng.integers(0, len(cells), len(start))])
    return np.tile(start, len(walked)), np.concatenate(walked).astype(cells.dtype)


class _Index:
    """Finds networks among cells."""

    def __init__(self, language: Language, cells: Thetas) -> None:
        self.language = language
        self.numbers: dict[str | bytes, int] = {}
        self.keys = self._keys(cells)
        self.order = np.argsort(self.keys, kind="stable")
        self.sorted = self.keys[self.order]

    def find(self, cells: Thetas) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return a number for each network, and the first place where it stands, -1 where it does not."""
        keys = self._keys(cells)
        at = np.minimum(np.searchsorted(self.sorted, keys), len(self.sorted) - 1)
        return keys, np.where(self.sorted[at] == keys, self.order[at], -1)

    def _keys(self, cells: Thetas) -> NDArray[np.uint64]:
        if isinstance(self.language, NasBench101Language):
            return fingerprints(from_thetas(cells))
        names: list[str | bytes]
        if isinstance(self.language, DartsLanguage):  # canonical thetas differ exactly when the networks do
            names = [row.tobytes() for row in np.ascontiguousarray(cells, np.uint8)]
        else:
            names = [self.language.space.digest(tuple(row)) for row in cells.tolist()]
        return np.array([self.numbers.setdefault(name, len(self.numbers)) for name in names], np.uint64)


def _unseen(one: NDArray[np.uint64], other: NDArray[np.uint64], seen: set[tuple[int, int]]) -> list[int]:
    """Return the rows that are two networks and a pair not seen before, and note them as seen."""
    low, high = np.minimum(one, other).tolist(), np.maximum(one, other).tolist()
    new = []
    for row, ends in enumerate(zip(low, high, strict=True)):
        if ends[0] != ends[1] and ends not in seen:
            seen.add(ends)
            new.append(row)
    return new


def _enough(cells: Thetas) -> None:
    if len(cells) < 2:
        raise DataError(f"{len(cells)} cells make no pair: give two or more")
