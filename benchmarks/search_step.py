"""The paper's search step, ours against a plain eager float32 NCHW version of the same step.

    python -m benchmarks.search_step [--steps 10] [--genotype DermoCSNAS_5] [--channels 16] [--device auto] [--no-log]

Step: 150 images, three passes of 32 x 32 (original and two views), 8 cells, C = 16, a bank of 8,238
rows, SGD. Both start from the same weights, order, views and negatives and are measured in turn, step
by step; their losses must agree to 1e-4 over all steps.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Report, alternate, options, ratio
from dermonas.contrastive.memory import MemoryBank
from dermonas.contrastive.nce import draw_negatives
from dermonas.objective.contrastive import Candidate, ContrastiveObjective, ContrastiveSettings
from dermonas.seeding import torch_generator
from dermonas.space import zoo
from dermonas.space.genotype import Genotype

BANK = 8238  # ISIC-2019 search set
TOLERANCE = 1e-4


class PlainStep:
    """What one would write first: the same modules, contiguous NCHW, float32, one pass a view, vectorised loss."""

    def __init__(self, objective: ContrastiveObjective, genotype: Genotype) -> None:
        self.objective, self.settings = objective, objective.settings
        self.images = len(objective.views)
        self.candidate = Candidate(genotype, self.settings, self.images).to(objective.device).train()
        self.optimizer = objective.optimizer(self.candidate)

    def __call__(self, index: Tensor, step: int, epoch: int = 0) -> Tensor:
        """Take one step on the images `index`; return the loss."""
        settings, candidate, views = self.settings, self.candidate, self.objective.views
        original = views.original(index).contiguous()
        first, second = (view.contiguous() for view in views.pair(index))
        z = candidate.embed(original)
        z_views = candidate.heads.combine([candidate.embed(first), candidate.embed(second)])
        generator = torch_generator(settings.seed, "negatives", epoch, step)
        drawn = draw_negatives(self.images, 2 * (settings.batch_size - 1), generator).to(z.device)
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


def filled(objective: ContrastiveObjective, *banks: MemoryBank) -> None:
    """Fill banks with the same random rows, without a pass over all images."""
    rows = torch.randn(BANK, objective.settings.width, generator=torch_generator(0, "bank")).to(objective.device)
    for bank in banks:
        bank.fill(torch.arange(BANK, device=objective.device), rows)
        bank.begin_epoch()


def main() -> None:
    """Measure both sides on the same steps, and compare their losses."""
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--genotype", default="DermoCSNAS_5")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    # float32 on both sides, so that the losses can be compared at 1e-4.
    settings = ContrastiveSettings(channels=chosen.channels, precision="float32")
    images = np.random.default_rng(0).integers(0, 256, (BANK, 40, 40, 3), dtype=np.uint8)
    objective = ContrastiveObjective(images, settings, device)
    ours = objective.build(zoo.load(chosen.genotype))
    optimizer = objective.optimizer(ours)
    plain = PlainStep(objective, zoo.load(chosen.genotype))
    objective.views.begin_epoch(0)
    filled(objective, ours.bank, plain.candidate.bank)
    batches = torch.randperm(BANK, generator=torch_generator(0, "order")).to(device).split(settings.batch_size)
    losses: dict[str, list[float]] = {"ours": [], "plain": []}

    def our_step() -> None:
        step = len(losses["ours"])
        losses["ours"].append(objective.step(ours, optimizer, batches[step], 0, step).item())

    def plain_step() -> None:
        step = len(losses["plain"])
        losses["plain"].append(plain(batches[step], step).item())

    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    samples = alternate({"ours": our_step, "plain": plain_step}, chosen.steps - 1, warmup=1, wait=wait)
    for step, pair in enumerate(zip(losses["ours"], losses["plain"], strict=True)):
        print(f"step {step}: loss ours {pair[0]:.6f}, plain {pair[1]:.6f}")
    worst = max(abs(a - b) for a, b in zip(losses["ours"], losses["plain"], strict=True))
    Report(
        "search_step",
        {
            "genotype": chosen.genotype,
            "channels": chosen.channels,
            "images": settings.batch_size,
            "device": device.type,
        },
        rows={(name, "images/s"): tuple(settings.batch_size / t for t in side.wall) for name, side in samples.items()},
        ratios={"plain / ours, seconds": ratio(samples["plain"].wall, samples["ours"].wall)},
        checks={f"largest loss difference over {chosen.steps} steps": (worst, TOLERANCE)},
    ).publish(chosen.log)


if __name__ == "__main__":
    main()
