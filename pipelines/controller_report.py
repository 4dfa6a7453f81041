"""`mlflow run . -e controller-report`: the second paper's figures and tables from pretrainings and searches."""

from __future__ import annotations

import json
import logging
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from mlflow.entities import Run as MlflowRun

from dermonas.comparison.controller.known import Known, read_known
from dermonas.comparison.controller.material import Material, Pretraining, Report, ReportSettings, Searched
from dermonas.comparison.controller.report import make
from dermonas.comparison.controller.searches import Search, read_search
from dermonas.comparison.controller.write import write
from dermonas.controller.anchors import TABLES, anchors_of, language_named
from dermonas.controller.language import Language
from dermonas.controller.storage import load_controller
from dermonas.errors import ConfigError, DataError, StorageError
from dermonas.search.nao_config import CONTROLLED
from dermonas.tracking.lookup import INPUTS, by_id, inputs_digest, runs_with, supersede
from dermonas.tracking.runs import STAGE, download, experiment_id, tracked
from dermonas.tracking.store import connected
from pipelines.command import command
from pipelines.controller_pretrain import CONTROLLER, HISTORY, KIND
from pipelines.controller_report_config import ALL, ControllerReportConfig
from pipelines.controller_search import ARM, SEARCHED
from pipelines.recipe import Recipe, plain, read_config

_SAMPLE = 20_000  # genotypes of our space that pairs and anchors are drawn from
_QUERIES = "queries.parquet"
_NAMES = {"nasbench101": "NAS-Bench-101", "nasbench201": "NAS-Bench-201", "darts4": "darts4", "darts5": "darts5"}

_log = logging.getLogger(__name__)


def run(config: ControllerReportConfig, recipe: Recipe, *, adopt: bool = True) -> str:
    """Make the report as a tracked run; return its id.

    Raises:
        ConfigError: A run that is not there, not finished, or of something else.
        DataError: A table or a run's artifact that cannot be read.
    """
    runs = _all(config) if config.runs == [ALL] else _named(config)
    settled = {**plain(config), "runs": [one.info.run_id for one in runs]}
    inputs = inputs_digest("controller-report", {**settled, "out": None})
    experiment = f"dermonas/controller/{config.domain}"
    tags = {KIND: "report", INPUTS: inputs}
    with (
        tempfile.TemporaryDirectory() as place,
        tracked(experiment, "controller", f"report-{config.domain}", tags, adopt=adopt) as tracker,
    ):
        supersede(tracker, {STAGE: "controller", INPUTS: inputs})
        tracker.params({**settled, "recipe": recipe.name})
        tracker.document("config.yaml", yaml.safe_dump(settled))
        report = make(_material(config, runs, Path(place)), _settings(config))
        for path in write(report, Path(place) / "out"):
            tracker.artifact(path)
        if config.out is not None:
            write(report, config.out)
        tracker.metrics({name: value for name, value in report.numbers.items() if math.isfinite(value)})
        _say(report)
    return tracker.id


def _say(report: Report) -> None:
    for heading, reason in report.skipped.items():
        _log.info("not made: %s, %s", heading, reason)
    if report.subject is not None:
        _log.info("Spearman of distance and similarity, %s: %.3f", report.subject.metric, report.subject.rho.estimate)


def _all(config: ControllerReportConfig) -> list[MlflowRun]:
    """Return the newest finished run of each metric and of each arm, pretrainings first, by name."""
    client = connected()
    experiment = experiment_id(client, f"dermonas/controller/{config.domain}")
    kept: dict[tuple[str, str], MlflowRun] = {}
    for kind in ("pretrain", "search"):
        for one in runs_with(client, experiment, {KIND: kind}):
            if one.info.status == "FINISHED" and (kind == "pretrain" or _of_dataset(one, config)):
                kept.setdefault((kind, _name(one)), one)
    return [kept[key] for key in sorted(kept)]


