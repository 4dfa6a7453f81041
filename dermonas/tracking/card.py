"""The card of a registered model: what it was trained on, how well it does, and what it must not be used for.

The measured half is written here; the other half, what a person decides, stands in models/cards, a file a family.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dermonas.data.manifest import SPLITS, Manifest
from dermonas.errors import ConfigError
from dermonas.training.record import ModelRecord

# The cards belong to the repository, not to the installed package.
FOLDER = Path(__file__).resolve().parents[2] / "models" / "cards"

SYNTHETIC = (
    "> **Synthetic.** Trained and tested on generated phantom images: nothing here says anything about patients."
)
DEVICE = "> Research software, not a medical device."


@dataclass(frozen=True)
class Facts:
    """What a card is written from.

    Attributes:
        registered: Name of the registered model.
        record: The trained model.
        manifest: The data that it was trained on.
        metrics: Figures by their MLflow names: test/NAME with test/NAME/lo and /hi, and model/....
        temperature: Divides the logits.
        abstention: When it abstains, in words.
        recipe: Training parameters by name.
        subgroups: A table of figures by subgroup, a header first; empty where there is none.
        run: MLflow run id of the training.
    """

    registered: str
    record: ModelRecord
    manifest: Manifest
    metrics: Mapping[str, float]
    temperature: float
    abstention: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    subgroups: Sequence[Sequence[str]] = ()
    run: str = ""


def card(facts: Facts) -> str:
    """Return the card as Markdown.

    Raises:
        ConfigError: models/cards has no file for this family.
    """
    record, manifest = facts.record, facts.manifest
    parts = [f"# {facts.registered}: {record.name}", DEVICE]
    if record.synthetic or manifest.synthetic:
        parts.append(SYNTHETIC)
    parts += ["## Data", _data(facts), "## Figures on the test split", *_figures(facts)]
    if facts.subgroups:
        head, *rows = facts.subgroups
        parts += ["## By subgroup", _table(head, rows)]
    parts += ["## Training", _training(facts), _family(manifest.source)]
    return "\n\n".join(parts) + "\n"


def split_sizes(manifest: Manifest) -> dict[str, tuple[int, int]]:
    """Return images and lesions (groups) of each split that has any."""
    found = {}
    for name in SPLITS:
        rows = manifest.split_frame(name)
        if len(rows):
            found[name] = (len(rows), int(rows["group"].nunique()))
    return found


def _data(facts: Facts) -> str:
    manifest = facts.manifest
    sizes = [[name, f"{images:,}", f"{groups:,}"] for name, (images, groups) in split_sizes(manifest).items()]
    counts = manifest.split_frame("train")["label"].value_counts()
    classes = ", ".join(f"{name} ({int(counts.get(name, 0)):,} train images)" for name in facts.record.classes)
    lines = [f"- Data set {manifest.dataset}, manifest digest `{manifest.digest}`", f"- Classes: {classes}"]
    if manifest.tags.get("ungrouped"):
        lines.append(
            "- **Ungrouped split, as in the paper: images of one lesion stand on both sides, figures are too high**"
        )
    if manifest.tags.get("transductive"):
        lines.append(
            "- Transductive: the architecture search saw the official test images, without labels, as the paper's"
        )
    if facts.record.label_fraction < 1:
        lines.append(f"- Trained with {facts.record.label_fraction:.0%} of the train labels")
    return "\n".join(lines) + "\n\n" + _table(["Split", "Images", "Lesions (groups)"], sizes)


def _figures(facts: Facts) -> list[str]:
    metrics = {key.removeprefix("test/"): value for key, value in facts.metrics.items() if key.startswith("test/")}
    rows = []
    for name, value in metrics.items():
        if name.endswith(("/lo", "/hi", "/sd")):
            continue
        low, high = metrics.get(f"{name}/lo", math.nan), metrics.get(f"{name}/hi", math.nan)
        bounds = f"{low:.3f} to {high:.3f}" if math.isfinite(low) and math.isfinite(high) else "none"
        rows.append([name.replace("_", " "), f"{value:.3f}", bounds])
    if not rows:
        return ["Not measured: the model was not evaluated on test images."]
    return [
        _table(["Figure", "Value", "95 % interval"], rows),
        "Intervals are bootstraps over lesions; they hold for images of this kind, not for other clinics or cameras.",
        f"Calibration: logits are divided by {facts.temperature:.3f} (fitted without test images). {facts.abstention}",
    ]


def _training(facts: Facts) -> str:
    record = facts.record
    start = "random weights" if record.start == "random" else record.start
    lines = [
        f"- Network: {record.name}, {record.network.resolution} px input, from {start}",
        f"- Seed {record.seed}; MLflow run `{facts.run}`" if facts.run else f"- Seed {record.seed}",
    ]
    if record.search_run:
        lines.append(f"- Architecture found by search run `{record.search_run}`")
    cost = [("model/params_m", "M parameters"), ("model/macs_g", "G multiply-adds")]
    known = [f"{facts.metrics[key]:.3g} {unit}" for key, unit in cost if key in facts.metrics]
    if known:
        lines.append(f"- {', '.join(known)}")
    if facts.recipe:
        lines.append(f"- Recipe: {', '.join(f'{key} {value}' for key, value in sorted(facts.recipe.items()))}")
    return "\n".join(lines)


def _family(source: str) -> str:
    path = FOLDER / f"{source}.md"
    try:
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{path}: no card for data of source {source!r} ({error.strerror}); write one") from error


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
