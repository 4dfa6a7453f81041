"""Searching a table: any sampler's proposals scored by look-up, without Optuna's study."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dermonas import seeding
from dermonas.errors import ConfigError, SearchError
from dermonas.search.samplers.base import DomainSampler
from dermonas.search.samplers.history import Record, duplicates_in_a_row
from dermonas.space.domain import Domain, Theta

EXHAUSTED = 5000  # duplicates in a row after which the space is searched through, as in `loop`


def initial_pool(domain: Domain, seed: int, size: int) -> list[Theta]:
    """Draw distinct networks from the prior, the same for every sampler that is compared at a seed.

    Raises:
        SearchError: If the space does not seem to hold that many.
    """
    rng = seeding.numpy_generator(seed, "initial pool")
    pool: dict[str, Theta] = {}
    misses = 0
    while len(pool) < size:
        theta = domain.sample(rng)
        misses = misses + 1 if domain.digest(theta) in pool else 0
        if misses == EXHAUSTED:
            raise SearchError(
                f"{domain.name} gave {len(pool)} networks in {EXHAUSTED} draws more: use a pool that small"
            )
        pool.setdefault(domain.digest(theta), theta)
    return list(pool.values())


def search_table(
    sampler: DomainSampler,
    score: Callable[[Theta], float],
    queries: int,
    initial: Sequence[Theta] = (),
    *,
    done: Sequence[Record] = (),
    told: Callable[[Record], None] | None = None,
) -> list[Record]:
    """Run a sampler until a number of distinct networks is scored.

    The rules are those of the search loop (DESIGN 5): a proposal whose network is known enters the history with the
    known value, flagged as a duplicate, and is no query.

    Args:
        sampler: Proposes; its records are the returned ones so far.
        score: The value of a theta, smaller is better, finite; asked once a network.
        queries: Distinct networks to score, 1 or more, the initial ones among them.
        initial: Thetas to score first, as trials 0, 1, ...; more than `queries` of them are cut.
        done: The first records of an earlier call with equal arguments; this one goes on after them.
        told: Called with each new record.

    Returns:
        Every record in trial order, duplicates among them; `[r for r in records if not r.duplicate]` are the queries.

    Raises:
        ConfigError: If queries is below 1.
        SearchError: If 5,000 proposals in a row were known.
    """
    if queries < 1:
        raise ConfigError(f"queries is {queries}: use 1 or more")
    domain = sampler.domain
    records = list(done)
    known = {record.digest: record.value for record in records}
    in_a_row = duplicates_in_a_row(records)
    while len(known) < queries:
        number = len(records)
        theta = initial[number] if number < len(initial) else sampler.theta(records, number)
        digest = domain.digest(theta)
        duplicate = digest in known
        if not duplicate:
            known[digest] = float(score(theta))
        records.append(record_of(number, theta, known[digest], digest, duplicate))
        if told is not None:
            told(records[-1])
        in_a_row = in_a_row + 1 if duplicate else 0
        if in_a_row == EXHAUSTED:
            raise SearchError(
                f"{in_a_row} proposals in a row were scored before: {domain.name} holds no more than {len(known)} "
                f"networks that {sampler.name} finds; use fewer queries"
            )
    return records


def record_of(number: int, theta: Theta, value: float, digest: str, duplicate: bool) -> Record:
    """Return the record of a look-up: complete, smaller values better."""
    return Record(number, theta, value, (0, 0, value), "complete", digest, duplicate)