def _named(config: ControllerReportConfig) -> list[MlflowRun]:
    """Return the runs that were asked for, checked."""
    runs = [by_id(name) for name in config.runs]
    arms: dict[str, str] = {}
    for one in runs:
        run_id, tags = one.info.run_id, one.data.tags
        kind = tags.get(KIND)
        if kind not in ("pretrain", "search"):
            what = f"of stage {tags.get(STAGE)}" if kind is None else f"a {kind} of the controller"
            raise ConfigError(f"run {run_id} is {what}: name runs of controller-pretrain or controller-search")
        if one.info.status != "FINISHED":
            raise ConfigError(f"run {run_id} is {one.info.status.lower()}: the same controller-{kind} command ends it")
        domain = one.data.params.get("domain")
        if domain != config.domain:
            raise ConfigError(f"run {run_id} is of {domain}, not of {config.domain}: name others, or give --domain")
        if kind == "search" and not _of_dataset(one, config):
            searched = one.data.params.get("dataset")
            raise ConfigError(f"run {run_id} searched {searched}, not {config.dataset}: name others, or give --dataset")
        if kind == "search" and (other := arms.setdefault(_name(one), run_id)) != run_id:
            raise ConfigError(f"runs {other} and {run_id} are both the arm {_name(one)}: name one of them")
    return runs


def _of_dataset(run: MlflowRun, config: ControllerReportConfig) -> bool:
    return config.domain != "nasbench201" or run.data.params.get("dataset") == config.dataset


def _name(run: MlflowRun) -> str:
    """Return the metric of a pretraining or the arm of a search."""
    if run.data.tags[KIND] == "search":
        return str(run.data.tags.get(ARM) or run.data.params.get("sampler", run.info.run_id))
    return str(run.data.params.get("metric", run.info.run_id))


def _material(config: ControllerReportConfig, runs: Sequence[MlflowRun], scratch: Path) -> Material:
    """Fetch and read everything."""
    language = language_named(config.domain)
    pretrainings: list[Pretraining] = []
    searches: list[Search] = []
    searched: list[Searched] = []
    for one in runs:
        folder = scratch / one.info.run_id
        folder.mkdir()
        if one.data.tags[KIND] == "pretrain":
            pretrainings.append(_pretraining(one, language, folder))
            continue
        searches.append(read_search(download(one.info.run_id, _QUERIES, folder), _name(one), one.info.run_id))
        searched += _searched(one, language, folder)
    known = _known(config)
    place = _NAMES[config.domain] + (f", {config.dataset}" if config.domain in TABLES else "")
    _, cells = anchors_of(config.domain, config.seed, _SAMPLE)
    listed = config.domain in TABLES
    return Material(config.domain, place, language, cells, listed, known, pretrainings, searches, searched)


def _known(config: ControllerReportConfig) -> Known | None:
    if config.table is None:
        return None
    if config.domain == "nasbench101":
        _log.info("joining %s to the 423,624 graphs by hash, a minute or two", config.table)
    return read_known(config.domain, config.table, config.dataset)


def _pretraining(run: MlflowRun, language: Language, folder: Path) -> Pretraining:
    run_id = run.info.run_id
    controller = load_controller(download(run_id, CONTROLLER, folder), language).controller.eval()
    path = download(run_id, HISTORY, folder)
    try:
        reports = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"run {run_id}: {HISTORY} cannot be read ({' '.join(str(error).split())})") from error
    return Pretraining(run_id, _name(run), int(run.data.params.get("seed", 0)), controller, reports)


def _searched(run: MlflowRun, language: Language, folder: Path) -> list[Searched]:
    """Return the controller after a search by nao, if the run holds it."""
    if run.data.params.get("sampler") != CONTROLLED:
        return []
    try:
        path = download(run.info.run_id, SEARCHED, folder)
    except StorageError:
        _log.warning("run %s has no %s: Fig 2 is without it", run.info.run_id, SEARCHED)
        return []
    metric = run.data.params.get("metric") or "none"
    metric = "from scratch" if metric == "none" else metric
    return [Searched(_name(run), metric, load_controller(path, language).controller.eval())]


def _settings(config: ControllerReportConfig) -> ReportSettings:
    return ReportSettings(
        queries=config.queries,
        references=config.references,
        window=config.window,
        pairs=config.pairs,
        performance_pairs=config.performance_pairs,
        random_pairs=config.random_pairs,
        seed=config.seed,
    )


def main(argv: Sequence[str]) -> None:
    """Read the configuration, report, and print the run's id."""
    config, recipe = read_config("controller-report", argv)
    print(f"run {run(config, recipe)}")


if __name__ == "__main__":
    sys.exit(command("controller", main))
