"""One network's training as a Lightning module: loss, drop path, mixing, averaging, and validation figures.

Everything random is keyed by (seed, epoch, step), and nothing here reads a test split.
"""

from __future__ import annotations

import lightning.pytorch as lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dermonas.errors import ConfigError, DermonasError
from dermonas.seeding import derive, numpy_generator, torch_generator
from dermonas.training.ema import Ema
from dermonas.training.mixing import mix
from dermonas.training.schedules import drop_path_probability, learning_rate
from dermonas.training.settings import TrainSettings

Batch = tuple[Tensor, Tensor, Tensor]


class TrainingDiverged(DermonasError):
    """The training loss became NaN or infinite."""


class TrainModule(lightning.LightningModule):
    """Trains `network`; with `ema_decay` its average is what is validated and kept.

    Args:
        network: Maps (B, 3, H, W) to logits (B, classes), in training with an auxiliary head to a pair of them.
        settings: The settings.
        classes: Number of classes.
        weights: Loss weight a class, float32 (classes,), mean 1 over the train samples; None for equal ones.

    Raises:
        ConfigError: the settings ask for a drop path or auxiliary loss that the network does not have, or ignore its
            auxiliary head.
    """

    weights: Tensor | None

    def __init__(
        self, network: nn.Module, settings: TrainSettings, classes: int, weights: Tensor | None = None
    ) -> None:
        super().__init__()
        if settings.drop_path and not hasattr(network, "set_drop_path"):
            raise ConfigError(f"drop_path {settings.drop_path} needs a network of cells; use 0 for this one")
        if bool(settings.auxiliary) != (getattr(network, "auxiliary", None) is not None):
            has = "has none" if settings.auxiliary else "has one"
            raise ConfigError(f"auxiliary {settings.auxiliary} does not fit: the network's auxiliary head: it {has}")
        self.network = network
        self.settings = settings
        self.classes = classes
        self.ema = Ema(network, settings.ema_decay) if settings.ema_decay else None
        self.register_buffer("weights", weights, persistent=False)
        self.metrics: dict[str, float] = {}
        # Sums stay on the device until the epoch ends. Not buffers: each process has its own.
        self.seen = 0
        self.train_loss = self.evaluation_loss = torch.zeros(())
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept: the average, or the network itself."""
        return self.network if self.ema is None else self.ema.network

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum over what is trained; dead modules are frozen and stay out."""
        settings = self.settings
        return torch.optim.SGD(
            [parameter for parameter in self.network.parameters() if parameter.requires_grad],
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the epoch's learning rate and the step's drop path.

        At the first step rather than in an epoch hook, which Lightning leaves out in some resumes.
        """
        epoch, settings = self.current_epoch, self.settings
        # Processes draw different masks; with one, the step is the batch's number.
        step = batch_idx * self.trainer.world_size + self.trainer.global_rank
        if batch_idx == 0:
            self.seen = 0
            self.train_loss = torch.zeros((), dtype=torch.float64, device=self.device)
            for optimizer in self.trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(settings, epoch)
            # For networks that draw from torch's global state (dropout of timm models); `fit` forked it.
            torch.manual_seed(derive(settings.seed, "epoch", epoch, self.trainer.global_rank) & 0xFFFF_FFFF)
        if settings.drop_path:
            generator = torch_generator(settings.seed, "drop path", epoch, step)
            self.network.set_drop_path(drop_path_probability(settings, epoch), generator)  # type: ignore[operator]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch: main, plus the weighted auxiliary one."""
        images, labels, _ = batch
        images, targets = images.contiguous(memory_format=torch.channels_last), labels
        settings = self.settings
        if settings.mixup or settings.cutmix:
            step = batch_idx * self.trainer.world_size + self.trainer.global_rank
            generator = numpy_generator(settings.seed, "mix", self.current_epoch, step)
            targets = F.one_hot(labels, self.classes).to(images.dtype)
            images, targets = mix(images, targets, generator, mixup=settings.mixup, cutmix=settings.cutmix)
        outputs = self.network(images)
        if isinstance(outputs, tuple):
            loss = self.loss(outputs[0], targets) + settings.auxiliary * self.loss(outputs[1], targets)
        else:
            loss = self.loss(outputs, targets)
        self.train_loss += loss.detach() * len(images)
        self.seen += len(images)
        return loss

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits (B, classes) with labels (B,) or label shares (B, classes)."""
        each = F.cross_entropy(
            logits.float(), targets, self.weights, reduction="none", label_smoothing=self.settings.label_smoothing
        )
        # Not torch's weighted mean, which divides by the batch's weights and so undoes them for a batch of one class.
        return each.mean()

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        """Take the step into the average."""
        if self.ema is not None:
            self.ema.update(self.network)

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch's figures; give every process the running statistics of the first, which are kept."""
        self.evaluation_loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.confusion = torch.zeros(self.classes, self.classes, dtype=torch.int64, device=self.device)
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count predictions by class; the loss is plain cross-entropy, without smoothing or weights."""
        images, labels, _ = batch
        logits = self.evaluated(images.contiguous(memory_format=torch.channels_last)).float()
        self.evaluation_loss += F.cross_entropy(logits, labels, reduction="sum")
        flat = torch.bincount(labels * self.classes + logits.argmax(dim=1), minlength=self.classes**2)
        self.confusion += flat.view(self.classes, self.classes)

    def on_validation_epoch_end(self) -> None:
        """Turn the counts of all processes into the epoch's figures."""
        reduce = self.trainer.strategy.reduce
        confusion = reduce(self.confusion.clone(), reduce_op="sum").double()
        total, size = confusion.sum(), confusion.sum(dim=1)
        recall = confusion.diagonal()[size > 0] / size[size > 0]  # over the classes present, as scikit-learn's
        self.metrics = {
            "validation/accuracy": float(confusion.diagonal().sum() / total),
            "validation/balanced_accuracy": float(recall.mean()),
            "validation/loss": float(reduce(self.evaluation_loss.clone(), reduce_op="sum") / total),
        }

    def epoch_metrics(self) -> dict[str, float]:
        """Return the ended epoch's figures: train/loss (the optimised one), learning_rate, drop_path, validation/...

        Raises:
            TrainingDiverged: the training loss is not finite.
        """
        reduce, epoch = self.trainer.strategy.reduce, self.current_epoch
        seen = torch.tensor(float(self.seen), device=self.device, dtype=torch.float64)
        loss = reduce(self.train_loss.clone(), reduce_op="sum") / reduce(seen, reduce_op="sum")
        if not torch.isfinite(loss):
            raise TrainingDiverged(f"the training loss is {float(loss)} in epoch {epoch}; lower learning_rate")
        return {
            "train/loss": float(loss),
            "learning_rate": learning_rate(self.settings, epoch),
            "drop_path": drop_path_probability(self.settings, epoch),
            **self.metrics,
        }
