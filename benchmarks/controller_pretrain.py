"""Iterations/s of the controller's pretraining, ours against what one would write first.

    python -m benchmarks.controller_pretrain [--nodes 5] [--iterations 8] [--rounds 5] [--no-log]

MarginLoss, 64 genotypes of our space with 7 positives each a batch. The plain side has the same controller, order and
random numbers; it edits and tokenises genotype by genotype in Python, and takes miner and loss as
pytorch-metric-learning has them. A measurement is `--iterations` gradient steps from the same start, batches included;
reconstruction and metric loss of each iteration must agree to 1e-4.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses, miners

from benchmarks.measure import Report, alternate, options, ratio
from dermonas.controller.anchors import anchors_of
from dermonas.controller.darts import DartsLanguage
from dermonas.controller.edits import ATTEMPTS
from dermonas.controller.language import MAX_EDITS, Thetas, uniforms
from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.pretrain import PretrainSettings, pretrain
from dermonas.seeding import numpy_generator
from dermonas.space.genotype import PRIMITIVES

ANCHORS = 20_000
TOLERANCE = 1e-4
_OPERATIONS = len(PRIMITIVES) - 1  # without none


@dataclass
class PlainLoop:
    """The pretraining as a loop over genotypes in Python.

    Attributes:
        language: Of our space.
        anchors: (anchors, positions).
        settings: With MarginLoss.
        history: (reconstruction, metric) of each iteration of the last call.
    """

    language: DartsLanguage
    anchors: Thetas
    settings: PretrainSettings
    history: list[tuple[float, float]] = field(default_factory=list)

    @cached_property
    def nodes(self) -> list[range]:
        """Positions of each node, normal cell first."""
        bounds = [0, *itertools.accumulate([i + 2 for i in range(self.language.nodes)] * 2)]
        return [range(start, stop) for start, stop in itertools.pairwise(bounds)]

    def __call__(self) -> None:
        """Pretrain from the start."""
        settings, language = self.settings.resolved(), self.language
        assert settings.batch_size is not None
        assert settings.learning_rate is not None
        controller = Controller(ControllerSettings(language.vocabulary, language.length), settings.seed).train()
        miner = miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard")
        margin = losses.MarginLoss(margin=0.2, nu=0, beta=1.2, triplets_per_anchor="all")
        optimizer = torch.optim.SGD(controller.parameters(), lr=settings.learning_rate)
        classes = settings.batch_size // (1 + settings.positives)
        order = numpy_generator(settings.seed, "anchors", 0).permutation(len(self.anchors)).tolist()
        self.history.clear()
        for iteration in range(settings.iterations):
            cells: list[list[int]] = []
            for anchor in order[iteration * classes : (iteration + 1) * classes]:
                theta = self.anchors[anchor].tolist()
                cells.append(theta)
                for numbers in uniforms(language, settings.seed, 0, [anchor], settings.positives)[0]:
                    cells.append(self.positive(theta, numbers.tolist()))
            tokens = torch.stack([torch.tensor([1 + value for value in cell]) for cell in cells])
            labels = torch.tensor([number // (1 + settings.positives) for number in range(len(cells))])
            encoded = controller.encoder(tokens)
            scores = controller.log_probabilities(tokens, encoded)
            reconstruction = F.nll_loss(scores.flatten(0, 1), tokens.flatten())
            metric = margin(encoded.embedding, labels, miner(encoded.embedding, labels))
            optimizer.zero_grad()
            (reconstruction + settings.weight * metric).backward()
            optimizer.step()
            self.history.append((reconstruction.item(), metric.item()))

    def positive(self, theta: list[int], numbers: list[float]) -> list[int]:
        """Return another network 1 to 3 edits away; see `edits.draw_positives`."""
        first, turn = int(numbers[0] * MAX_EDITS), 1 + int(numbers[1] * (MAX_EDITS - 1))
        size = 1 + 3 * len(theta)
        for change, attempt in itertools.product(range(MAX_EDITS), range(ATTEMPTS)):
            start = 2 + (change * ATTEMPTS + attempt) * size
            edited = self.edit(theta, (first + change * turn) % MAX_EDITS + 1, numbers[start : start + size])
            if edited not in (None, theta):
                return edited or theta
        return theta

    def edit(self, theta: list[int], distance: int, numbers: list[float]) -> list[int] | None:
        """Return theta after edits that cost `distance`, or None where a node dies or revives."""
        length = len(theta)
        keys, moves, choices = (numbers[1 + part * length : 1 + (part + 1) * length] for part in range(3))
        live = self.live(theta)
        places = [p for node, alive in zip(self.nodes, live, strict=True) if alive for p in node if theta[p]]
        edited, changes = list(theta), distance
        if distance >= 2 and numbers[0] < 0.5:
            free = [(p, node) for node in self.nodes if len(node) > 2 for p in node if p in places]
            gone, home = min(free, key=lambda found: moves[found[0]])
            come = min((p for p in home if not theta[p]), key=lambda p: moves[p])
            edited[gone], edited[come] = 0, 1 + int(choices[come] * _OPERATIONS)
            places.remove(gone)
            changes -= 2
        for p in sorted(places, key=lambda p: keys[p])[:changes]:
            edited[p] = (theta[p] + int(choices[p] * (_OPERATIONS - 1))) % _OPERATIONS + 1
        return edited if self.live(edited) == live else None

    def live(self, theta: list[int]) -> list[bool]:
        """Say of each node whether it is used: of 5 the first may not be, of 4 all are."""
        found = [True] * len(self.nodes)
        if self.language.nodes == 5:
            for cell in (0, self.language.nodes):
                found[cell] = any(theta[node[2]] for node in self.nodes[cell + 1 : cell + self.language.nodes])
        return found


def main() -> None:
    """Measure both, and compare the losses of every iteration."""
    parser = options(__doc__)
    parser.add_argument("--nodes", type=int, default=5, choices=(4, 5), help="of a cell")
    parser.add_argument("--iterations", type=int, default=8, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    language, anchors = anchors_of(f"darts{chosen.nodes}", seed=0, count=ANCHORS)
    assert isinstance(language, DartsLanguage)
    settings = PretrainSettings(iterations=chosen.iterations, log_every=1)
    plain = PlainLoop(language, anchors, settings)
    history: list[tuple[float, float]] = []

    def ours() -> None:
        history[:] = [
            (report["pretrain/reconstruction"], report["pretrain/metric"])
            for report in pretrain(language, anchors, settings).history
        ]

    samples = alternate({"ours": ours, "plain": plain}, chosen.rounds)
    apart = [abs(a - b) for pair in zip(history, plain.history, strict=True) for a, b in zip(*pair, strict=True)]
    Report(
        "controller_pretrain",
        {"nodes": chosen.nodes, "iterations": chosen.iterations, "threads": torch.get_num_threads()},
        rows={
            (name, "iterations/s"): tuple(chosen.iterations / t for t in side.wall) for name, side in samples.items()
        },
        ratios={"plain / ours, seconds": ratio(samples["plain"].wall, samples["ours"].wall)},
        facts={"last reconstruction loss": history[-1][0], "last metric loss": history[-1][1]},
        checks={f"largest loss difference over {chosen.iterations} iterations": (max(apart), TOLERANCE)},
    ).publish(chosen.log)


if __name__ == "__main__":
    main()
