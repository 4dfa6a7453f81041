"""`mlflow run . -e benchmark`: timm's networks, fine-tuned or from scratch, under the same recipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dermonas.nn.baselines import TABLE_IV, pretrained
from dermonas.nn.specification import NetworkSpec
from dermonas.training.config import BenchmarkConfig, settings_of
from dermonas.training.settings import TrainSettings
from pipelines.command import command
from pipelines.fitting import trained, work_of
from pipelines.jobs import Model, Start, Work
from pipelines.recipe import Recipe, read_config


def run(config: BenchmarkConfig, recipe: Recipe, *, adopt: bool = True) -> list[str]:
    """Train every configured network as a tracked run; return the runs' ids."""
    work = work_of("benchmark", config, recipe)
    names = list(TABLE_IV.values()) if config.models == ["table-iv"] else config.models
    models = [_model(work, config, name) for name in names]
    if len(models) > 1:  # a name or a weight file that does not exist is told now, not after days of training
        for model in models:
            model.start(config.seed, settings_of(config))
    return [trained(work, model, adopt=adopt and len(models) == 1) for model in models]


def _model(work: Work, config: BenchmarkConfig, name: str) -> Model:
    size = settings_of(config).augment.size
    spec = NetworkSpec(kind="timm", name=name, classes=len(work.manifest.classes), resolution=size)

    def start(seed: int, settings: TrainSettings) -> Start:
        if config.weights == "none":
            return Start(spec.build(seed=seed))
        network, origin, mean, std = pretrained(name, spec.classes, weights=config.weights, seed=seed)
        return Start(network, origin, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    return Model(f"{name} (random)" if config.weights == "none" else name, spec, start)


def main(argv: Sequence[str]) -> None:
    """Read the configuration, train, and print each run's id."""
    config, recipe = read_config("benchmark", argv)
    for run_id in run(config, recipe):
        if run_id:
            print(f"run {run_id}")


if __name__ == "__main__":
    sys.exit(command("benchmark", main))
