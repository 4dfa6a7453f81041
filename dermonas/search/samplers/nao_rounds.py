"""The rounds of a NAO search as a function of its history, kept from one proposal to the next."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dermonas.controller.language import Language
from dermonas.controller.languages import translate
from dermonas.controller.model import Controller
from dermonas.controller.pool import Target, Trained, predict, train_on_pool
from dermonas.controller.proposal import Proposal, propose
from dermonas.controller.storage import read, weights_digest, write_atomically
from dermonas.errors import StorageError
from dermonas.metrics.ranks import spearman
from dermonas.search.samplers.base import unevaluated
from dermonas.search.samplers.history import Record
from dermonas.seeding import numpy_generator
from dermonas.space.domain import Domain, Theta

if TYPE_CHECKING:
    from dermonas.search.samplers.nao import NaoSettings


_FORMAT = "dermonas-round-2"
_ANEW = "delete it to train the round anew"


@dataclass(frozen=True, eq=False)
class Round:
    """One round: the controller trained on the pool, and what it proposed.

    Attributes:
        number: From 0.
        first: The trial that takes the first candidate; the pool is of the trials before it.
        pool: Cells in the pool.
        error: The predictor's mean squared error over the last pass.
        reconstruction: Mean NLL of a token over the last pass, nats.
        rank_correlation: Spearman's between the predicted and the seen quality of the pool's complete trials; nan
            where either is constant.
        proposal: What was decoded, and why it was refused.
        candidates: Thetas of the searched domain, one or more.
        digests: Of their networks.
        predicted: The predicted target of each candidate, in (0, 1).
        controller: After the training.
        seconds: Wall time of training and proposal; of the proposal alone where the training was read from disk.
    """

    number: int
    first: int
    pool: int
    error: float
    reconstruction: float
    rank_correlation: float
    proposal: Proposal
    candidates: tuple[Theta, ...]
    digests: frozenset[str]
    predicted: tuple[float, ...]
    controller: Controller
    seconds: float


class Rounds:
    """Every round that a history leads to.

    Attributes:
        made: Those made for the history last seen.
    """

    def __init__(
        self,
        domain: Domain,
        language: Language,
        controller: Controller,
        settings: NaoSettings,
        seed: int,
        folder: Path | None,
    ) -> None:
        self.domain, self.language, self.settings = domain, language, settings
        self.controller, self.seed, self.folder = controller, seed, folder
        self.made: list[Round] = []
        self._seen: list[Record] = []

    def at(self, records: Sequence[Record], number: int) -> Round | None:
        """Return the round whose candidate trial `number` takes, or None while the initial pool is not full."""
        self._forget(records)
        first = self._begin(records)
        if first is None or number < first:
            return None
        for current in self.made:
            if number < current.first + len(current.candidates):
                return current
            first = current.first + len(current.candidates)
        while True:
            current = self._next(records, first)
            self.made.append(current)
            first = current.first + len(current.candidates)
            if number < first:
                return current

    def _forget(self, records: Sequence[Record]) -> None:
        """Drop the rounds whose pool is another one under `records`."""
        both = min(len(records), len(self._seen))
        same = both if self._seen[:both] == list(records[:both]) else _common(self._seen, records)
        changed = [history[same].number for history in (self._seen, records) if same < len(history)]
        if changed:
            self.made = [made for made in self.made if made.first <= min(changed)]
        self._seen = list(records)

    def _begin(self, records: Sequence[Record]) -> int | None:
        """Return the trial of the first candidate: the one after the record that fills the initial pool."""
        found: set[str] = set()
        for record in records:
            if record.state == "complete":
                found.add(record.digest)
                if len(found) == self.settings.initial:
                    return record.number + 1
        return None

    def _next(self, records: Sequence[Record], first: int) -> Round:
        """Train and propose, from the records before trial `first`."""
        start = time.perf_counter()
        number = len(self.made)
        pool = _distinct(record for record in records if record.number < first)
        thetas = [translate(record.theta, self.domain, self.language.space) for record in pool]
        tokens = self.language.encode(np.array(thetas))
        complete = np.array([record.state == "complete" for record in pool])
        scores = np.array([record.key[2] if whole else np.nan for record, whole in zip(pool, complete, strict=True)])
        target = self.settings.target or self._target(records)
        # A pruned trial is worse than every complete one, by how much is not known.
        targets = np.where(complete, target(np.where(complete, scores, target.worst)), 0.0).astype(np.float32)
        trained = self._trained(number, torch.from_numpy(tokens), torch.from_numpy(targets))
        guess = predict(trained.controller, torch.from_numpy(tokens))
        best = np.argsort(np.where(complete, scores, np.inf), kind="stable")[: self.settings.seeds]
        # Also what earlier rounds proposed and is not in the pool: it failed or runs.
        known = {record.digest for record in pool}.union(*(made.digests for made in self.made))
        proposal = propose(
            trained.controller,
            self.language,
            np.array(thetas)[best[: int(complete.sum())]],
            known,
            tokens,
            self.settings.proposal,
            self.seed,
            number,
        )
        candidates = tuple(translate(found.theta, self.language.space, self.domain) for found in proposal.candidates)
        digests = frozenset(found.digest for found in proposal.candidates)
        if not candidates:
            candidates = (unevaluated(self.domain, frozenset(known), numpy_generator(self.seed, "nao", number)),)
            digests = frozenset({self.domain.digest(candidates[0])})
        proposed = self.language.encode(np.array([translate(c, self.domain, self.language.space) for c in candidates]))
        return Round(
            number=number,
            first=first,
            pool=len(pool),
            error=trained.error,
            reconstruction=trained.reconstruction,
            rank_correlation=spearman(guess[complete], -scores[complete]),
            proposal=proposal,
            candidates=candidates,
            digests=digests,
            predicted=tuple(predict(trained.controller, torch.from_numpy(proposed)).tolist()),
            controller=trained.controller,
            seconds=time.perf_counter() - start,
        )

    def _target(self, records: Sequence[Record]) -> Target:
        """Return the target for the initial pool; any range serves where all its scores are equal."""
        initial = [record.key[2] for record in _distinct(r for r in records if r.state == "complete")]
        initial = initial[: self.settings.initial]
        return Target.of_losses(initial) if len(set(initial)) > 1 else Target(initial[0], initial[0] - 1)

    def _trained(self, number: int, tokens: Tensor, targets: Tensor) -> Trained:
        """Train the last round's controller, or read what an earlier process trained from equal arguments."""
        before = self.made[-1].controller if self.made else self.controller
        if self.folder is None:
            return train_on_pool(before, tokens, targets, self.settings.pool, self.seed, number)
        inputs = [_FORMAT, weights_digest(before), asdict(self.settings.pool), self.seed, number]
        digest = hashlib.sha256(json.dumps(inputs).encode() + tokens.numpy().tobytes() + targets.numpy().tobytes())
        file = self.folder / f"round-{number:03d}-{digest.hexdigest()[:16]}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # before the training: it may be long
            if file.is_file():
                return _read(file, before)
        except OSError as error:
            raise StorageError(
                f"cannot write {file}: {error.strerror or error}; free space or choose another folder"
            ) from error
        trained = train_on_pool(before, tokens, targets, self.settings.pool, self.seed, number)
        content = {"error": trained.error, "reconstruction": trained.reconstruction}
        weights = {key: value.cpu() for key, value in trained.controller.state_dict().items()}
        write_atomically(file, {**content, "weights": weights, "digest": weights_digest(trained.controller)})
        return trained


def _read(file: Path, like: Controller) -> Trained:
    """Return the training in a file, on the device of a controller of its sizes."""
    kept = read(file, _ANEW)
    controller = Controller(like.settings).to(next(like.parameters()).device)
    try:
        controller.load_state_dict(kept["weights"])
        # torch does not check the sums in its files: a changed byte would only show in what is proposed.
        if weights_digest(controller) != kept["digest"]:
            raise ValueError("the weights are not those that were written")
        return Trained(controller.eval(), kept["error"], kept["reconstruction"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StorageError(f"{file} is damaged ({reason}): {_ANEW}") from error


def _distinct(records: Any) -> list[Record]:
    """Return the first record of each network, a complete one before any pruned one."""
    found: dict[str, Record] = {}
    for record in records:
        before = found.get(record.digest)
        if before is None or (before.state == "pruned" and record.state == "complete"):
            found[record.digest] = record
    return list(found.values())


def _common(one: Sequence[Record], other: Sequence[Record]) -> int:
    """Return the length of the longest common beginning."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
