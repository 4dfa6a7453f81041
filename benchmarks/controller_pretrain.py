"""Pretrain a controller for one metric loss and print its accuracy by iteration; go on where it was stopped.

    python -m benchmarks.controller_pretrain [--space nasbench101] [--metric MarginLoss] [--iterations 13238]
        [--hidden 16] [--seed 0] [--every 500] [--threads 1] [--device cpu] [--folder FOLDER]

Anchors are every graph of NAS-Bench-101, the 6,466 classes of NAS-Bench-201, or 400,000 uniform genotypes of our space
(darts4, darts5). With a folder a checkpoint is kept there, and in the end the controller as `controller.pt`. Accuracy
and losses are means over the iterations since the line before; iterations/s are wall-clock, positives included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dermonas.controller.anchors import DOMAINS, anchors_of
from dermonas.controller.losses import METRICS, rescaled_weight
from dermonas.controller.model import ControllerSettings
from dermonas.controller.pretrain import PretrainSettings, pretrain
from dermonas.controller.storage import save_controller
from dermonas.events import Silent

GENOTYPES = 400_000  # anchors of our space: about as many as NAS-Bench-101 has


class Lines(Silent):
    """Prints one line a report."""

    def __init__(self) -> None:
        self.done, self.clock = 0, time.perf_counter()

    def started(self, stage: str, total: int | None, info: Mapping[str, Any]) -> None:
        """Print the head of the table."""
        self.done, self.clock = int(info["resumed_at"]), time.perf_counter()
        print(f"{stage}: {info['metric']}, weight {info['weight']}, batch {info['batch_size']}, from {self.done}")
        print("iteration reconstruction    metric accuracy masked  unedited      it/s")

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Print the figures."""
        now = time.perf_counter()
        speed, self.done, self.clock = (epoch + 1 - self.done) / (now - self.clock), epoch + 1, now
        values = {key.removeprefix("pretrain/"): value for key, value in metrics.items()}
        print(
            f"{epoch + 1:9d} {values['reconstruction']:14.4f} {values['metric']:9.4f} {values['token_accuracy']:8.4f} "
            f"{values['masked_accuracy']:6.4f} {values['unedited']:9.0f} {speed:9.1f}",
            flush=True,
        )


def main() -> None:
    """Pretrain and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="nasbench101", choices=DOMAINS)
    parser.add_argument("--metric", default="MarginLoss", choices=tuple(METRICS))
    parser.add_argument("--iterations", type=int, default=13_238)
    parser.add_argument("--batch-size", type=int, help="default: the paper's for the metric")
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=500, help="iterations between lines, and between checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="keeps the checkpoint and the controller")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    language, anchors = anchors_of(options.space, options.seed, GENOTYPES)
    settings = PretrainSettings(
        metric=options.metric,
        iterations=options.iterations,
        batch_size=options.batch_size,
        seed=options.seed,
        log_every=options.every,
        checkpoint_every=options.every,
    )
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    sizes = ControllerSettings(language.vocabulary, language.length, hidden=options.hidden)
    done = pretrain(language, anchors, settings, sizes, Lines(), options.folder, options.device)
    last = done.history[-1]
    if last["pretrain/metric"] > 0:
        weight = rescaled_weight(last["pretrain/reconstruction"], last["pretrain/metric"])
        print(f"weight by the paper's rule, should reconstruction not converge: {weight:.4f}")
    if options.folder is not None:
        info = {"metric": options.metric, "seed": options.seed, **last}
        save_controller(options.folder / "controller.pt", done.controller, language, info)


if __name__ == "__main__":
    main()
