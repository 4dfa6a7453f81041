"""What pruning saves: CPU seconds until a fully trained candidate is as good as an unpruned search's best.

    python -m benchmarks.pruning --data data/phantom --data data/cifar10_5k [--arm tpe:halving:3:3] [--seeds 8]
        [--trials 24] [--epochs 12] [--learning_rate .01] [--images 96] [--stop] [--curves FOLDER] [--no-log]

For each seed an unpruned search of `--trials` candidates sets the budget: the CPU seconds of its scorings. Every
other arm searches with the same seed until that budget is spent. Threshold: the median over seeds of the unpruned
search's final best. Time of an arm and seed: seconds until a score of all epochs reaches the threshold; the whole
budget where none does. Ratio: the arm's mean time over the unpruned search's, with a bootstrap over paired seeds.

Candidates' curves are kept in a JSON lines file (`pruning_curves`): a repeated command goes on where it stopped, and
another arm costs only what no arm before it has trained. The objective's seed is fixed: seeds differ in the proposals
alone. One thread. Takes about an hour for two data sets and one arm.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import torch

from benchmarks.measure import Ratio, Report, options
from benchmarks.pruning_curves import SETTINGS, Arm, Curves, Outcome, search
from dermonas.data.cache import decoded_cache
from dermonas.data.manifest import read_manifest
from dermonas.data.views import cached_resolution
from dermonas.seeding import numpy_generator

_RESAMPLES = 10_000


def images_of(folder: Path, count: int) -> np.ndarray:
    """Return `count` of a prepared data set's search images, drawn with seed 0."""
    side = cached_resolution(SETTINGS.views, SETTINGS.resolution)
    images = decoded_cache(read_manifest(folder), folder, side, "search")
    chosen = numpy_generator(0, "search images").choice(len(images), count, replace=False)
    return np.ascontiguousarray(images[np.sort(chosen)])


def threshold_of(plain: Sequence[Outcome]) -> float:
    """Return the median over seeds of the final best."""
    return statistics.median(run.best for run in plain)


def add(report: Report, name: str, outcomes: Mapping[Arm, Sequence[Outcome]]) -> None:
    """Report a data set: every arm's seconds to the threshold, and their ratio to those of its unpruned search."""
    for arm, runs in outcomes.items():
        side, plain = f"{name}, {arm}", outcomes[arm.plain]
        threshold = threshold_of(plain)
        budgets = np.array([run.seconds for run in plain])
        base = np.minimum([run.reaches(threshold) for run in plain], budgets)
        reached = np.array([run.reaches(threshold) for run in runs])
        times = np.minimum(reached, budgets)
        report.rows[side, "CPU s until as good"] = tuple(times.tolist())
        report.facts[f"{side}, final best, median"] = statistics.median(run.best for run in runs)
        report.facts[f"{side}, unreached of {len(runs)}"] = int(np.isinf(reached).sum())
        report.facts[f"{side}, fully trained"] = statistics.mean(len(run.full) for run in runs)
        if arm == arm.plain:
            report.facts[f"{side}, threshold"] = threshold
            continue
        report.facts[f"{side}, pruned"] = statistics.mean(run.pruned for run in runs)
        report.facts[f"{side} / {arm.plain}, of medians"] = float(np.median(times) / np.median(base))
        report.ratios[f"{side} / {arm.plain}, mean CPU s until as good"] = _ratio(times, base)


def _ratio(times: np.ndarray, base: np.ndarray) -> Ratio:
    """Return the ratio of means, and its 95 % bootstrap interval over paired seeds."""
    draws = np.random.default_rng(0).integers(len(times), size=(_RESAMPLES, len(times)))
    low, high = np.quantile(times[draws].sum(1) / base[draws].sum(1), (0.025, 0.975))
    return Ratio(float(times.sum() / base.sum()), float(low), float(high))


def main() -> None:
    """Run every arm on every data set and report."""
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, action="append", required=True, help="a folder that prepare wrote")
    parser.add_argument("--arm", type=Arm.of, action="append", help="sampler:pruner[:reduction factor:least epochs]")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--trials", type=int, default=24, help="of the unpruned search")
    parser.add_argument("--epochs", type=int, default=SETTINGS.epochs)
    parser.add_argument("--learning_rate", type=float, default=SETTINGS.learning_rate)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--stop", action="store_true", help="end a pruned search that reaches the threshold")
    parser.add_argument("--curves", type=Path, default=Path("outputs/pruning"), help="where curves are kept")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("dermonas").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    arms: list[Arm] = chosen.arm or [Arm.of("tpe:halving:4:2")]
    sets = {folder.name: images_of(folder, chosen.images) for folder in chosen.data}
    settings = replace(SETTINGS, epochs=chosen.epochs, learning_rate=chosen.learning_rate)
    curves = {name: Curves(images, settings, chosen.curves / name) for name, images in sets.items()}
    found: dict[str, dict[Arm, list[Outcome]]] = {name: {} for name in sets}
    for arm in dict.fromkeys([*(one.plain for one in arms), *arms]):
        for seed in range(chosen.seeds):
            for name in sets:
                if arm == arm.plain:
                    outcome = search(arm, seed, curves[name], chosen.trials)
                else:
                    plain = found[name][arm.plain]
                    stop = threshold_of(plain) if chosen.stop else -math.inf
                    outcome = search(arm, seed, curves[name], None, plain[seed].seconds, stop)
                found[name].setdefault(arm, []).append(outcome)
                print(
                    f"{name} seed {seed} {arm}: {outcome.seconds:.1f} CPU s, {len(outcome.full)} full, "
                    f"{outcome.pruned} pruned, best {outcome.best:.4f}",
                    flush=True,
                )
    keys = ("seeds", "trials", "epochs", "learning_rate", "images", "stop")
    report = Report("pruning", {key: getattr(chosen, key) for key in keys})
    for name in sets:
        add(report, name, found[name])
    report.publish(chosen.log)


if __name__ == "__main__":
    main()
