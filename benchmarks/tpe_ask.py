"""What a proposal costs: the TPE alone, and ask + tell through SQLite by two ways of storing theta.

    python -m benchmarks.tpe_ask [--trials 500] [--positions 40] [--choices 8] [--repeats 15] [--skip-optuna] [--no-log]

All alternate within one run, so that a busy machine or disk slows all. Takes about two minutes, most of it filling
the two studies.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import optuna

from benchmarks.measure import Report, alternate, options, ratio
from dermonas.search.samplers.base import proposal
from dermonas.search.samplers.history import THETA, distributions
from dermonas.search.samplers.tpe import TPESampler
from dermonas.space.domain import Theta

BOUND = 20.0
"""Milliseconds that a proposal may take at 500 trials; storing it waits for the disk."""


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
    optuna.logging.set_verbosity(optuna.logging.ERROR)
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


def main() -> None:
    """Measure both ways of storing in turn, our proposal alone, and Optuna's."""
    parser = options(__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--positions", type=int, default=40)
    parser.add_argument("--choices", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--skip-optuna", action="store_true", help="leave out Optuna's own TPESampler")
    chosen = parser.parse_args()
    domain = Edges((chosen.choices,) * chosen.positions)
    space = distributions(domain.choices)
    study = filled(domain, chosen.trials, None, as_parameters=False)
    sampler = TPESampler(domain, 0)

    def by_attribute(study: optuna.Study) -> None:
        trial = study.ask()
        trial.set_user_attr(THETA, list(proposal(trial)))
        study.tell(trial, 1.0)

    def by_parameters(study: optuna.Study) -> None:
        trial = study.ask(dict(space))
        study.tell(trial, 1.0)

    with tempfile.TemporaryDirectory() as folder:
        studies = {
            name: filled(domain, chosen.trials, f"sqlite:///{folder}/{name}.db", as_parameters=name == "parameters")
            for name in ("attribute", "parameters")
        }
        for stored in studies.values():
            stored.sampler = TPESampler(domain, 0)
        samples = alternate(
            {
                "reading the whole history, once a process": lambda: TPESampler(domain, 0).records(study),
                "a proposal from the history": lambda: sampler.theta(sampler.records(study), chosen.trials),
                "ask + tell, SQLite, theta as one attribute": lambda: by_attribute(studies["attribute"]),
                "ask + tell, SQLite, theta as parameters": lambda: by_parameters(studies["parameters"]),
            },
            chosen.repeats,
        )
    _, ours, attribute, parameters = (side.wall for side in samples.values())
    report = Report(
        "tpe_ask",
        {"trials": chosen.trials, "positions": chosen.positions, "choices": chosen.choices, "candidates": 20_000},
        rows={(name, "ms"): tuple(1e3 * seconds for seconds in side.wall) for name, side in samples.items()},
        ratios={"as parameters / as one attribute": ratio(parameters, attribute)},
        checks={"a proposal, median ms": (1e3 * statistics.median(ours), BOUND)},
    )
    if not chosen.skip_optuna:
        theirs = filled(domain, chosen.trials, None, as_parameters=True)
        theirs.sampler = optuna.samplers.TPESampler(seed=0, n_ei_candidates=20_000, n_startup_trials=20)
        others = alternate({"optuna": lambda: theirs.ask(dict(space))}, rounds=3)["optuna"].wall
        report.rows["a proposal by optuna's TPESampler", "ms"] = tuple(1e3 * seconds for seconds in others)
        report.facts["optuna / ours, medians"] = statistics.median(others) / statistics.median(ours)
    report.publish(chosen.log)


if __name__ == "__main__":
    main()
