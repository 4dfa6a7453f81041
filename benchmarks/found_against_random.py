"""Is what a search finds better than chance? Networks found and drawn, trained by one recipe, compared seed by seed.

    python -m benchmarks.found_against_random --data data/cifar10_5k [--recipe cifar10] [--seeds 5] [--trials 40]
        [--score train_loss] [--out outputs/found]

For each seed four genotypes: the best of a TPE search, the best of random search by the same score at equal trials,
one drawn at random, and one drawn at random until its computed parameters are within 5 % of the first's. All four are
trained and evaluated alike (balanced accuracy of test; each network reads it once). Every step is an entry point's
own MLflow run, reused when it is there, and each network's result a file of `--out`, reused when its settings are the
same: the same command goes on where it stopped, on another machine too if `--out` is copied to it. TPE's first 20
trials are random ones, so that fewer than 21 would compare random search with itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.measure import Report, options
from dermonas.metrics.seeds import half_width
from dermonas.nn.measure import count_parameters
from dermonas.nn.network import Network
from dermonas.seeding import numpy_generator
from dermonas.space.darts import DartsSpace
from dermonas.space.genotype import Genotype
from dermonas.tracking.lookup import by_id, children
from dermonas.tracking.runs import download

ARMS = ("found by TPE", "found by random search", "random", "random, equal size")
_HERE = Path(__file__).resolve().parents[1]
_SPACE = DartsSpace(nodes=5, encoding="pairs")
_WITHIN = 0.05


def pipeline(entry: str, *words: str) -> str:
    """Run an entry point; return the run id that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(_HERE)}
    command = [sys.executable, "-m", f"pipelines.{entry}", *words]
    done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, check=True)
    return done.stdout.strip().splitlines()[-1].split()[1]


def parameters(genotype: Genotype, channels: int, layers: int) -> int:
    """Count computed parameters at the size of the training, without the classifier."""
    total, dead = count_parameters(Network(genotype, stem="cifar", channels=channels, layers=layers, seed=None))
    return total - dead


def drawn(seed: int, name: str, size: int | None = None, channels: int = 8, layers: int = 8) -> Genotype:
    """Draw a genotype by seed; with a size until its parameters are within 5 % of it."""
    rng = numpy_generator(seed, name)
    while True:
        genotype = _SPACE.genotype(_SPACE.sample(rng))
        if size is None or abs(parameters(genotype, channels, layers) / size - 1) <= _WITHIN:
            return genotype


def main() -> None:
    """Search, draw, train, evaluate, and print paired differences."""
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="cifar10")
    parser.add_argument("--score", default="train_loss")
    parser.add_argument("--out", type=Path, default=Path("outputs/found"))
    defaults = {
        "seeds": 5, "trials": 40, "images": 300, "search_epochs": 4, "resolution": 32, "epochs": 12, "channels": 8,
        "layers": 8, "size": 32, "batch_size": 64,
    }  # fmt: skip
    for key, default in defaults.items():
        parser.add_argument(f"--{key}", type=int, default=default)
    parser.add_argument("--search_learning_rate", default="0.01")
    parser.add_argument("--learning_rate", default="0.05")
    chosen = parser.parse_args()
    (chosen.out / "scratch").mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[float]] = {arm: [] for arm in ARMS}
    sizes: dict[str, list[int]] = {arm: [] for arm in ARMS}
    for seed in range(chosen.seeds):
        genotypes: dict[str, Genotype] = {}
        for arm, sampler in zip(ARMS[:2], ("tpe", "random"), strict=True):
            words = [
                "--data", str(chosen.data), "--sampler", sampler, "--trials", str(chosen.trials), "--seed", str(seed),
                "--images", str(chosen.images), "--epochs", str(chosen.search_epochs), "--score", chosen.score,
                "--learning_rate", chosen.search_learning_rate, "--channels", "8", "--layers", "5",
                "--resolution", str(chosen.resolution), "--batch_size", "40", "--nodes", "5",
                "--pruner", "none", "--threads", "1",
                "--study", f"found-{chosen.data.name}-{sampler}-{chosen.score}-{seed}",
            ]  # fmt: skip
            path = chosen.out / f"{chosen.data.name}-{chosen.score}-{sampler}-s{seed}.json"
            if not path.exists():
                run = pipeline("search", *words)
                path.write_bytes(download(run, "genotype.json", chosen.out / "scratch").read_bytes())
            genotypes[arm] = Genotype.from_json(path.read_text())
        size = parameters(genotypes[ARMS[0]], chosen.channels, chosen.layers)
        genotypes[ARMS[2]] = drawn(seed, "random genotype")
        genotypes[ARMS[3]] = drawn(seed, "equal size", size, chosen.channels, chosen.layers)
        for arm, genotype in genotypes.items():
            path = chosen.out / f"{chosen.data.name}-{arm.replace(' ', '-').replace(',', '')}-s{seed}.json"
            path.write_text(genotype.to_json())
            recipe = ["--config", str(_HERE / "pipelines" / "recipes" / f"{chosen.recipe}.yaml")]
            fit = [
                "--data", str(chosen.data), "--genotype", str(path), "--layers", str(chosen.layers), "--stem", "cifar",
                "--channels", str(chosen.channels), "--epochs", str(chosen.epochs), "--warmup", "1", "--runs", "1",
                "--size", str(chosen.size), "--cutout", str(chosen.size // 4), "--seed", str(seed), "--threads", "1",
                "--batch_size", str(chosen.batch_size), "--learning_rate", chosen.learning_rate,
            ]  # fmt: skip
            kept = path.with_suffix(".result.json")
            wanted = {"genotype": genotype.digest, "recipe": chosen.recipe, "fit": fit[fit.index("--layers") :]}
            result = json.loads(kept.read_text()) if kept.exists() else {}
            if {key: result.get(key) for key in wanted} != wanted:
                trained = pipeline("train", *recipe, *fit)
                evaluated = pipeline(
                    "evaluate", *recipe, "--run", trained, "--data", str(chosen.data), "--threads", "1"
                )
                [one] = children(by_id(evaluated))
                accuracy = one.data.metrics["test/balanced_accuracy"]
                result = {**wanted, "accuracy": accuracy, "trained": trained, "evaluated": evaluated}
                kept.write_text(json.dumps(result))
            rows[arm].append(100 * result["accuracy"])
            sizes[arm].append(parameters(genotype, chosen.channels, chosen.layers))
            print(
                f"seed {seed}: {arm} {rows[arm][-1]:.2f} %, {sizes[arm][-1]:,} parameters, run {result['trained']}",
                flush=True,
            )
    facts: dict[str, float] = {}
    for arm in ARMS[1:]:
        apart = np.subtract(rows[ARMS[0]], rows[arm])
        facts[f"{ARMS[0]} less {arm}, points"] = float(apart.mean())
        facts[f"{ARMS[0]} less {arm}, half width of the 95 % interval"] = float(
            half_width(apart.std(ddof=1), len(apart))
        )
    Report(
        f"found-{chosen.data.name}-{chosen.score}",
        {key: getattr(chosen, key) for key in (*defaults, "recipe", "score", "search_learning_rate", "learning_rate")},
        rows={
            **{(arm, "% balanced test accuracy"): tuple(values) for arm, values in rows.items()},
            **{(arm, "parameters"): tuple(map(float, values)) for arm, values in sizes.items()},
        },
        facts=facts,
    ).publish(chosen.log)


if __name__ == "__main__":
    main()
