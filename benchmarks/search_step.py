"""The paper's search step, ours against a plain eager float32 NCHW version of the same step.

    python -m benchmarks.search_step [--steps 10] [--genotype DermoCSNAS_5] [--channels 16] [--device auto]

Step: 150 images, three passes of 32 x 32 (original and two views), 8 cells, C = 16, a bank of 8,238
rows, SGD. Both start from the same weights, order, views and negatives and are measured in turn, step
by step; their losses must agree to 1e-4 over all steps.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dermonas.contrastive.nce import draw_negatives
from dermonas.objective.contrastive import Candidate, ContrastiveObjective, ContrastiveSettings
from dermonas.seeding import torch_generator
from dermonas.space import zoo

BANK = 8238  # ISIC-2019 search set
TOLERANCE = 1e-4


class PlainStep:
    """What one would write first: the same modules, contiguous NCHW, float32, one pass a view, vectorised loss."""

    def __init__(self, objective: ContrastiveObjective, genotype: str) -> None:
        self.objective, self.settings = objective, objective.settings
        self.candidate = Candidate(zoo.load(genotype), self.settings, BANK).to(objective.device).train()
        self.optimizer = objective.optimizer(self.candidate)

    def __call__(self, index: Tensor, step: int) -> Tensor:
        """Take one step on the images `index`; return the loss."""
        settings, candidate, views = self.settings, self.candidate, self.objective.views
        original = views.original(index).contiguous()
        first, second = (view.contiguous() for view in views.pair(index))
        z = candidate.embed(original)
        z_views = candidate.heads.combine([candidate.embed(first), candidate.embed(second)])
        generator = torch_generator(settings.seed, "negatives", 0, step)
        drawn = draw_negatives(BANK, 2 * (settings.batch_size - 1), generator).to(z.device)
        own = index[:, None] == drawn
        own[:, -1] |= ~own.any(dim=1)
        anchor, negatives = candidate.bank.rows[index], candidate.bank.rows[drawn]
        loss = torch.zeros((), device=z.device)
        for query in (z_views, z):
            positive = F.cosine_similarity(anchor, query)[:, None]
            others = (F.normalize(query) @ F.normalize(negatives).T).masked_fill(own, -1e6)
            logits = torch.cat([positive, others], dim=1) / settings.temperature
            loss = loss + 0.5 * F.cross_entropy(logits, torch.zeros(len(index), dtype=torch.long, device=z.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        candidate.bank.update(index, z.detach())
        return loss.detach()


def main() -> None:
    """Measure and print images/s, the ratio with its spread, and the largest difference of the losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--genotype", default="DermoCSNAS_5")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    # float32 on both sides, so that the losses can be compared at 1e-4.
    settings = ContrastiveSettings(channels=options.channels, precision="float32")
    images = np.random.default_rng(0).integers(0, 256, (BANK, 40, 40, 3), dtype=np.uint8)
    objective = ContrastiveObjective(images, settings, device)
    ours = objective.build(zoo.load(options.genotype))
    optimizer = objective.optimizer(ours)
    plain = PlainStep(objective, options.genotype)
    objective.views.begin_epoch(0)
    with torch.no_grad():  # a filled bank, the same for both, without a pass over 8,238 images
        rows = torch.randn(BANK, settings.width, generator=torch_generator(0, "bank")).to(device)
        for bank in (ours.bank, plain.candidate.bank):
            bank.fill(torch.arange(BANK, device=device), rows)
            bank.begin_epoch()
    batches = torch.randperm(BANK, generator=torch_generator(0, "order")).to(device).split(settings.batch_size)

    times: dict[str, list[float]] = {"ours": [], "plain": []}
    worst = 0.0
    for step in range(options.steps):
        index = batches[step]
        losses = {}
        for name in ("ours", "plain") if step % 2 else ("plain", "ours"):
            _wait(device)
            start = time.perf_counter()
            losses[name] = (
                objective.step(ours, optimizer, index, 0, step) if name == "ours" else plain(index, step)
            ).item()
            times[name].append(time.perf_counter() - start)
        worst = max(worst, abs(losses["ours"] - losses["plain"]))
        print(
            f"step {step}: loss {losses['ours']:.6f}, ours {times['ours'][-1]:.2f} s, plain {times['plain'][-1]:.2f} s"
        )
    # The first step of each pays for caches and is left out.
    kept = {name: values[1:] or values for name, values in times.items()}
    ratios = sorted(p / o for p, o in zip(kept["plain"], kept["ours"], strict=True))
    for name, values in kept.items():
        print(f"{name:5} {settings.batch_size / statistics.median(values):8.1f} images/s (median step)")
    low, high = ratios[len(ratios) // 4], ratios[(3 * len(ratios)) // 4]
    print(f"ratio ours / plain {statistics.median(ratios):.2f} [{low:.2f}, {high:.2f}] (median, quartiles of steps)")
    print(f"largest loss difference over {options.steps} steps {worst:.1e} (bound {TOLERANCE:g})")
    if worst > TOLERANCE:
        raise SystemExit(f"losses differ by {worst:.1e}, more than {TOLERANCE:g}")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
