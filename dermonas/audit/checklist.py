"""The NAS best-practice checklist, filled from a search's run: every practice is answered, or said not to be done.

Source: Lindauer and Hutter, Best Practices for Scientific Research on Neural Architecture Search (JMLR 21, 2020);
the fourteen practices in its order, in our words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Answer = Literal["yes", "in part", "not done", "not known"]

SECTIONS = {
    "Releasing code": range(1, 4),
    "Comparing methods": range(4, 12),
    "Reporting details": range(12, 15),
}
"""Heading -> numbers of its practices."""


@dataclass(frozen=True)
class Item:
    """One practice.

    Attributes:
        number: In the paper's order, from 1.
        practice: What is asked.
        answer: What the run has to say to it.
        facts: From the run, or what is missing; one line.
    """

    number: int
    practice: str
    answer: Answer
    facts: str


@dataclass(frozen=True)
class Other:
    """Another finished search on the same data and settings.

    Attributes:
        run: MLflow run.
        name: The run's name.
        seed: Its seed.
        best: Its best score.
        device_seconds: What it took.
        hardware: What it ran on, in words; "" where its run does not say.
    """

    run: str
    name: str
    seed: int
    best: float
    device_seconds: float
    hardware: str = ""


@dataclass(frozen=True)
class Facts:
    """What is known of a search when it ends.

    Attributes:
        run: MLflow run.
        commit: Of the code; "" where there is no git.
        clean: Whether the code was as committed; None where that is not known.
        space: What was searched, in words.
        size: Genotypes as written, log10.
        objective: What scored a candidate, in words.
        sampler: The sampler, with its preset.
        seed: Of the search.
        repeats: Other finished searches that differ in the seed alone.
        baselines: Finished random searches of the same data, settings and trials.
        data: The data set, its digest, and what of it was seen, in words.
        recipe: The recipe's name.
        settings: The whole resolved configuration.
        deviations: Setting -> {"paper", "here"}.
        training: The recipe's settings of `train`.
        counts: Trials by kind.
        epochs: A candidate's.
        images: That a candidate was scored on.
        image_epochs: Images x epochs paid for.
        curve: Best score after each distinct genotype, in order.
        device_seconds: Of all trials.
        trial_seconds: Wall time of all trials, over all resumptions.
        run_seconds: Wall time of the process that ends the search.
        phases: Its seconds by phase.
        hardware: CPU, cores, memory, card.
        versions: Package -> version.
    """

    run: str
    commit: str
    clean: bool | None
    space: str
    size: float
    objective: str
    sampler: str
    seed: int
    repeats: Sequence[Other]
    baselines: Sequence[Other]
    data: str
    recipe: str
    settings: Mapping[str, Any]
    deviations: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Any]
    counts: Mapping[str, int]
    epochs: int
    images: int
    image_epochs: int
    curve: Sequence[float]
    device_seconds: float
    trial_seconds: float
    run_seconds: float
    phases: Mapping[str, float]
    hardware: Mapping[str, str]
    versions: Mapping[str, str]

    @property
    def random(self) -> bool:
        """Whether the search is the random one."""
        return self.sampler.split()[0] == "random"

    @property
    def best(self) -> float:
        """The best score."""
        return self.curve[-1] if self.curve else math.nan


def hardware_words(hardware: Mapping[str, str]) -> str:
    """Return hardware in one line, by which two runs' are compared."""
    return ", ".join(f"{key} {value}" for key, value in hardware.items())


def checklist(facts: Facts) -> tuple[Item, ...]:
    """Answer the fourteen practices."""
    return (*_code(facts), *_comparison(facts), *_details(facts))


def _code(facts: Facts) -> list[Item]:
    if not facts.commit:
        answer: Answer = "not known"
        where = "the code is no git checkout, so its commit is not known"
    else:
        answer = "yes" if facts.clean else "in part" if facts.clean is False else "not known"
        state = {
            True: "unchanged",
            False: "WITH uncommitted changes, which are not kept",
            None: "whether unchanged is not known",
        }[facts.clean]
        where = f"dermonas at commit {facts.commit}, {state}"
    public = "whether that commit is public is not known to the run"
    return [
        Item(1, "Release the code of the training pipelines", answer, f"`train` and `evaluate` of {where}; {public}"),
        Item(2, "Release the code of the NAS method", answer, f"`search` with {facts.sampler}, of {where}; {public}"),
        Item(3, "Release it as it was used, not when it is tidy", answer, f"what ran is {where}"),
    ]  # fmt: skip


