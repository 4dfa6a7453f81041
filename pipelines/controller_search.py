"""`mlflow run . -e controller-search`: any sampler on a tabular benchmark, over several seeds, as one tracked arm."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from mlflow.entities import Metric

from dermonas.search import samplers
from dermonas.search.nao_config import CONTROLLED, nao_settings
from dermonas.search.samplers.base import DomainSampler
from dermonas.search.tabular_benchmark import Benchmark, read_benchmark
from dermonas.search.tabular_report import best_so_far, curves, finals, round_curves, write_regret, write_tables
from dermonas.search.tabular_seed import SeedResult, search_seed
from dermonas.tracking.lookup import DIGEST, INPUTS, by_id, inputs_digest, reusable, supersede
from dermonas.tracking.runs import STAGE, Run, launched, tracked
from dermonas.tracking.store import store_errors
from pipelines.command import command
from pipelines.controller_pretrain import KIND
from pipelines.controller_search_config import ControllerSearchConfig, depends_on, deviations, target_of
from pipelines.controllers import SCRATCH, Found, controller_of
from pipelines.locks import alone
from pipelines.models import device_named
from pipelines.recipe import Recipe, plain, read_config

ARM = "dermonas.arm"
"""Tag: what reports call the search."""
SEARCHED = "controller-searched.pt"
"""Artifact of nao: the controller after the last round of the first seed."""

_BATCH = 1000  # MLflow's limit of metrics in a batch

_log = logging.getLogger(__name__)


def run(config: ControllerSearchConfig, recipe: Recipe, *, adopt: bool = True) -> str:
    """Search a table with every seed as a tracked run, or find the finished run of an equal search; return its id.

    What the seeds came to lies under `out`, in a folder named by what they depend on: a search that was killed goes
    on with the seed and the query where it stopped, and one with more seeds searches only these.
    """
    benchmark = read_benchmark(config.domain, config.table, config.dataset, config.noise)
    device = device_named(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    found = controller_of(config.controller, benchmark.space, recipe) if config.sampler == CONTROLLED else None
    if found is not None:
        found.controller.to(device)
    arm = config.arm or _arm(config, found)
    values = depends_on(config, benchmark.digest, "" if found is None else found.identity)
    folder = config.out / inputs_digest("controller-search", values)
    inputs = inputs_digest(
        "controller-search", {**values, "arm": arm, "seeds": config.seeds, "first_seed": config.first_seed}
    )
    experiment = f"controller/{config.domain}"
    known = None if config.fresh else reusable(experiment, "controller", inputs)
    if known is not None:
        _log.info("%s was searched with the same inputs: run %s (--fresh true searches anew)", arm, known)
        if adopt:
            launched(known, f"dermonas/{experiment}")
        return known
    tags = {KIND: "search", ARM: arm, INPUTS: inputs, DIGEST: benchmark.digest}
    with (
        alone(folder.with_name(f".{folder.name}.lock"), f"searches the same into {folder}"),
        tracked(f"dermonas/{experiment}", "controller", f"search-{config.domain}-{arm}", tags, adopt=adopt) as tracker,
    ):
        supersede(tracker, {STAGE: "controller", INPUTS: inputs})
        _describe(tracker, config, recipe, found)
        results = _searched(config, benchmark, found, arm, folder)
        _report(tracker, config, benchmark, arm, results, folder)
    return tracker.id


def _arm(config: ControllerSearchConfig, found: Found | None) -> str:
    if found is None:
        return config.sampler
    return f"nao-{SCRATCH if config.controller == SCRATCH else found.metric or 'unknown'}"


def _searched(
    config: ControllerSearchConfig, benchmark: Benchmark, found: Found | None, arm: str, folder: Path
) -> list[SeedResult]:
    """Search with each seed and tell of it."""
    nao = None if found is None else nao_settings(config, target_of(config))
    controller = None if found is None else found.controller
    if config.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    # A stall is a warning, and on so small a space a sampler may stall at every query; duplicates are counted.
    logging.getLogger("dermonas.search.samplers.base").setLevel(logging.ERROR)

    def make(seed: int, kept: Path) -> DomainSampler:
        return samplers.make(
            config.sampler,
            benchmark.space,
            seed,
            config.mode,
            config.tpe,
            population=config.population,
            tournament=config.tournament,
            nao=nao,
            controller=controller,
            folder=kept,
        )

    results: list[SeedResult] = []
    start = time.monotonic()
    for number in range(config.seeds):
        seed = config.first_seed + number
        results.append(search_seed(benchmark, make, seed, config.queries, config.initial, folder))
        accuracy = 100 * best_so_far(results[-1:])[1][0, -1]
        left = (time.monotonic() - start) / (number + 1) * (config.seeds - number - 1)
        told = f"accuracy {accuracy:.2f}, {results[-1].seconds:.1f} s" + (f", about {left:.0f} s left" if left else "")
        print(f"[{number + 1}/{config.seeds}] {arm} seed {seed}: {told}", file=sys.stderr, flush=True)
    return results


def _describe(tracker: Run, config: ControllerSearchConfig, recipe: Recipe, found: Found | None) -> None:
    """Log parameters, the whole configuration, and deviations from the paper."""
    settings = plain(config)
    if found is not None:
        settings |= {"controller": found.run_id or config.controller, "controller_source": found.source}
    tracker.params({**settings, "metric": "" if found is None else found.metric, "recipe": recipe.name})
    tracker.document("config.yaml", yaml.safe_dump(plain(config)))
    tracker.document("deviations.json", deviations(config))


def _report(
    tracker: Run,
    config: ControllerSearchConfig,
    benchmark: Benchmark,
    arm: str,
    results: Sequence[SeedResult],
    folder: Path,
) -> None:
    """Log curves, finals, tables, the plot, and nao's controller."""
    by_query = curves(results, benchmark)
    _metrics(tracker, {q + 1: {name: curve[q] for name, curve in by_query.items()} for q in range(config.queries)})
    _metrics(tracker, round_curves(results))
    tracker.metrics(finals(results), config.queries)
    regret = benchmark.best_test - best_so_far(results)[1]
    place = config.dataset if config.domain == "nasbench201" else "cifar10"
    with tempfile.TemporaryDirectory() as scratch:
        title = f"{arm} on {benchmark.space.name}, {place}"
        for path in [*write_tables(results, Path(scratch)), *write_regret(regret, title, Path(scratch))]:
            tracker.artifact(path)
        searched = folder / f"seed-{config.first_seed:04d}.pt"
        if config.sampler == CONTROLLED and searched.is_file():
            tracker.artifact(Path(shutil.copy(searched, Path(scratch) / SEARCHED)))


