"""A whole small search, ours against the plain version of the same scorings.

    python -m benchmarks.search [--genotypes 20] [--images 2000] [--epochs 2] [--channels 16] [--layers 8]
        [--resolution 32] [--out FILE] [--no-log]

Fixed genotypes of the searched space, each scored from nothing (built, bank filled, trained) by
`ContrastiveObjective.score` and by a loop of `search_step.PlainStep`; everything counts. The two are measured in
turn, genotype by genotype, and what was measured is kept in a JSON lines file: the same command goes on there.
The median difference of the two scores must stay below 1e-4. Rounding grows with steps, in some networks much faster
than in most, so the largest is told and not bounded; the first steps' agreement is search_step's matter.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import OUT, Report, alternate, options, ratio
from benchmarks.search_step import PlainStep
from dermonas.data.views import cached_resolution
from dermonas.events import Silent
from dermonas.objective.contrastive import ContrastiveObjective, ContrastiveSettings
from dermonas.seeding import forked, numpy_generator
from dermonas.space.darts import DartsSpace
from dermonas.space.genotype import Genotype

TOLERANCE = 1e-4


def plain_score(objective: ContrastiveObjective, genotype: Genotype) -> float:
    """Score as one would write it first: the objective's own order, views and weights; everything else plain."""
    settings, views = objective.settings, objective.views
    with forked(settings.seed, "construction"):
        plain = PlainStep(objective, genotype)
    candidate = plain.candidate
    with forked(settings.seed, "training"):
        views.begin_epoch(-1)
        with torch.no_grad():
            for index in objective.batches(epoch=-1):
                candidate.bank.fill(index, candidate.embed(views.original(index).contiguous()))
        total = 0.0
        for epoch in range(settings.epochs):
            views.begin_epoch(epoch)
            candidate.bank.begin_epoch()
            total = 0.0
            for step, index in enumerate(objective.batches(epoch)):
                total += plain(index, step, epoch).item() * len(index)
    return total / len(views)


def main() -> None:
    """Score every genotype both ways, and print the whole search's ratio."""
    parser = options(__doc__)
    for key, default in (("genotypes", 20), ("images", 2000), ("epochs", 2), ("channels", 16), ("layers", 8)):
        parser.add_argument(f"--{key}", type=int, default=default)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--out", type=Path, help="JSON lines file to go on with; benchmarks/out/ by default")
    chosen = parser.parse_args()
    settings = ContrastiveSettings(
        epochs=chosen.epochs, channels=chosen.channels, layers=chosen.layers, resolution=chosen.resolution,
        precision="float32",
    )  # fmt: skip
    told = {key: getattr(chosen, key) for key in ("images", "epochs", "channels", "layers", "resolution")}
    told["threads"] = torch.get_num_threads()
    file = chosen.out or OUT / ("search-" + "-".join(map(str, told.values())) + ".jsonl")
    file.parent.mkdir(parents=True, exist_ok=True)
    side = cached_resolution(settings.views, settings.resolution)
    images = np.random.default_rng(0).integers(0, 256, (chosen.images, side, side, 3), dtype=np.uint8)
    objective = ContrastiveObjective(images, settings, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    space, rng = DartsSpace(nodes=5, encoding="pairs"), numpy_generator(0, "benchmark genotypes")
    genotypes = [space.genotype(space.sample(rng)) for _ in range(chosen.genotypes)]
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for number, genotype in enumerate(genotypes[len(done) :], len(done)):
        scores: dict[str, float] = {}

        def ours(genotype: Genotype = genotype, scores: dict[str, float] = scores) -> None:
            scores["ours"] = objective.score(genotype, Silent()).value

        def plain(genotype: Genotype = genotype, scores: dict[str, float] = scores) -> None:
            scores["plain"] = plain_score(objective, genotype)

        sides = {"ours": ours, "plain": plain} if number % 2 else {"plain": plain, "ours": ours}
        samples = alternate(sides, rounds=1, warmup=0)
        line = {
            name: {"score": scores[name], "seconds": samples[name].wall[0], "cpu": samples[name].cpu[0]}
            for name in ("ours", "plain")
        }
        with file.open("a") as out:
            out.write(json.dumps(line) + "\n")
        done.append(line)
        seconds = ", ".join(f"{name} {side['seconds']:.1f} s" for name, side in line.items())
        print(f"[{number + 1}/{len(genotypes)}] {genotype.digest[:8]} {seconds}", flush=True)
    kinds = {"seconds": "s", "cpu": "CPU s"}
    times = {
        (name, key): tuple(line[name][key] for line in done) for name in ("ours", "plain") for key in kinds
    }  # fmt: skip
    apart = [abs(line["ours"]["score"] - line["plain"]["score"]) for line in done]
    sums = {kind: sum(values) for kind, values in times.items()}
    Report(
        "search",
        {"genotypes": len(done), **told},
        rows={(name, f"{kinds[key]} a genotype"): values for (name, key), values in times.items()},
        ratios={
            f"plain / ours, {unit}, genotype by genotype": ratio(times["plain", key], times["ours", key])
            for key, unit in kinds.items()
        },
        facts={
            **{f"{name}, {kinds[key]} in all": total for (name, key), total in sums.items()},
            **{
                f"plain / ours, {unit}, whole search": sums["plain", key] / sums["ours", key]
                for key, unit in kinds.items()
            },
            "largest score difference": max(apart),
        },
        checks={"median score difference": (float(np.median(apart)), TOLERANCE)},
    ).publish(chosen.log)


if __name__ == "__main__":
    main()
