"""`mlflow run . -e describe`: what a genotype is and costs, as one JSON object on standard output."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dermonas.nn.measure import measure
from dermonas.nn.network import Network
from dermonas.space import zoo
from dermonas.space.drawing import draw
from dermonas.space.genotype import Genotype
from dermonas.tracking.runs import download
from pipelines.command import command
from pipelines.describe_config import DescribeConfig
from pipelines.recipe import read_config

_RUN_ID = re.compile(r"[0-9a-f]{32}")


def load(name: str) -> Genotype:
    """Load a genotype by zoo name, file, or run id of a search."""
    if _RUN_ID.fullmatch(name):
        with tempfile.TemporaryDirectory() as scratch:
            return zoo.load(download(name, "genotype.json", Path(scratch)))
    return zoo.load(name)


def describe(config: DescribeConfig) -> dict[str, object]:
    """Measure a genotype's network and draw its cells.

    Returns:
        parameters (auxiliary head excluded), dead_parameters, multiply_adds, dead_multiply_adds,
        latency_ms, genotype, digest, network, drawings.
    """
    genotype = load(config.genotype)
    network = Network(
        genotype,
        stem=config.stem,
        channels=config.channels,
        layers=config.layers,
        classes=config.classes or None,
    )
    cost = measure(network, config.resolution, latency=config.latency)
    out = config.out if config.out is not None else Path("outputs") / genotype.digest
    out.mkdir(parents=True, exist_ok=True)
    drawings = draw(genotype, out)
    keys = ("stem", "layers", "channels", "classes", "resolution")
    return {
        **dataclasses.asdict(cost),
        "genotype": genotype.to_dict(),
        "digest": genotype.digest,
        "network": {key: getattr(config, key) for key in keys},
        "drawings": [str(path) for path in drawings],
    }


def main(argv: Sequence[str]) -> None:
    """Read the configuration and print the description."""
    config, _ = read_config("describe", argv)
    print(json.dumps(describe(config)))


if __name__ == "__main__":
    sys.exit(command("describe", main))
