"""`mlflow run . -e audit`: does the score rank networks as training does, at which budget, does anything better?"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from dermonas.audit.budgets import Budget
from dermonas.audit.columns import table_of
from dermonas.audit.correlation import RIVALS, choose, correlations, detectable_difference, recommendation
from dermonas.audit.journal import Journal
from dermonas.audit.networks import Known, listed, sampled
from dermonas.audit.report import write_audit
from dermonas.audit.scoring import COUNTS, Images, Scorer, counted
from dermonas.data.cache import decoded_cache
from dermonas.data.manifest import Manifest, read_manifest
from dermonas.data.views import cached_resolution
from dermonas.errors import DataError, SearchError
from dermonas.space.darts import DartsSpace
from dermonas.tracking.lookup import DIGEST, INPUTS, inputs_digest, supersede
from dermonas.tracking.runs import STAGE, Run, tracked
from pipelines.audit_config import AuditConfig
from pipelines.audit_training import trained_accuracies
from pipelines.command import command
from pipelines.locks import alone
from pipelines.models import device_named
from pipelines.recipe import Recipe, plain, read_config
from pipelines.search_task import prepared, share_of

_log = logging.getLogger(__name__)

_FREE = ("workers", "threads", "out", "data", "known")  # where and how, not what


def run(config: AuditConfig, recipe: Recipe, *, adopt: bool = True) -> str:
    """Audit as a tracked run; return its id."""
    manifest, folder = prepared(config.data, recipe)
    networks = _networks(config)
    if any(budget.kind == "supervised" for budget in config.budgets):
        _check_labels(manifest)
    settled = {key: value for key, value in plain(config).items() if key not in _FREE}
    device = device_named(config.device)
    inputs = inputs_digest("audit", {**settled, "known": str(config.known), "digest": manifest.digest})
    same = {STAGE: "audit", INPUTS: inputs}
    tags = {**same, DIGEST: manifest.digest, "dermonas.synthetic": manifest.synthetic}
    name = f"audit-{config.known.stem.split('.')[0] if config.known else recipe.name}"
    kept = config.out / f"{name}-{manifest.digest[:8]}-s{config.seed}.jsonl"
    with (
        alone(kept.with_name(f".{kept.stem}.lock"), f"audits the same into {config.out}"),
        tracked(f"dermonas/{manifest.dataset}", "audit", name, tags, adopt=adopt) as tracker,
    ):
        supersede(tracker, same)
        tracker.params(
            {key: value for key, value in plain(config).items() if key != "budgets"} | {"recipe": recipe.name}
        )
        tracker.document("config.yaml", yaml.safe_dump(plain(config)))
        tracker.data(manifest, folder, "audit")
        _log.info(
            "%d networks: a difference in tau of %.2f would show in 80 %% of tries",
            len(networks), detectable_difference(len(networks)),
        )  # fmt: skip
        identity = {"data": manifest.digest, "device": device.type, "seed": config.seed}
        with closing(Journal(kept, identity)) as journal:
            records = _scored(config, networks, journal, manifest, folder, device)
        if config.known is None:
            networks = trained_accuracies(networks, recipe, config.out)
        _report(config, networks, records, tracker)
    return tracker.id


def _networks(config: AuditConfig) -> list[Known]:
    if config.known is not None:
        return listed(config.known, config.known_dataset, config.networks, config.seed)
    return sampled(DartsSpace(nodes=config.nodes, encoding=config.encoding), config.networks, config.seed)


def _check_labels(manifest: Manifest) -> None:
    missing = int((manifest.label_indices(manifest.search_frame()) < 0).sum())
    if missing:
        raise DataError(
            f"{missing} search images have no label, which a supervised budget needs: leave that budget out"
        )


def _scored(
    config: AuditConfig,
    networks: Sequence[Known],
    journal: Journal,
    manifest: Manifest,
    folder: Path,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Score what the journal lacks, and return all records of these networks at these budgets.

    A record tells its budget whole, so that a budget whose settings change is scored anew under its name.
    """
    size = next((budget for budget in config.budgets if budget.kind == "untrained"), config.budgets[0])
    wanted = {budget.name: asdict(budget) for budget in config.budgets}
    wanted[COUNTS] = {"channels": size.channels, "layers": size.layers, "resolution": size.resolution}
    known = {
        (record["network"], record["budget"]): record
        for record in journal.records
        if record.get("settings") == wanted.get(record["budget"])
    }
    by_name = {one.name: one for one in networks}
    for one in networks:
        if (one.name, COUNTS) not in known:
            record = {**counted(one, size), "settings": wanted[COUNTS]}
            journal.append(record)
            known[one.name, COUNTS] = record
    # Network by network, so that an audit that is stopped early has whole rows.
    left = [(one, budget) for one in networks for budget in config.budgets if (one.name, budget.name) not in known]
    total = len(networks) * len(config.budgets)
    with tqdm(total=total, initial=total - len(left), desc="scorings", file=sys.stderr) as bar:
        for record in _work(config, left, manifest, folder, device):
            record["settings"] = wanted[record["budget"]]
            journal.append(record)
            known[record["network"], record["budget"]] = record
            bar.update()
    return [record for (name, budget), record in known.items() if name in by_name and budget in wanted]


