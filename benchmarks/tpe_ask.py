"""What a proposal costs: the TPE alone, and ask + tell through SQLite by two ways of storing theta.

    python benchmarks/tpe_ask.py [--trials 500] [--positions 40] [--choices 8] [--repeats 15] [--skip-optuna]

Prints milliseconds as median [lower quartile, upper quartile]. The two ways of storing alternate within one run, so
that a busy machine or disk slows both. Takes about two minutes, most of it filling the two studies.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import optuna

from dermonas.search.samplers.base import proposal
from dermonas.search.samplers.history import THETA, distributions
from dermonas.search.samplers.tpe import TPESampler
from dermonas.space.domain import Theta


@dataclass(frozen=True)
class Edges:
    """A domain of independent edges, every theta its own network: the sampler's cost and nothing else."""

    choices: tuple[int, ...]
    name: str = "edges"

    def canonical(self, theta: Theta) -> Theta:
        """Return theta itself."""
        return theta

    def digest(self, theta: Theta) -> str:
        """Return theta as text."""
        return str(theta)

    def sample(self, rng: np.random.Generator) -> Theta:
        """Draw uniformly."""
        return tuple(int(choice) for choice in rng.integers(self.choices))

    def neighbours(self, theta: Theta) -> Iterator[Theta]:
        """Yield nothing; no sampler here walks."""
        return iter(())


def filled(domain: Edges, trials: int, storage: str | None, *, as_parameters: bool) -> optuna.Study:
    """Return a study with random finished trials."""
    study = optuna.create_study(storage=storage, study_name="bench")
    rng = np.random.default_rng(0)
    space = distributions(domain.choices)
    for _ in range(trials):
        theta = domain.sample(rng)
        trial = (
            optuna.trial.create_trial(
                value=float(rng.random()),
                params=dict(zip(space, theta, strict=True)),
                distributions=dict(space),
            )
            if as_parameters
            else optuna.trial.create_trial(value=float(rng.random()), user_attrs={THETA: list(theta)})
        )
        study.add_trial(trial)
    return study


def timed(call: Callable[[], object]) -> float:
    """Return the milliseconds that one call takes."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def show(label: str, times: list[float]) -> None:
    """Print a label with the median and quartiles of some times in milliseconds."""
    low, middle, high = statistics.quantiles(times, n=4)
    print(f"{label:<58} {middle:8.1f} ms  [{low:.1f}, {high:.1f}]  n={len(times)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--positions", type=int, default=40)
    parser.add_argument("--choices", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--skip-optuna", action="store_true", help="leave out Optuna's own TPESampler")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    domain = Edges((options.choices,) * options.positions)
    space = distributions(domain.choices)
    size = f"{options.positions} positions x {options.choices} choices"
    print(f"{options.trials} finished trials, {size}, 20,000 candidates")

    study = filled(domain, options.trials, None, as_parameters=False)
    cold = [timed(lambda: TPESampler(domain, 0).records(study)) for _ in range(options.repeats)]
    sampler = TPESampler(domain, 0)
    number = options.trials
    sampler.records(study)
    warm = [timed(lambda: sampler.theta(sampler.records(study), number)) for _ in range(options.repeats)]
    show("reading the whole history, once a process (memory)", cold)
    show("a proposal from the history (memory)", warm)

    def by_attribute(study: optuna.Study) -> None:
        trial = study.ask()
        trial.set_user_attr(THETA, list(proposal(trial)))
        study.tell(trial, 1.0)

    def by_parameters(study: optuna.Study) -> None:
        trial = study.ask(dict(space))
        study.tell(trial, 1.0)

    with tempfile.TemporaryDirectory() as folder:
        studies = {
            name: filled(domain, options.trials, f"sqlite:///{folder}/{name}.db", as_parameters=name == "parameters")
            for name in ("attribute", "parameters")
        }
        for stored in studies.values():
            stored.sampler = TPESampler(domain, 0)
            stored.sampler.records(stored)
        times: dict[str, list[float]] = {"attribute": [], "parameters": []}
        for _ in range(options.repeats):
            times["attribute"].append(timed(lambda: by_attribute(studies["attribute"])))
            times["parameters"].append(timed(lambda: by_parameters(studies["parameters"])))
        show("ask + tell, SQLite, theta as one user attribute", times["attribute"])
        show(f"ask + tell, SQLite, theta as {options.positions} parameters", times["parameters"])
        ratios = [b / a for a, b in zip(times["attribute"], times["parameters"], strict=True)]
        print(f"parameters / attribute: {statistics.median(ratios):.1f} x")

    if not options.skip_optuna:
        theirs = filled(domain, options.trials, None, as_parameters=True)
        theirs.sampler = optuna.samplers.TPESampler(seed=0, n_ei_candidates=20_000, n_startup_trials=20)
        others = [timed(lambda: theirs.ask(dict(space))) for _ in range(3)]
        show("a proposal by optuna's TPESampler, 20,000 candidates", others)
        print(f"optuna / ours: {statistics.median(others) / statistics.median(warm):.0f} x")


if __name__ == "__main__":
    main()
