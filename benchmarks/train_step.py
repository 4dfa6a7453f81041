"""A training step of the ISIC recipe, ours against a plain eager float32 NCHW loop over the same network.

    python -m benchmarks.train_step [--steps 16] [--genotype DermoCSNAS_4] [--resolution 64] [--channels 16]
        [--layers 8] [--batch 32] [--workers 0]

Ours is `dermonas.training.fit` as it is: Lightning's loop, our loaders, channels-last memory. The plain loop is what
one would write first: a DataLoader, torchvision v2 per image, SGD, clipping, both losses, drop path. Both read decoded
images (synthetic phantoms), in two epochs of `--steps` steps on the CPU, the second with drop path.

Steps alternate: each plain step runs where Lightning is about to start its next one, on the batch that ours has just
finished, and is timed apart. It starts from the weights that ours started from, so rounding does not add up: the losses
of every step must agree to 1e-4. The difference of the weights after a step is told without a bound: torch's
channels-last batch norm rounds more coarsely, and a ReLU input that changes sign with it changes gradients by per
cents (docs/results/train-step.md); that both are the same training is tested in float64 (test_benchmark_parity.py).
Each epoch's last step is not timed: validation follows it.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as v2

from benchmarks.measure import Report, options, ratio
from dermonas.data.augmentation import Augment, AugmentSettings, Evaluate, draw
from dermonas.data.cache import decoded_cache
from dermonas.data.config import PrepareConfig
from dermonas.data.phantom import CLASSES
from dermonas.data.prepare import prepare
from dermonas.data.samples import Key, KeyedSampler, Samples
from dermonas.events import Silent
from dermonas.nn.specification import NetworkSpec
from dermonas.seeding import numpy_generator, torch_generator
from dermonas.space import zoo
from dermonas.training.fit import fit
from dermonas.training.hardware import Hardware
from dermonas.training.loaders import TrainData
from dermonas.training.recipes import recipe
from dermonas.training.schedules import drop_path_probability, learning_rate
from dermonas.training.settings import TrainSettings

EPOCHS = 2
TOLERANCE = 1e-4


class PlainImages(Dataset[tuple[Tensor, int]]):
    """Decoded images through torchvision's v2 functions; the choices are drawn as ours, so that the views are equal."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, settings: AugmentSettings, seed: int) -> None:
        self.images, self.labels, self.settings, self.seed = images, labels, settings, seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        settings, image = self.settings, self.images[key.sample]
        choices = draw(settings, len(image), numpy_generator(self.seed, "augment", key.epoch, key.sample))
        left, top, right, bottom = choices.box
        pixels = v2.crop(torch.from_numpy(np.array(image)).permute(2, 0, 1), top, left, bottom - top, right - left)
        pixels = v2.horizontal_flip(pixels) if choices.horizontal else pixels
        pixels = v2.vertical_flip(pixels) if choices.vertical else pixels
        view = v2.normalize(v2.to_dtype(pixels, torch.float32, scale=True), list(settings.mean), list(settings.std))
        if choices.hole is not None:
            left, top, right, bottom = choices.hole
            view[:, top:bottom, left:right] = 0.0
        return view, int(self.labels[key.sample])


