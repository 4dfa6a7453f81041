"""Accuracies of drawn networks, by training each as the recipe's `train` section says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dermonas.audit.networks import Known
from dermonas.space.genotype import Genotype
from dermonas.tracking.lookup import by_id, children
from dermonas.training.config import TrainConfig
from pipelines import train
from pipelines.recipe import Recipe, parse

_ACCURACY = "best/validation/balanced_accuracy"


def trained_accuracies(networks: Sequence[Known], recipe: Recipe, folder: Path) -> list[Known]:
    """Return the networks with their balanced validation accuracy, the mean over the recipe's runs.

    Each training is a run of its own; those that are finished are not repeated.

    Args:
        networks: Genotypes of the searched space.
        recipe: Holds the section `train`.
        folder: Where genotypes are written.
    """
    found = []
    for one in networks:
        assert isinstance(one.architecture, Genotype)  # NAS-Bench-201's come with accuracies
        path = folder / "genotypes" / f"{one.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one.architecture.to_json(), encoding="utf-8")
        config: TrainConfig = parse(TrainConfig, recipe.stages["train"], ["--genotype", str(path)], "train")
        run = train.run(config, recipe, adopt=False)
        values = [child.data.metrics[_ACCURACY] for child in children(by_id(run))]
        found.append(replace(one, accuracy=sum(values) / len(values)))
    return found
