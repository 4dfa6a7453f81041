"""The settings of `controller-pretrain`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dermonas.controller.language import Fallback
from dermonas.errors import ConfigError
from dermonas.space.modelspec import MAX_VERTICES

if TYPE_CHECKING:
    from dermonas.controller.pretrain import PretrainSettings

DomainName = Literal["nasbench101", "nasbench201", "darts4", "darts5"]

_GRAPHS = 423_624  # of NAS-Bench-101
_PAPER_HIDDEN, _OUR_HIDDEN = 16, 32  # spec/nao.md 3; of 28 or 40 categorical tokens, spec/nao.md 8
_LEAST = {"hidden": 1, "mlp_hidden": 1, "anchors": 1, "seed": 0, "threads": 0}

# The paper's pretraining but for what the metric decides; spec/nao.md 2 to 4.
_PAPER: dict[str, Any] = {
    "domain": "nasbench101", "vertices": MAX_VERTICES, "hidden": _PAPER_HIDDEN, "mlp_hidden": 64, "positives": 7,
    "milestones": [6000], "gamma": 0.2, "fallback": "paper",
}  # fmt: skip

# What the weights do not depend on.
_FREE = ("log_every", "checkpoint_every", "out", "threads", "fresh")


@dataclass(frozen=True)
class ControllerPretrainConfig:
    """What to pretrain a controller on, and how.

    Attributes:
        domain: Whose cells: "nasbench101", "nasbench201", or our space with 4 or 5 nodes, "darts4" or "darts5".
        metric: A metric loss of the paper, "NoMetricLoss" for reconstruction alone.
        weight: lambda_e; null is the metric's own, as are the two that follow.
        batch_size: Cells a batch, positives among them; a multiple of 1 + positives.
        learning_rate: Of SGD.
        positives: Of each anchor.
        iterations: Gradient steps.
        milestones: Iterations after which the rate is multiplied by `gamma`.
        gamma: See `milestones`.
        fallback: What becomes of a positive whose edits fail: "redraw" takes edits that make another network and tries
            other distances; "paper" asks only that the cell is valid, and leaves the anchor itself where all fail.
        seed: Keys weights, anchors, their order and positives.
        hidden: Width of embeddings and states; null is 16 on the tables, 32 on our space.
        mlp_hidden: Width of the predictor's hidden layer.
        anchors: Genotypes that are drawn on our space; the tables' anchors are all that they have.
        vertices: Of the largest graphs of nasbench101, 2 to 7.
        log_every: Iterations between two reports.
        checkpoint_every: Iterations between two checkpoints, a multiple of `log_every`.
        out: Folder for checkpoints and controllers; each pretraining makes its own in it, named by what it depends on.
        fresh: Pretrain anew where a run of the same inputs is finished or half done.
        device: Where to compute.
        threads: CPU threads; 0 is torch's default.
    """

    domain: DomainName = "darts5"
    metric: str = "MarginLoss"
    weight: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    positives: int = 7
    iterations: int = 13_238
    milestones: list[int] = field(default_factory=lambda: [6000])
    gamma: float = 0.2
    fallback: Fallback = "redraw"
    seed: int = 0
    hidden: int | None = None
    mlp_hidden: int = 64
    anchors: int = 400_000
    vertices: int = MAX_VERTICES
    log_every: int = 100
    checkpoint_every: int = 500
    out: Path = Path("outputs/controllers")
    fresh: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        for key, least in _LEAST.items():
            value = getattr(self, key)
            if value is not None and value < least:
                raise ConfigError(f"{key}: {value} is not possible; give {least} or more")
        if not 2 <= self.vertices <= MAX_VERTICES:
            raise ConfigError(f"vertices: {self.vertices} is not possible; give 2 to {MAX_VERTICES}")
        if not 0 <= self.gamma < math.inf:
            raise ConfigError(f"gamma: {self.gamma} is not possible; give 0 or more")
        if any(milestone < 1 for milestone in self.milestones):
            raise ConfigError(f"milestones: {self.milestones} is not possible; give numbers of 1 or more")
        settings = settings_of(self).resolved()
        size, classes = settings.batch_size or 0, 1 + self.positives
        if size < classes or size % classes:
            raise ConfigError(f"batch_size: {size} does not hold whole classes; give a multiple of {classes}")
        if ours(self) and self.anchors < size // classes:
            raise ConfigError(f"anchors: {self.anchors} do not fill a batch; give {size // classes} or more")


# Functions and not methods: jsonargparse makes a subcommand of every public member of a class.


def ours(config: ControllerPretrainConfig) -> bool:
    """Tell whether the domain is our space, whose anchors are drawn."""
    return config.domain.startswith("darts")


def settings_of(config: ControllerPretrainConfig) -> PretrainSettings:
    """Return the pretraining's own settings.

    Raises:
        ConfigError: If a value is impossible.
    """
    from dermonas.controller.pretrain import PretrainSettings  # costs every other entry point half a second

    names = {item.name for item in dataclasses.fields(PretrainSettings)}
    values = {item.name: getattr(config, item.name) for item in dataclasses.fields(config) if item.name in names}
    return PretrainSettings(**{**values, "milestones": tuple(config.milestones)})


def hidden_of(config: ControllerPretrainConfig) -> int:
    """Return the controller's width."""
    if config.hidden is not None:
        return config.hidden
    return _OUR_HIDDEN if ours(config) else _PAPER_HIDDEN


