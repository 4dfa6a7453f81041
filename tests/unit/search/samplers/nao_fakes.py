"""Small controllers, and searches by nao in which trials fail, are pruned or come late."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from sampler_fakes import record, separable

from dermonas.controller.languages import language_of
from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.pool import PoolSettings
from dermonas.search.samplers.history import Record
from dermonas.search.samplers.nao import NaoSampler, NaoSettings
from dermonas.space.darts import DartsSpace
from dermonas.space.domain import Domain, Theta
from dermonas.space.nasbench201 import NasBench201Space

NB201 = NasBench201Space()
DOMAINS = {"nasbench201": NB201, "darts": DartsSpace(nodes=4, encoding="pairs")}
INITIAL, COUNT = 6, 5


def controller_for(domain: Domain) -> Controller:
    """One that learned nothing."""
    language = language_of(domain)
    return Controller(ControllerSettings(language.vocabulary, language.length, hidden=4, mlp_hidden=4), 5).eval()


def settings(**changed: Any) -> NaoSettings:
    """Rounds of exactly `COUNT` candidates, unless something is changed."""
    values: dict[str, Any] = {
        "initial": INITIAL, "seeds": 4, "count": COUNT, "pool": PoolSettings(epochs=2, batch_size=4, learning_rate=1.0),
        "steps": 2, "constrained": True, "neighbours": 1, "at_least": COUNT,
    }  # fmt: skip
    return NaoSettings(**{**values, **changed})


def sampler_for(domain: Domain = NB201, mode: str = "modern", folder: Path | None = None, **changed: Any) -> NaoSampler:
    return NaoSampler(domain, 1, controller_for(domain), settings(**changed), mode, folder=folder)


def searched(
    sampler: NaoSampler,
    trials: int,
    *,
    silent: Collection[int] = (),
    pruned: Collection[int] = (),
    score: Callable[[Theta], float] | None = None,
) -> tuple[list[Theta], list[Record]]:
    """Return what trials 0, 1, ... were given, and the history; a silent trial failed or runs and left no record."""
    domain, score = sampler.domain, score or separable(sampler.domain, 0)
    thetas: list[Theta] = []
    records: list[Record] = []
    for number in range(trials):
        theta = sampler.theta(records, number)
        thetas.append(theta)
        if number not in silent:
            digest, value = domain.digest(theta), score(domain.canonical(theta))
            known = any(before.digest == digest and before.state == "complete" for before in records)
            at = 1 if number in pruned else None
            records.append(record(number, theta, value, duplicate=known, pruned_at=at, digest=digest))
    return thetas, records