def _work(
    config: AuditConfig, left: Sequence[tuple[Known, Budget]], manifest: Manifest, folder: Path, device: torch.device
) -> Iterator[dict[str, Any]]:
    """Yield each scoring's record as it is made, here or in processes of their own."""
    threads = share_of(config.threads, config.workers)
    for budget in config.budgets:  # decoded once, before processes share it
        decoded_cache(manifest, folder, _side(budget), "search")
    if config.workers == 1:
        _begin(folder, config.seed, device, threads)
        yield from (_one(network, budget) for network, budget in left)
        return
    context = multiprocessing.get_context("spawn")  # a forked torch may hang
    start = (folder, config.seed, device, threads)
    with ProcessPoolExecutor(config.workers, context, initializer=_begin, initargs=start) as pool:
        jobs = [pool.submit(_one, network, budget) for network, budget in left]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BrokenProcessPool as error:
            raise SearchError("a scoring process died (out of memory?): start again with fewer workers") from error
        finally:
            # Or an interrupt waits for scorings that nobody keeps.
            for child in multiprocessing.active_children():
                child.terminate()
            pool.shutdown(cancel_futures=True)


_STATE: dict[str, Any] = {}
"""Of a scoring process: images and scorers by budget."""


def _begin(folder: Path, seed: int, device: torch.device, threads: int) -> None:
    torch.set_num_threads(threads)
    _STATE.clear()
    _STATE.update(folder=folder, seed=seed, device=device, manifest=read_manifest(folder))


def _one(network: Known, budget: Budget) -> dict[str, Any]:
    key = f"scorer {budget}"
    if key not in _STATE:
        manifest: Manifest = _STATE["manifest"]
        rows = manifest.search_frame()
        labels = manifest.label_indices(rows)
        side = _side(budget)
        images = Images(
            {side: decoded_cache(manifest, _STATE["folder"], side, "search")[:]},
            labels if str(budget.kind) == "supervised" else None,
            rows["group"].to_numpy(dtype=str),
            len(manifest.classes),
        )
        _STATE[key] = Scorer(budget, images, _STATE["seed"], _STATE["device"])
    scorer: Scorer = _STATE[key]
    return scorer.score(network)


def _side(budget: Budget) -> int:
    return cached_resolution(budget.views, budget.resolution)


def _report(config: AuditConfig, networks: Sequence[Known], records: Sequence[dict[str, Any]], tracker: Run) -> None:
    table = table_of(networks, records, config.budgets)
    found = correlations(table, replicates=config.replicates, seed=config.seed)
    choice = choose(table, splits=config.splits, replicates=config.replicates, seed=config.seed)
    with tempfile.TemporaryDirectory() as scratch:
        for path in write_audit(table, found, choice, Path(scratch)):
            tracker.artifact(path)
    tracker.metrics({f"audit/tau/{_metric(name)}": one.kendall.estimate for name, one in found.items()})
    tracker.metrics(
        {
            "audit/chosen/tau": choice.tau.estimate,
            "audit/detectable": choice.detectable,
            **{
                f"audit/chosen_less/{_metric(name)}{bound}": value
                for name in RIVALS
                for bound, value in zip(
                    ("", "/lo", "/hi"),
                    (getattr(choice.differences[name], part) for part in ("estimate", "lo", "hi")),
                    strict=True,
                )
            },
        }
    )
    print(recommendation(table, found), file=sys.stderr)


def _metric(name: str) -> str:
    """Return a name that MLflow takes."""
    return name.replace("@", "_e").replace("'", "")


def main(argv: Sequence[str]) -> None:
    """Read the configuration, audit, and print the run's id."""
    config, recipe = read_config("audit", argv)
    print(f"run {run(config, recipe)}")


if __name__ == "__main__":
    sys.exit(command("audit", main))