class PlainLoop:
    """The loop one would write first, a step at a time."""

    def __init__(self, network: nn.Module, images: PlainImages, settings: TrainSettings, workers: int) -> None:
        self.network, self.settings = network.train(), settings
        self.optimizer = torch.optim.SGD(
            [parameter for parameter in network.parameters() if parameter.requires_grad],
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self.sampler = KeyedSampler(images.labels, settings.seed)
        self.loader = DataLoader(
            images, settings.batch_size, sampler=self.sampler, num_workers=workers, persistent_workers=workers > 0
        )
        self.batches: Iterator[list[Tensor]] = iter(())

    def __call__(self, epoch: int, step: int) -> tuple[float, Tensor]:
        """Take one step; return its loss and labels."""
        settings = self.settings
        if step == 0:
            self.sampler.set_epoch(epoch)
            self.batches = iter(self.loader)
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(settings, epoch)
        images, labels = next(self.batches)
        generator = torch_generator(settings.seed, "drop path", epoch, step)
        self.network.set_drop_path(drop_path_probability(settings, epoch), generator)  # type: ignore[operator]
        loss = two_losses(self.network(images), labels, settings)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        self.optimizer.step()
        return loss.item(), labels


def two_losses(outputs: tuple[Tensor, Tensor], labels: Tensor, settings: TrainSettings) -> Tensor:
    """Return the main loss plus the weighted auxiliary one."""
    return F.cross_entropy(outputs[0], labels) + settings.auxiliary * F.cross_entropy(outputs[1], labels)


class Alternation:
    """Hooks on our network that time its steps from one forward pass to the next, with a plain step in between."""

    def __init__(self, network: nn.Module, plain: PlainLoop, steps: int) -> None:
        self.network, self.plain, self.steps = network, plain, steps
        self.times: dict[str, list[float]] = {"ours": [], "plain": []}
        self.loss_difference = self.weight_difference = 0.0
        self.count = 0
        self.outputs: tuple[Tensor, Tensor] | None = None
        self.start = 0.0
        network.register_forward_pre_hook(self.before)
        network.register_forward_hook(self.after)

    def before(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        """Close our last step, take the plain one beside it, start the clock of our next."""
        if module.training:
            self.compare()
            self.plain.network.load_state_dict(module.state_dict())
            self.start = time.perf_counter()

    def after(self, module: nn.Module, inputs: tuple[Tensor], outputs: tuple[Tensor, Tensor]) -> None:
        """Keep the outputs: the loss follows from them and the plain step's labels."""
        if module.training:
            self.outputs = (outputs[0].detach(), outputs[1].detach())
            self.count += 1

    def compare(self) -> None:
        """Take the plain version of our last step; where another of ours follows at once, keep both times."""
        end = time.perf_counter()
        if self.outputs is None:
            return
        timed = self.count % self.steps > 0
        before = [parameter.detach().clone() for parameter in self.plain.network.parameters()]
        epoch, step = divmod(self.count - 1, self.steps)
        start = time.perf_counter()
        loss, labels = self.plain(epoch, step)
        elapsed = time.perf_counter() - start
        if timed:
            self.times["ours"].append(end - self.start)
            self.times["plain"].append(elapsed)
        ours = two_losses(self.outputs, labels, self.plain.settings).item()
        self.outputs = None
        self.loss_difference = max(self.loss_difference, abs(ours - loss))
        moved = apart = 0.0
        with torch.no_grad():
            for old, theirs, mine in zip(
                before, self.plain.network.parameters(), self.network.parameters(), strict=True
            ):
                moved += float((theirs - old).square().sum())
                apart += float((theirs - mine).square().sum())
        self.weight_difference = max(self.weight_difference, math.sqrt(apart / moved))
        if timed:
            took = f"ours {self.times['ours'][-1]:.3f} s, plain {self.times['plain'][-1]:.3f} s"
            print(f"epoch {epoch} step {step}: loss {ours:.6f}, {took}", flush=True)


def main() -> None:
    """Measure and print images/s, the ratio with its spread, and the largest differences."""
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=16, help="steps an epoch")
    parser.add_argument("--genotype", default="DermoCSNAS_4")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0, help="processes that read images, on either side")
    chosen = parser.parse_args()
    settings = recipe("isic2019-paper").settings
    augment = dataclasses.replace(settings.augment, size=chosen.resolution)
    settings = dataclasses.replace(
        settings, epochs=EPOCHS, batch_size=chosen.batch, precision="float32", augment=augment
    )
    genotype = zoo.load(chosen.genotype).to_dict()
    spec = NetworkSpec(
        "cells", chosen.genotype, len(CLASSES), chosen.resolution, genotype, "imagenet",
        chosen.channels, chosen.layers,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        images, labels = phantoms(Path(folder) / "phantom", chosen.steps * chosen.batch, augment.stored)
        data = TrainData(
            Samples(images, labels, Augment(augment, settings.seed)),
            Samples(images, labels, Evaluate(augment), rows=range(2)),  # a glance: validation is not what is timed
            CLASSES,
        )
        network = spec.build(auxiliary=True)
        plain = PlainLoop(
            spec.build(auxiliary=True),
            PlainImages(images, labels, augment, settings.seed),
            settings,
            chosen.workers,
        )
        alternation = Alternation(network, plain, chosen.steps)
        hardware = Hardware(accelerator="cpu", workers=chosen.workers)
        fit(network, data, settings, Path(folder) / "run", Silent(), hardware=hardware)
        alternation.compare()
    # The first step of each pays for caches and is left out.
    kept = {name: values[1:] or values for name, values in alternation.times.items()}
    keys = ("genotype", "resolution", "channels", "layers", "batch", "workers")
    Report(
        "train_step",
        {key: getattr(chosen, key) for key in keys},
        rows={(name, "images/s"): tuple(chosen.batch / t for t in values) for name, values in kept.items()},
        ratios={"plain / ours, seconds": ratio(kept["plain"], kept["ours"])},
        facts={"largest weight difference after a step, of the step's norm": alternation.weight_difference},
        checks={f"largest loss difference over {alternation.count} steps": (alternation.loss_difference, TOLERANCE)},
    ).publish(chosen.log)


def phantoms(folder: Path, count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` decoded synthetic images, uint8 (count, side, side, 3), and labels, int64 (count,)."""
    config = PrepareConfig(
        out=folder,
        near_duplicates=False,
        workers=0,
        phantom_lesions=max(64, 3 * count // 4),  # 1.65 images each
        phantom_test_images=0,
        phantom_size=min(side, 512),
    )
    manifest = prepare(config, Silent())
    return decoded_cache(manifest, folder, side)[:count], manifest.label_indices()[:count]


if __name__ == "__main__":
    main()
