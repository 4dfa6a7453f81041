"""Small domains, and a search loop in a few lines, for the sampler tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import optuna

from dermonas.search.samplers.base import DomainSampler, proposal
from dermonas.search.samplers.history import DUPLICATE, THETA, Record
from dermonas.space.domain import Domain, Theta

optuna.logging.set_verbosity(optuna.logging.WARNING)

Objective = Callable[[Theta], float]


@dataclass(frozen=True)
class Product:
    """Every theta is its own network."""

    choices: tuple[int, ...]
    name: str = "product"

    def canonical(self, theta: Theta) -> Theta:
        return theta

    def digest(self, theta: Theta) -> str:
        return ".".join(map(str, self.canonical(theta)))

    def sample(self, rng: np.random.Generator) -> Theta:
        return tuple(int(choice) for choice in rng.integers(self.choices))

    def neighbours(self, theta: Theta) -> Iterator[Theta]:
        for index, count in enumerate(self.choices):
            for choice in range(count):
                edited = self.canonical((*theta[:index], choice, *theta[index + 1 :]))
                if edited != self.canonical(theta):
                    yield edited


@dataclass(frozen=True)
class Folded(Product):
    """The second half of the positions is dead where the first choice is 0: many thetas, one network."""

    name: str = "folded"

    def canonical(self, theta: Theta) -> Theta:
        live = len(theta) if theta[0] else len(theta) // 2
        return theta[:live] + (0,) * (len(theta) - live)


def every(domain: Domain) -> list[Theta]:
    return list(product(*(range(count) for count in domain.choices)))


def record(
    number: int,
    theta: Theta,
    value: float,
    *,
    duplicate: bool = False,
    pruned_at: int | None = None,
    digest: str | None = None,
) -> Record:
    """A record as `history` makes it; without a digest, that of a Product."""
    key = (0, 0, value) if pruned_at is None else (1, -pruned_at, value)
    return Record(
        number=number,
        theta=theta,
        value=value,
        key=key,
        state="complete" if pruned_at is None else "pruned",
        digest=".".join(map(str, theta)) if digest is None else digest,
        duplicate=duplicate,
    )


def random_records(domain: Domain, count: int, rng: np.random.Generator, distinct: int | None = None) -> list[Record]:
    """Records with random thetas, and values all different or from few `distinct` ones."""
    values = rng.permutation(count) if distinct is None else rng.integers(distinct, size=count)
    thetas = [domain.sample(rng) for _ in range(count)]
    return [
        record(number, theta, float(value), digest=domain.digest(theta))
        for number, (theta, value) in enumerate(zip(thetas, values, strict=True))
    ]


def new_study(storage: object = None, **settings: object) -> optuna.Study:
    return optuna.create_study(study_name="s", storage=storage, load_if_exists=True, **settings)  # type: ignore[arg-type]


def drive(study: optuna.Study, sampler: DomainSampler, objective: Objective, trials: int) -> list[Theta]:
    """Ask and tell until the study holds `trials` trials; a known network is told its known value."""
    study.sampler = sampler
    thetas = []
    known = {r.digest: r.value for r in sampler.records(study) if r.state == "complete"}
    while len(study.get_trials(deepcopy=False)) < trials:
        trial = study.ask()
        theta = proposal(trial)
        digest = sampler.domain.digest(theta)
        trial.set_user_attr(THETA, list(theta))
        trial.set_user_attr(DUPLICATE, digest in known)
        known.setdefault(digest, objective(sampler.domain.canonical(theta)))
        study.tell(trial, known[digest])
        thetas.append(theta)
    return thetas


def separable(domain: Domain, seed: int) -> Objective:
    """A sum of one random table a position; smaller is better."""
    tables = [np.random.default_rng((seed, index)).normal(size=count) for index, count in enumerate(domain.choices)]
    return lambda theta: float(sum(table[choice] for table, choice in zip(tables, theta, strict=True)))


def add(study: optuna.Study, records: Sequence[Record]) -> None:
    """Put complete records into a study as finished trials."""
    for r in records:
        attrs = {THETA: list(r.theta), DUPLICATE: r.duplicate}
        study.add_trial(optuna.trial.create_trial(value=r.value, user_attrs=attrs))
