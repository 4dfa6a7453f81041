"""What workers cost: four of them against two on this machine, and PostgreSQL against SQLite with one.

    python -m benchmarks.workers [--trials 8] [--epochs 3] [--rounds 2] [--server postgresql+psycopg2://...]
        [--storage-only]

Each search is the real one, on synthetic phantoms, in a folder of its own; the kinds alternate, so that a busy machine
slows all. Throughput is trials an hour from the first trial's beginning to the last one's end, by the study: starting
the processes does not count. Of several workers the last trials do, when some have nothing left to do: give more
`--trials` for a smaller share. A database on `--server` is filled; without one the second part is left out. With the
defaults a trial takes about a minute on one of two cores, the whole about an hour.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import optuna

from benchmarks.measure import Report, options, ratio
from dermonas.search.study import RESULT

_HERE = Path(__file__).resolve().parents[1]


def searched(folder: Path, trials: int, epochs: int, workers: int, storage: str | None = None) -> tuple[float, float]:
    """Run one search in a folder of its own; return trials an hour, and the mean seconds a trial was scored."""
    work = folder / uuid.uuid4().hex
    work.mkdir()
    url, name = storage or f"sqlite:///{work}/studies.db", f"bench-{work.name}"
    words = [
        *("--config", str(_HERE / "pipelines" / "recipes" / "phantom.yaml"), "--data", str(folder / "phantom")),
        *("--workers", str(workers), "--trials", str(trials), "--epochs", str(epochs)),
        *("--sampler", "random", "--pruner", "none", "--storage", url, "--study", name, "--threads", "1"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(_HERE), "MLFLOW_TRACKING_URI": f"sqlite:///{work}/mlflow.db"}
    command = [sys.executable, "-m", "pipelines.search", *words]
    subprocess.run(command, cwd=work, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    done = optuna.load_study(study_name=name, storage=url).get_trials(deepcopy=False)
    begun = min(trial.datetime_start for trial in done if trial.datetime_start)
    ended = max(trial.datetime_complete for trial in done if trial.datetime_complete)
    scored = [trial.user_attrs[RESULT]["seconds"] for trial in done if RESULT in trial.user_attrs]
    return 3600 * len(scored) / (ended - begun).total_seconds(), statistics.mean(scored)


def main() -> None:
    """Measure, and print the ratios."""
    parser = options(__doc__)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--server", help="SQLAlchemy URL of a PostgreSQL database")
    parser.add_argument("--storage-only", action="store_true", help="leave out the first part; needs --server")
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if chosen.storage_only and not chosen.server:
        parser.error("--storage-only needs --server")
    kinds: dict[str, tuple[int, str | None]] = {}
    pairs = []
    if not chosen.storage_only:
        kinds = {"2 workers": (2, None), "4 workers": (4, None)}
        pairs = [("4 workers", "2 workers")]
    if chosen.server:
        kinds |= {"SQLite, 1 worker": (1, None), "PostgreSQL, 1 worker": (1, chosen.server)}
        pairs.append(("PostgreSQL, 1 worker", "SQLite, 1 worker"))
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    lengths: dict[str, list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as scratch:
        searched(Path(scratch), trials=1, epochs=1, workers=1)  # prepares the data
        for turn in range(chosen.rounds):
            for kind in list(kinds)[:: -1 if turn % 2 else 1]:
                workers, storage = kinds[kind]
                rate, length = searched(Path(scratch), chosen.trials, chosen.epochs, workers, storage)
                rates[kind].append(rate)
                lengths[kind].append(length)
                print(f"round {turn}: {kind} {rate:.1f} trials an hour, {length:.1f} s a trial", flush=True)
    Report(
        "workers",
        {"trials": chosen.trials, "epochs": chosen.epochs, "rounds": chosen.rounds},
        rows={
            **{(kind, "trials an hour"): tuple(values) for kind, values in rates.items()},
            **{(kind, "s a trial"): tuple(values) for kind, values in lengths.items()},
        },
        ratios={f"{one} / {other}, trials an hour": ratio(rates[one], rates[other]) for one, other in pairs},
    ).publish(chosen.log)


if __name__ == "__main__":
    main()
