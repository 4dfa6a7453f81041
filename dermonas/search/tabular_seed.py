"""One seed's search of a table, kept on disk as it goes, so that a killed one goes on where it stopped."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dermonas.controller.languages import language_of
from dermonas.controller.storage import save_controller
from dermonas.errors import StorageError
from dermonas.search.rounds import RoundFacts, facts_of
from dermonas.search.samplers.base import DomainSampler
from dermonas.search.samplers.history import Record
from dermonas.search.samplers.nao import NaoSampler
from dermonas.search.samplers.nao_rounds import Round
from dermonas.search.tabular import initial_pool, search_table
from dermonas.search.tabular_benchmark import Benchmark
from dermonas.search.tabular_log import RecordLog, replace
from dermonas.space.domain import Theta

Make = Callable[[int, Path], DomainSampler]
"""From a seed, and the folder for what its sampler keeps, to its sampler."""


@dataclass(frozen=True)
class Query:
    """One distinct network that was asked for.

    Attributes:
        query: From 1.
        round: NAO's round that proposed it, from 1; 0 for the initial pool and every other sampler.
        theta: As proposed.
        digest: Of the network.
        validation: What the search saw, in [0, 1].
        test: What is reported, in [0, 1].
    """

    query: int
    round: int
    theta: Theta
    digest: str
    validation: float
    test: float


@dataclass(frozen=True)
class SeedResult:
    """One seed's search.

    Attributes:
        seed: Its seed.
        seconds: Wall time, of all processes that had a part in it.
        duplicates: Proposals of networks that were known.
        queries: In order.
        rounds: In order; empty but for NAO.
    """

    seed: int
    seconds: float
    duplicates: int
    queries: tuple[Query, ...]
    rounds: tuple[RoundFacts, ...]


def search_seed(benchmark: Benchmark, make: Make, seed: int, queries: int, initial: int, folder: Path) -> SeedResult:
    """Search a table with one seed, go on with it, or read what it came to.

    In `folder` it keeps seed-N.jsonl, a line a record, and what the sampler keeps in seed-N; at the end seed-N.json
    alone, and for NAO seed-N.pt, the controller after the last round. What is returned is the same however often the
    search was killed, `seconds` aside.

    Args:
        benchmark: The table.
        make: Makes the sampler.
        seed: Keys the initial pool, the sampler and the table's noise.
        queries: Distinct networks to ask for, the initial ones among them.
        initial: Networks of the pool that all samplers share at a seed.
        folder: Made where absent; of this search alone (all arguments but the seed alike).

    Raises:
        SearchError: See `search_table` and `initial_pool`.
        DataError: If the table lacks a network.
        StorageError: If a file is damaged or cannot be written.
    """
    name = f"seed-{seed:04d}"
    result, records_file, kept = folder / f"{name}.json", folder / f"{name}.jsonl", folder / name
    if not result.is_file():
        log = RecordLog(records_file, benchmark.space)
        sampler = make(seed, kept)
        records = search_table(
            sampler,
            lambda theta: 1 - benchmark.validation(theta, seed),
            queries,
            initial_pool(benchmark.space, seed, min(initial, queries)),
            done=log.records,
            told=log.append,
        )
        rounds = sampler.rounds if isinstance(sampler, NaoSampler) else []
        if rounds:
            info = {"domain": benchmark.space.name, "seed": seed, "rounds": len(rounds), "queries": queries}
            save_controller(folder / f"{name}.pt", rounds[-1].controller, language_of(benchmark.space), info)
        replace(result, json.dumps(asdict(_result(benchmark, records, rounds, seed, log.seconds))))
    with contextlib.suppress(OSError):  # what cannot be removed does no harm
        records_file.unlink(missing_ok=True)
    shutil.rmtree(kept, ignore_errors=True)
    return _load(result)


def _result(
    benchmark: Benchmark, records: Sequence[Record], rounds: Sequence[Round], seed: int, seconds: float
) -> SeedResult:
    asked = [record for record in records if not record.duplicate]
    rows = tuple(
        Query(
            query=query,
            round=sum(one.first <= record.number for one in rounds),
            theta=record.theta,
            digest=record.digest,
            validation=benchmark.validation(record.theta, seed),
            test=benchmark.test(record.theta),
        )
        for query, record in enumerate(asked, start=1)
    )
    facts = tuple(facts_of(one, records) for one in rounds)
    return SeedResult(seed, seconds, len(records) - len(asked), rows, facts)


def _load(path: Path) -> SeedResult:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        queries = tuple(Query(**{**row, "theta": tuple(row["theta"])}) for row in content.pop("queries"))
        rounds = tuple(RoundFacts(**row) for row in content.pop("rounds"))
        return SeedResult(queries=queries, rounds=rounds, **content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StorageError(f"{path} is damaged ({reason}): delete it to search its seed anew") from error
