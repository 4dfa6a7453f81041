"""Pretraining by locality: reconstruct cells while near ones are embedded near each other."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dermonas.controller.batches import Batches
from dermonas.controller.language import Fallback, Language, Thetas
from dermonas.controller.losses import NO_METRIC, MetricLoss, recipe
from dermonas.controller.model import START, Controller, ControllerSettings
from dermonas.controller.storage import read, write_atomically
from dermonas.errors import ConfigError, SearchError
from dermonas.events import Observer, Silent

CHECKPOINT = "pretrain.ckpt"
"""What a resume needs, in the run's folder."""

STAGE = "controller"
"""The stage that the observer is told of."""

_FIGURES = ("reconstruction", "metric", "token_accuracy", "masked_accuracy")
_MAY_CHANGE = ("iterations", "checkpoint_every")


@dataclass(frozen=True)
class PretrainSettings:
    """How to pretrain.

    Attributes:
        metric: A name of `losses.METRICS`, "NoMetricLoss" for reconstruction alone.
        weight: lambda_e; None takes the metric's own.
        batch_size: Cells a batch, positives among them; None takes the metric's own.
        learning_rate: Of SGD without momentum or decay; None takes the metric's own.
        positives: Of each anchor.
        iterations: Gradient steps. The default is the paper's two epochs of 423,624 anchors at batch 512.
        milestones: Iterations after which the rate is multiplied by `gamma`.
        gamma: See `milestones`.
        fallback: What becomes of a positive whose edits fail; see `Language.positives`.
        seed: Keys weights, order and positives.
        log_every: Iterations between two reports, each the mean over them.
        checkpoint_every: Iterations between two checkpoints, a multiple of `log_every`.

    Raises:
        ConfigError: If a value is impossible.

    Source: the NAO paper, Table 2 and Eq 2; spec/nao.md 4.
    """

    metric: str = "MarginLoss"
    weight: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    positives: int = 7
    iterations: int = 13_238
    milestones: tuple[int, ...] = (6000,)
    gamma: float = 0.2
    fallback: Fallback = "redraw"
    seed: int = 0
    log_every: int = 100
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        recipe(self.metric)
        for key in ("positives", "iterations", "log_every", "checkpoint_every"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}: {getattr(self, key)} is not possible; give 1 or more")
        for key in ("weight", "learning_rate"):
            value = getattr(self, key)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{key}: {value} is not possible; give 0 or more")
        if self.checkpoint_every % self.log_every:
            raise ConfigError(
                f"checkpoint_every: {self.checkpoint_every} is no multiple of log_every; use one of {self.log_every}"
            )
        if self.metric == NO_METRIC and self.weight:
            raise ConfigError(f"weight: {self.weight} has no effect with {NO_METRIC}; leave it out or choose a metric")

    def resolved(self) -> PretrainSettings:
        """Return the settings with the metric's own values in place of None."""
        own = recipe(self.metric)
        return replace(
            self,
            weight=own.weight if self.weight is None else self.weight,
            batch_size=own.batch_size if self.batch_size is None else self.batch_size,
            learning_rate=own.learning_rate if self.learning_rate is None else self.learning_rate,
        )


class Pretrained(NamedTuple):
    """A pretrained controller.

    Attributes:
        controller: In evaluation mode, on the device of the pretraining.
        history: For each report the iterations done and the metrics told to the observer.
    """

    controller: Controller
    history: list[dict[str, float]]