def resolved(config: ControllerPretrainConfig) -> dict[str, Any]:
    """Return every setting that has a meaning on the domain, as plain values, what is null filled in."""
    settings = settings_of(config).resolved()
    own = {key: getattr(settings, key) for key in ("weight", "batch_size", "learning_rate")}
    values = {**dataclasses.asdict(config), **own, "hidden": hidden_of(config), "out": str(config.out)}
    meant = {"anchors": ours(config), "vertices": config.domain == "nasbench101"}
    return {key: value for key, value in values.items() if meant.get(key, True)}


def depends_on(config: ControllerPretrainConfig, device: str) -> dict[str, Any]:
    """Return what the weights depend on.

    Args:
        config: The settings.
        device: "cpu" or "cuda", as "auto" was decided.
    """
    values = {key: value for key, value in resolved(config).items() if key not in _FREE}
    return {**values, "device": device}


def deviations(config: ControllerPretrainConfig, anchors: int) -> dict[str, dict[str, Any]]:
    """Return every setting that differs from the paper's pretraining, as {key: {"paper": ..., "here": ...}}.

    Args:
        config: The settings.
        anchors: How many there are.

    Source: spec/nao.md 2 to 4, 7 and 8; tables.json, nao.table_3.
    """
    from dermonas.controller.losses import recipe

    own = recipe(config.metric)
    batch = own.batch_size // 8  # anchors, each with 7 positives
    paper = {
        **_PAPER,
        "weight": own.weight,
        "batch_size": own.batch_size,
        "learning_rate": own.learning_rate,
        "iterations": 2 * (_GRAPHS // batch),  # two epochs
        "anchors": f"{_GRAPHS} graphs",
    }
    kinds = {"nasbench101": "graphs", "nasbench201": "classes of cells"}
    here = {**resolved(config), "anchors": f"{anchors} {kinds.get(config.domain, 'uniform genotypes')}"}
    found = {key: {"paper": value, "here": here[key]} for key, value in paper.items() if here.get(key, value) != value}
    # What no setting of ours chooses.
    found["anchor_order"] = {"paper": "its code repeats one order in every epoch", "here": "keyed by seed and epoch"}
    if config.metric == "ContrastiveLoss":
        found["neg_margin"] = {"paper": "0 as printed, 1 in its code", "here": 1}
    return found