def _metrics(tracker: Run, values: Mapping[int, Mapping[str, float]]) -> None:
    """Log metrics at many steps at once: a call a step takes MLflow seconds."""
    now = int(time.time() * 1000)
    points = [Metric(name, float(value), now, step) for step, row in values.items() for name, value in row.items()]
    with store_errors():
        for start in range(0, len(points), _BATCH):
            tracker.client.log_batch(tracker.id, metrics=points[start : start + _BATCH])


def summary(run_id: str) -> str:
    """Return the figures of a finished search in a few words."""
    data: Any = by_id(run_id).data
    mean, spread = (data.metrics.get(f"controller/test_accuracy_{kind}") for kind in ("mean", "std"))
    accuracy = f"{100 * mean:.2f}" + ("" if spread is None else f" +- {100 * spread:.2f}")
    seeds = int(data.params["seeds"])
    return f"accuracy {accuracy} ({seeds} seed{'s' if seeds > 1 else ''}, {data.params['queries']} queries)"


def main(argv: Sequence[str]) -> None:
    """Read the configuration, search, and print the run's id and its accuracy."""
    config, recipe = read_config("controller-search", argv)
    run_id = run(config, recipe)
    print(f"run {run_id} {summary(run_id)}")


if __name__ == "__main__":
    sys.exit(command("controller", main))