def pretrain(
    language: Language,
    anchors: Thetas,
    settings: PretrainSettings,
    sizes: ControllerSettings | None = None,
    observer: Observer | None = None,
    folder: Path | None = None,
    device: str = "cpu",
) -> Pretrained:
    """Pretrain a controller, or go on with it where `folder` holds a checkpoint.

    Minimises NLL + lambda_e * metric loss. The predictor gets no gradient. Every `log_every` iterations the observer
    is told, with epoch = iterations done - 1, of pretrain/...: reconstruction (mean NLL of a token, padding counted),
    metric (before its weight; with weight 0 of the last batch alone), token_accuracy (padding counted, as the paper
    does), masked_accuracy (without padding), learning_rate, and unedited (positives so far that are their anchor).
    On the CPU a resumed pretraining ends bit-equal to an uninterrupted one.

    Args:
        language: Of the anchors.
        anchors: (anchors, positions) valid thetas; for our theta canonical ones.
        settings: How.
        sizes: Of the controller; None takes the paper's.
        observer: Told of progress.
        folder: Keeps the checkpoint; None keeps none.
        device: Where to train.

    Raises:
        ConfigError: If the settings do not fit the anchors, or the checkpoint is of another pretraining.
        SearchError: If the loss is no longer finite.
        StorageError: If the checkpoint is damaged or cannot be written.
    """
    settings = settings.resolved()
    observer = observer or Silent()
    sizes = sizes or ControllerSettings(language.vocabulary, language.length)
    assert settings.batch_size is not None
    batches = Batches(language, anchors, settings.batch_size, settings.positives, settings.seed, settings.fallback)
    controller = Controller(sizes, settings.seed)
    identity = _identity(language, anchors, settings, sizes)
    done, history = _resume(folder, controller, identity)
    if done > settings.iterations:
        raise ConfigError(f"{folder} holds {done} iterations, more than {settings.iterations}: choose another folder")
    controller.to(device).train()
    trainer = _Trainer(controller, settings, device)
    observer.started(STAGE, settings.iterations, {**identity, "resumed_at": done})
    unedited = int(history[-1]["pretrain/unedited"]) if history else 0
    while done < settings.iterations:
        count = min(settings.log_every, settings.iterations - done)
        totals: Tensor = torch.zeros(4, dtype=torch.float64)
        for iteration in range(done, done + count):
            batch = batches[iteration]
            last = iteration == done + count - 1
            totals += trainer.step(iteration, batch.tokens.to(device), batch.labels.to(device), last).cpu()
            unedited += batch.unedited
        done += count
        totals /= torch.tensor([count, count if settings.weight else 1, count, count])
        metrics = {f"pretrain/{key}": float(value) for key, value in zip(_FIGURES, totals, strict=True)}
        metrics |= {"pretrain/learning_rate": trainer.rate(done - 1), "pretrain/unedited": float(unedited)}
        if not math.isfinite(metrics["pretrain/reconstruction"] + metrics["pretrain/metric"]):
            raise SearchError(f"the loss is not finite before iteration {done}: lower learning_rate or weight")
        history.append({"iterations": float(done), **metrics})
        observer.epoch(0, done - 1, metrics)
        # A shorter last stretch is not kept: with more iterations the reports fall elsewhere.
        whole = not done % settings.log_every
        if folder is not None and whole and (not done % settings.checkpoint_every or done == settings.iterations):
            _keep(folder, controller, identity, done, history)
    observer.finished(STAGE, {key: value for key, value in history[-1].items() if key != "iterations"})
    return Pretrained(controller.eval(), history)


class _Trainer:
    """One gradient step after the other; SGD without momentum has no state but the weights."""

    def __init__(self, controller: Controller, settings: PretrainSettings, device: str) -> None:
        self.controller, self.settings = controller, settings
        self.metric = MetricLoss(settings.metric).to(device)
        self.optimiser = torch.optim.SGD([*controller.encoder.parameters(), *controller.decoder.parameters()], lr=1.0)

    def rate(self, iteration: int) -> float:
        """Return the learning rate of an iteration."""
        assert self.settings.learning_rate is not None
        passed = sum(iteration >= milestone for milestone in self.settings.milestones)
        return self.settings.learning_rate * self.settings.gamma**passed

    def step(self, iteration: int, tokens: Tensor, labels: Tensor, look: bool) -> Tensor:
        """Step, and return (reconstruction, metric, token accuracy, masked accuracy) before the step, float64.

        A metric loss of weight 0 is taken only to `look`, and is 0 else.
        """
        controller, weight = self.controller, self.settings.weight
        encoded = controller.encoder(tokens)
        scores = controller.log_probabilities(tokens, encoded)
        reconstruction = F.nll_loss(scores.flatten(0, 1), tokens.flatten())
        if weight:
            metric = self.metric(encoded.embedding, labels)
            loss = reconstruction + weight * metric
        else:
            embedding = encoded.embedding.detach()
            loss, metric = reconstruction, self.metric(embedding, labels) if look else embedding.new_zeros(())
        self.optimiser.param_groups[0]["lr"] = self.rate(iteration)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        right, real = scores.detach().argmax(dim=2) == tokens, tokens != START
        values = [reconstruction.detach(), metric.detach(), right.double().mean(), right[real].double().mean()]
        return torch.stack([value.double() for value in values])


def _identity(
    language: Language, anchors: Thetas, settings: PretrainSettings, sizes: ControllerSettings
) -> dict[str, Any]:
    """Return what makes two pretrainings the same, plain values only."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(settings).items()}
    digest = hashlib.sha256(np.ascontiguousarray(anchors, np.int8).tobytes()).hexdigest()[:16]
    return {**plain, **asdict(sizes), "language": language.name, "anchors": digest}


def _resume(
    folder: Path | None, controller: Controller, identity: dict[str, Any]
) -> tuple[int, list[dict[str, float]]]:
    """Load the checkpoint's weights, if there is one, and return the iterations done and the reports so far."""
    if folder is None or not (folder / CHECKPOINT).is_file():
        return 0, []
    stored = read(folder / CHECKPOINT, "delete it to pretrain anew")
    before = stored["identity"]
    differing = [
        f"{key} ({before.get(key)}, now {identity.get(key)})"
        for key in sorted({*before, *identity})
        if key not in _MAY_CHANGE and before.get(key) != identity.get(key)
    ]
    if differing:
        raise ConfigError(f"{folder} holds a pretraining with another {', '.join(differing)}: choose another folder")
    controller.load_state_dict(stored["weights"])
    return stored["iteration"], stored["history"]


def _keep(
    folder: Path, controller: Controller, identity: dict[str, Any], done: int, history: list[dict[str, float]]
) -> None:
    weights = {key: value.cpu() for key, value in controller.state_dict().items()}
    content = {"identity": identity, "iteration": done, "weights": weights, "history": history}
    write_atomically(folder / CHECKPOINT, content)