def _comparison(facts: Facts) -> list[Item]:
    compared = bool(facts.baselines) or facts.random
    alike = [one for one in facts.baselines if one.hardware == hardware_words(facts.hardware)]
    missing = "no method was compared in this run"
    same = f"same data, split and space: {facts.data}; {facts.space}"
    apart = f"{len(alike)} of {len(facts.baselines)} random searches ran on equal hardware and versions"
    draws = "every candidate of a seed sees the same images, order, views and starting weights"
    return [
        Item(4, "Use the same benchmark: data, split, space and training, not the same data alone",
             "yes" if facts.baselines else "not done", same if facts.baselines else f"{missing}; {same}"),
        Item(5, "Run ablation studies", "not done", "none in this run; `robustness` varies labels, images, sampler"),
        Item(6, "Use the same evaluation protocol for all methods", "not done",
             "nothing is trained in this run; `train`, `evaluate`, `compare` give all networks one recipe and split"),
        Item(7, "Compare performance over time", "yes" if compared else "in part", _over_time(facts)),
        _against_random(facts),
        _several_times(facts),
        Item(10, "Use tabular or surrogate benchmarks where possible", "not done",
             "not in this run; `controller-search` runs the same samplers on NAS-Bench-101 and -201"),
        Item(11, "Control confounding factors",
             "yes" if facts.baselines and len(alike) == len(facts.baselines) else "in part",
             f"{draws}; {apart if facts.baselines else 'nothing to compare hardware with'}; whether other work shared "
             "the machine is not known"),
    ]  # fmt: skip


def _over_time(facts: Facts) -> str:
    count = len(facts.curve)
    marks = sorted({max(1, math.ceil(count * part)) for part in (0.25, 0.5, 1.0)}) if count else []
    told = ", ".join(f"{facts.curve[mark - 1]:.4f} after {mark}" for mark in marks)
    return f"best score {told} genotypes; each trial in trials.parquet, drawn in plots/history.html"


def _against_random(facts: Facts) -> Item:
    practice = "Compare with random sampling and random search"
    if facts.random:
        return Item(8, practice, "yes", "this is the random search")
    if not facts.baselines:
        told = "no finished random search of the same data, settings and trials was found; the same command with"
        return Item(8, practice, "not done", f"{told} --sampler random makes it")
    told = "; ".join(
        f"{one.name} ({one.run[:8]}, seed {one.seed}) best {one.best:.4f}, this {facts.best:.4f}, "
        f"{'better' if facts.best < one.best else 'not better'}" + ("" if one.seed == facts.seed else ", another seed")
        for one in facts.baselines
    )
    return Item(8, practice, "yes", f"lower is better: {told}")


def _several_times(facts: Facts) -> Item:
    seeds = sorted({facts.seed, *(one.seed for one in facts.repeats)})
    practice = "Repeat the search, and give the seeds"
    if len(seeds) == 1:
        return Item(9, practice, "not done", f"seed {facts.seed} alone; no other finished search of these settings")
    bests = [facts.best, *(one.best for one in facts.repeats)]
    told = f"seeds {', '.join(map(str, seeds))}; best scores {min(bests):.4f} to {max(bests):.4f}"
    return Item(9, practice, "yes", told)


def _details(facts: Facts) -> list[Item]:
    changed = ", ".join(
        f"{key} {value['here']} (paper {value['paper']})" for key, value in sorted(facts.deviations.items())
    )
    tuned = (
        f"settings are those of recipe {facts.recipe}; other than the paper's: {changed or 'none'}. Whether they were "
        "tuned, on what and at what cost is not known to the run"
    )
    counts = ", ".join(f"{kind} {count}" for kind, count in facts.counts.items())
    cost = (
        f"search alone: {facts.device_seconds:.1f} device seconds, {facts.trial_seconds:.1f} s in trials over all "
        f"resumptions, {facts.run_seconds:.1f} s in the process that ended it; trials: {counts}. Training what was "
        "found is on its own run (train/seconds); tuning, see 12"
    )
    return [
        Item(12, "Report how hyperparameters were chosen", "not known", tuned),
        Item(13, "Report the time of the whole method, end to end", "in part", cost),
        Item(14, "Report all details of the setup", "yes", "below, and whole in config.yaml and deviations.json"),
    ]
