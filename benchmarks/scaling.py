"""How cost grows: seconds against images, channels, resolution, cells, nodes and trials, as fitted exponents.

    python -m benchmarks.scaling [--rounds 3] [--no-log]

One quantity is swept while the others stay at a small candidate's (batch 64, C = 8, 32 x 32, 5 cells, 4 nodes). Seconds
of this process's cores, median of the rounds; the exponent is the slope of log seconds over log quantity.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks.measure import Report, alternate, options
from benchmarks.tpe_ask import Edges, filled
from dermonas.data.views import cached_resolution
from dermonas.events import Silent
from dermonas.objective.contrastive import ContrastiveObjective, ContrastiveSettings
from dermonas.search.samplers.tpe import TPESampler
from dermonas.seeding import numpy_generator
from dermonas.space.darts import DartsSpace

BASE = {"images": 128, "batch_size": 64, "channels": 8, "resolution": 32, "layers": 5, "nodes": 4}
SWEEPS: dict[str, tuple[int, ...]] = {
    "images": (128, 256, 512),
    "channels": (8, 16, 32),
    "resolution": (16, 32, 64),
    "layers": (5, 10, 20),
    "nodes": (4, 5),
}
TRIALS = (125, 250, 500, 1000)
TIMES_ASKED = 20  # proposals a measurement, which take milliseconds


def scoring(values: dict[str, int]) -> Callable[[], object]:
    """Return the scoring of one random genotype, one epoch."""
    settings = ContrastiveSettings(
        epochs=1, batch_size=values["batch_size"], channels=values["channels"], resolution=values["resolution"],
        layers=values["layers"], precision="float32",
    )  # fmt: skip
    side = cached_resolution(settings.views, settings.resolution)
    images = np.random.default_rng(0).integers(0, 256, (values["images"], side, side, 3), dtype=np.uint8)
    objective = ContrastiveObjective(images, settings, torch.device("cpu"))
    space = DartsSpace(nodes=values["nodes"], encoding="pairs")
    genotype = space.genotype(space.sample(numpy_generator(0, "scaling")))
    return lambda: objective.score(genotype, Silent())


def asking(trials: int) -> Callable[[], object]:
    """Return proposals from a history of `trials`."""
    domain = Edges((8,) * 40)
    study = filled(domain, trials, None, as_parameters=False)
    sampler = TPESampler(domain, 0)
    return lambda: [sampler.theta(sampler.records(study), trials) for _ in range(TIMES_ASKED)]


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the slope of log seconds over log size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def main() -> None:
    """Sweep each quantity and print seconds and exponents."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    report = Report("scaling", {**BASE, "threads": torch.get_num_threads()})
    sweeps = {key: {size: scoring({**BASE, key: size}) for size in sizes} for key, sizes in SWEEPS.items()}
    sweeps["trials"] = {size: asking(size) for size in TRIALS}
    for key, sides in sweeps.items():
        samples = alternate({str(size): call for size, call in sides.items()}, chosen.rounds)
        for size in sides:
            report.rows[f"{key} {size}", "CPU s"] = samples[str(size)].cpu
        medians = [statistics.median(samples[str(size)].cpu) for size in sides]
        report.facts[f"exponent of {key}"] = exponent(list(sides), medians)
    report.publish(chosen.log)


if __name__ == "__main__":
    main()
