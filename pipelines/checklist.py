"""The reporting checklist of a search, filled from its run, its study, the other runs, and the machine."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from mlflow.entities import Run as MlflowRun

from dermonas.audit.checklist import Facts, Other, hardware_words
from dermonas.audit.checklist_page import as_content, as_page
from dermonas.events import Observer, TrialEvent
from dermonas.objective.scores import SCORES
from dermonas.search.config import deviations, identity
from dermonas.search.ledger import Ledger
from dermonas.search.loop import SearchResult
from dermonas.search.nao_config import CONTROLLED
from dermonas.search.storage import without_password
from dermonas.tracking.lookup import DIGEST, by_id, runs_with
from dermonas.tracking.runs import STAGE, Run
from dermonas.tracking.store import connected
from pipelines.recipe import plain
from pipelines.search_task import Task

PAGE, CONTENT = "checklist.md", "checklist.json"
HARDWARE = "dermonas.hardware"
"""Tag of a search: what it ran on, in words."""

_PACKAGES = ("dermonas", "torch", "optuna", "mlflow", "numpy", "pillow")
_SAMPLERS_OWN = ("sampler", "tpe", "zero_start")
_NOT_SETTINGS = ("device", "data_digest", "controller")
# Parameters of a run that set a search apart beside its settings; a plain search has none of them.
_APART = ("objective", "share", "of_images")


def write_checklist(
    task: Task,
    tracker: Run,
    observer: Observer,
    ledger: Ledger,
    events: Sequence[TrialEvent],
    result: SearchResult,
    images: int,
    phases: Mapping[str, float],
    training: Mapping[str, Any],
    folder: Path,
) -> None:
    """Write checklist.md and checklist.json as artifacts of the search's run.

    Args:
        task: The search.
        tracker: Its run.
        observer: Told of the files.
        ledger: Of all its trials.
        events: Its trials, in number order.
        result: What it found.
        images: That a candidate was scored on.
        phases: Seconds by phase.
        training: How what was found is to be trained: settings of `train`.
        folder: To write to.
    """
    hardware = hardware_of()
    tracker.tags({HARDWARE: hardware_words(hardware)})
    found = _facts(task, tracker, ledger, events, result, images, phases, training, hardware)
    page, content = folder / PAGE, folder / CONTENT
    page.write_text(as_page(found), encoding="utf-8")
    content.write_text(json.dumps(as_content(found), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in (page, content):
        observer.artifact(path)


def _facts(
    task: Task,
    tracker: Run,
    ledger: Ledger,
    events: Sequence[TrialEvent],
    result: SearchResult,
    images: int,
    phases: Mapping[str, float],
    training: Mapping[str, Any],
    hardware: Mapping[str, str],
) -> Facts:
    config, space, manifest = task.config, task.space, task.manifest
    run = by_id(tracker.id)
    repeats, baselines = _others(task, run)
    seen = int(manifest.frame["search"].sum())
    objective = run.data.params.get("objective", "contrastive")
    if objective == "contrastive":
        objective += f", without labels; {config.score}: {SCORES[config.score]}"
    transductive = ", the official test images (transductive)" if manifest.tags.get("transductive") else ""
    share = run.data.params.get("share")
    of = f"of {seen} search images{transductive}" if share is None else f"training images, a share of {share}"
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return Facts(
        run=tracker.id,
        commit=_git("rev-parse", "HEAD") or "",
        clean=None if changes is None else not changes,
        space=f"{space.name}: DARTS cells of {config.nodes} nodes, encoding {config.encoding}, {config.layers} cells x "
        f"{config.channels} channels at {config.resolution} px",
        size=sum(map(math.log10, space.choices)),
        objective=objective if share is None else f"{objective} (an arm of the robustness study)",
        sampler=f"{config.sampler} ({config.tpe} preset)" if config.sampler == "tpe" else config.sampler,
        seed=config.seed,
        repeats=repeats,
        baselines=baselines,
        data=f"{manifest.dataset}{', synthetic' * manifest.synthetic}, digest {manifest.digest[:16]}; "
        f"{images} {of}, none of validation or test",
        recipe=task.recipe.name,
        settings={**plain(config), "storage": without_password(config.storage)},
        deviations=deviations(config, manifest.dataset),
        training={key: value for key, value in training.items() if key not in ("genotype", "data")},
        counts=result.counts,
        epochs=config.epochs,
        images=images,
        image_epochs=images * ledger.epochs,
        curve=list(
            itertools.accumulate((e.value for e in events if e.state == "complete" and e.value is not None), min)
        ),
        device_seconds=ledger.device_seconds,
        trial_seconds=sum(event.seconds for event in events),
        run_seconds=time.time() - run.info.start_time / 1000,
        phases=phases,
        hardware=hardware,
        versions=versions(),
    )


def _others(task: Task, run: MlflowRun) -> tuple[list[Other], list[Other]]:
    """Return the finished searches that differ in the seed alone, and the random searches of the same settings."""
    config = task.config
    keys = {*identity(config, "", ""), "trials"} - {*_NOT_SETTINGS, "seed"}
    if config.sampler == CONTROLLED:
        keys.add("controller")
    drawn = dataclasses.replace(config, sampler="random", controller="")
    shared = {*identity(drawn, "", ""), "trials"} - {*_NOT_SETTINGS, *_SAMPLERS_OWN, "seed"}
    tags = {STAGE: "search", DIGEST: task.manifest.digest}
    repeats, baselines = [], []
    for other in runs_with(connected(), run.info.experiment_id, tags):
        if other.info.run_id == run.info.run_id or other.info.status != "FINISHED":
            continue
        if _equal(run, other, (*keys, *_APART)) and _seed(other) != config.seed:
            repeats.append(_other(other))
        drawn_at_random = config.sampler != "random" and other.data.params.get("sampler") == "random"
        if drawn_at_random and _equal(run, other, (*shared, *_APART)):
            baselines.append(_other(other))
    return _newest_by_seed(repeats), _newest_by_seed(baselines)


def _equal(one: MlflowRun, other: MlflowRun, keys: Sequence[str]) -> bool:
    return all(one.data.params.get(key) == other.data.params.get(key) for key in keys)


def _seed(run: MlflowRun) -> int:
    return int(run.data.params["seed"])


def _other(run: MlflowRun) -> Other:
    metrics = run.data.metrics
    return Other(
        run=run.info.run_id,
        name=run.info.run_name,
        seed=_seed(run),
        best=metrics["search/best_score"],
        device_seconds=metrics["search/device_seconds"],
        hardware=run.data.tags.get(HARDWARE, ""),
    )


def _newest_by_seed(found: Sequence[Other]) -> list[Other]:
    """Keep of each seed the first, which is the newest: a search that was prolonged or repeated is one search."""
    kept: dict[int, Other] = {}
    for one in found:
        kept.setdefault(one.seed, one)
    return [kept[seed] for seed in sorted(kept)]


def hardware_of() -> dict[str, str]:
    """Return what this process runs on, and the version of torch, which decides its speed."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "CPU": names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine(),
        "cores": str(cores),
        "threads": str(torch.get_num_threads()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": str(torch.__version__),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, the system, and the packages that a search rests on."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            found[name] = "not installed as a package"
    return found


def _git(*words: str) -> str | None:
    """Return what git says of the code that runs; None where it has no answer."""
    ask = ["git", "-C", str(Path(__file__).resolve().parents[1]), *words]
    try:
        return subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
