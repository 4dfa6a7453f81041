"""What the paper's search step must cost here: bytes moved and multiply-adds against this machine's limits.

    python -m benchmarks.roofline [--genotype DermoCSNAS_5] [--channels 16] [--batch 150] [--no-log]

Every aten operation of one step (forward, backward, optimizer, bank) is counted as it is dispatched: the bytes of its
tensor inputs and outputs, as if no cache held anything between two operations, and the multiply-adds of convolutions
and matrix products. Views move nothing. Bandwidth and peak are measured (a triad, a matrix product). The larger of
bytes / bandwidth and multiply-adds / peak is the time that a perfect sequence of the same operations would take.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Report, alternate, bandwidth, options, peak
from dermonas.objective.contrastive import ContrastiveObjective, ContrastiveSettings
from dermonas.space import zoo

SHOWN = 12
# Of these the outputs are views of the inputs, or nothing is computed.
_FREE = ("view", "permute", "slice", "expand", "detach", "t.default", "unsqueeze", "select", "as_strided", "alias",
         "empty", "narrow", "split", "squeeze", "_unsafe_view", "_reshape_alias")  # fmt: skip


class Traffic(TorchDispatchMode):
    """Counts bytes read and written, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        name = str(function).removeprefix("aten.")
        if not name.startswith(_FREE):
            moved = [*tensors(args), *tensors(kwargs or {}), *tensors(out)]
            self.bytes[name] += sum(tensor.numel() * tensor.element_size() for tensor in moved)
        return out


def tensors(values: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors(value)


def main() -> None:
    """Count, measure, and print the limits beside the step."""
    parser = options(__doc__)
    parser.add_argument("--genotype", default="DermoCSNAS_5")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    settings = ContrastiveSettings(channels=chosen.channels, batch_size=chosen.batch, precision="float32")
    images = np.random.default_rng(0).integers(0, 256, (4 * chosen.batch, 40, 40, 3), dtype=np.uint8)
    objective = ContrastiveObjective(images, settings, torch.device("cpu"))
    candidate = objective.build(zoo.load(chosen.genotype))
    optimizer = objective.optimizer(candidate)
    objective.fill_bank(candidate)
    objective.views.begin_epoch(0)
    index = torch.arange(chosen.batch)

    def step() -> None:
        objective.step(candidate, optimizer, index, 0, 0)

    samples = alternate({"step": step}, chosen.rounds)["step"]
    with Traffic() as traffic:
        step()
    views = [objective.views.original(index), *objective.views.pair(index)]
    with FlopCounterMode(display=False) as flops:
        for view in views:
            candidate.embed(view)
    # Forward, and as much again for the gradients of inputs and of weights (torch's counter miscounts those of
    # depthwise convolutions); two operations are one multiply-add.
    moved, multiply_adds = sum(traffic.bytes.values()), 3 * flops.get_total_flops() / 2
    speed, top = bandwidth(), peak()
    report = Report(
        "roofline",
        {"genotype": chosen.genotype, "channels": chosen.channels, "batch": chosen.batch},
        rows={("a step", "s"): samples.wall},
        facts={
            "bytes moved, GB": moved / 1e9,
            "multiply-adds, G": multiply_adds / 1e9,
            "multiply-adds a byte": multiply_adds / moved,
            "bandwidth here, GB/s": speed / 1e9,
            "peak here, G multiply-adds/s": top / 1e9,
            "multiply-adds a byte where the limits meet": top / speed,
            "least seconds by memory": moved / speed,
            "least seconds by arithmetic": multiply_adds / top,
        },
    )
    report.facts["share of the limit reached"] = max(moved / speed, multiply_adds / top) / min(samples.wall)
    print(f"bytes by operation, of {moved / 1e9:.1f} GB:")
    for name, count in traffic.bytes.most_common(SHOWN):
        print(f"  {name:<44} {count / 1e9:6.2f} GB {100 * count / moved:5.1f} %")
    report.publish(chosen.log)


if __name__ == "__main__":
    main()
