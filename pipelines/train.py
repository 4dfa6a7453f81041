"""`mlflow run . -e train`: a genotype to a network trained from scratch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from dermonas.nn.specification import NetworkSpec
from dermonas.space import zoo
from dermonas.space.genotype import Genotype
from dermonas.tracking.lookup import RUN_ID, by_id, newest
from dermonas.tracking.search import GENOTYPE
from dermonas.training.config import LATEST, TrainConfig, settings_of, size_of
from dermonas.training.settings import TrainSettings
from pipelines.command import command
from pipelines.describe import load
from pipelines.fitting import trained, work_of
from pipelines.jobs import Model, Start, Work
from pipelines.recipe import Recipe, read_config


def run(config: TrainConfig, recipe: Recipe, *, adopt: bool = True, under: str = "") -> str:
    """Train a genotype's network as a tracked run, shown under another one if `under` names it; return its id."""
    work = work_of("train", config, recipe)
    return trained(work, _model(work, config), adopt=adopt, under=under)


def _model(work: Work, config: TrainConfig) -> Model:
    genotype, name, search = _chosen(work, config.genotype)
    stem, layers, channels = size_of(config)
    spec = NetworkSpec(
        kind="cells",
        name=name,
        classes=len(work.manifest.classes),
        resolution=settings_of(config).augment.size,
        genotype=genotype.to_dict(),
        stem=stem,
        channels=channels,
        layers=layers,
    )

    def start(seed: int, settings: TrainSettings) -> Start:
        return Start(spec.build(auxiliary=settings.auxiliary > 0, seed=seed))

    cost = {} if search is None else by_id(search).data.metrics
    kept = {key: value for key, value in cost.items() if key in ("search/device_seconds", "search/best_score")}
    tags = {GENOTYPE: genotype.digest, **({} if search is None else {"dermonas.search_run": search})}
    return Model(name, spec, start, tags, kept, {"genotype.json": genotype.to_json()}, search or "")


def _chosen(work: Work, name: str) -> tuple[Genotype, str, str | None]:
    """Return the genotype, what tables call it, and the search that found it."""
    if name == LATEST:
        name = newest(work.manifest.dataset, ("search",), work.manifest.digest).info.run_id
    genotype = load(name)
    if RUN_ID.fullmatch(name):
        return genotype, f"CSNAS-{genotype.digest[:8]}", name
    return genotype, name if name in zoo.names() else Path(name).stem, None


def main(argv: Sequence[str]) -> None:
    """Read the configuration, train, and print the run's id."""
    config, recipe = read_config("train", argv)
    run_id = run(config, recipe)
    if run_id:
        print(f"run {run_id}")


if __name__ == "__main__":
    sys.exit(command("train", main))
