"""The reporting checklist as a page and as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dermonas.audit.checklist import SECTIONS, Facts, Item, checklist, hardware_words


def setup(facts: Facts) -> dict[str, str]:
    """Return the setup by what a reader looks for, in words."""
    trials = facts.settings.get("trials", "not known")
    phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in facts.phases.items())
    training = ", ".join(f"{key} {value}" for key, value in facts.training.items())
    return {
        "run": facts.run,
        "search space": f"{facts.space}; 10^{facts.size:.1f} ways to write a genotype",
        "data": facts.data,
        "objective": facts.objective,
        "sampler": facts.sampler,
        "seed": str(facts.seed),
        "budget": f"{trials} distinct genotypes x {facts.images} images x {facts.epochs} epochs; paid for "
        f"{facts.image_epochs} image epochs",
        "trials": ", ".join(f"{kind} {count}" for kind, count in facts.counts.items()),
        "cost": f"{facts.device_seconds:.1f} device seconds; seconds by phase: {phases or 'not known'}",
        "hardware": hardware_words(facts.hardware),
        "versions": ", ".join(f"{name} {version}" for name, version in facts.versions.items()),
        "final training": training or "the recipe has no section train: the defaults of `train`",
        "settings": f"recipe {facts.recipe}, resolved in config.yaml; {len(facts.deviations)} differ from the paper's",
    }


def not_stated(items: Sequence[Item]) -> list[str]:
    """Return what the run leaves open: practices not done, not known, or done in part."""
    return [f"{item.number}. {item.practice}: {item.answer}" for item in items if item.answer != "yes"]


def as_page(facts: Facts) -> str:
    """Return the checklist as Markdown."""
    items = checklist(facts)
    lines = [
        "# Reporting checklist",
        "",
        "Lindauer and Hutter, Best Practices for Scientific Research on Neural Architecture Search (JMLR 21, 2020), "
        "filled from this run when it ended. `yes` says what the run shows, not that it is enough.",
    ]
    for heading, numbers in SECTIONS.items():
        lines += ["", f"## {heading}", "", "| | practice | answer | facts |", "|---|---|---|---|"]
        lines += [
            f"| {item.number} | {item.practice} | {item.answer} | {_cell(item.facts)} |"
            for item in items
            if item.number in numbers
        ]
    lines += ["", "## Setup", "", "| what | |", "|---|---|"]
    lines += [f"| {what} | {_cell(words)} |" for what, words in setup(facts).items()]
    lines += ["", "## Not stated, or not done", "", *(f"- {line}" for line in not_stated(items))]
    return "\n".join(lines) + "\n"


def as_content(facts: Facts) -> dict[str, Any]:
    """Return the checklist as JSON-able values."""
    items = checklist(facts)
    return {"items": [asdict(item) for item in items], "setup": setup(facts), "not_stated": not_stated(items)}


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
