"""The shape annotations of nn and contrastive are true: checked by jaxtyping and beartype in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
import sys
from jaxtyping import install_import_hook
with install_import_hook(["dermonas.nn", "dermonas.contrastive"], "beartype.beartype"):
    import dermonas.nn.auxiliary, dermonas.nn.measure
    from dermonas.contrastive import nce
    from dermonas.contrastive.heads import ProjectionHeads
    from dermonas.contrastive.memory import MemoryBank
    from dermonas.nn.network import Network
    from dermonas.nn.droppath import DropPath
    from dermonas.nn.operations import FactorizedReduce
import torch
from torch import ones, randn
from dermonas.space import zoo

trunk = Network(zoo.load("DermoCSNAS_5"), stem="cifar", channels=4, layers=3)
heads, bank = ProjectionHeads(trunk.features_out, 6), MemoryBank(5, 6)
index = torch.arange(4)
classifier = Network(zoo.load("DermoCSNAS_5"), stem="imagenet", channels=4, layers=3, classes=3, auxiliary=64)
classifier.set_drop_path(0.2, torch.Generator())
"""

RIGHT = """
z = heads(trunk(torch.randn(4, 3, 8, 8)))
combined = heads.combine([z, z])
bank.fill(index, z); bank.begin_epoch(); bank.update(index, combined.detach())
drawn = nce.draw_negatives(5, 3, torch.Generator())
mask = nce.negative_mask(index, drawn)
for kind in ("infonce", "pirl"):
    nce.nce_loss(bank.rows[index], z, bank.rows[drawn], mask, 0.1, kind).mean().backward(retain_graph=True)
logits, auxiliary = classifier(torch.randn(2, 3, 64, 64))
classifier.features(torch.randn(2, 3, 64, 64))
dermonas.nn.measure.measure(classifier, 64)
dermonas.nn.measure.measure(trunk, 8)
print("fine")
"""

WRONG = {
    "greyscale image": "trunk(randn(4, 1, 8, 8))",
    "one image without a batch": "trunk.feature_maps(randn(3, 8, 8))",
    "uint8 image": "trunk(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))",
    "flat features": "FactorizedReduce(4, 4)(randn(4, 4))",
    "drop path of a matrix": "DropPath()(randn(4, 4))",
    "features as maps": "heads(randn(4, trunk.features_out, 1, 1))",
    "float index": "bank.fill(index.float(), randn(4, 6))",
    "other batch in the bank": "bank.update(index, randn(3, 6))",
    "anchor of another batch": "nce.nce_loss(randn(3, 6), randn(4, 6), randn(5, 6), ones(4, 5) > 0)",
    "negatives of another width": "nce.nce_loss(randn(4, 6), randn(4, 6), randn(5, 7), ones(4, 5) > 0)",
    "mask of integers": "nce.nce_loss(randn(4, 6), randn(4, 6), randn(5, 6), ones(4, 5).long())",
    "transposed mask": "nce.nce_loss(randn(4, 6), randn(4, 6), randn(5, 6), ones(5, 4) > 0)",
}


def test_right_shapes_pass_and_wrong_ones_are_refused() -> None:
    """Run the right calls, then every wrong one: one process, since checking is slow to import."""
    lines = [SCRIPT, RIGHT]
    for name, call in WRONG.items():
        lines += [
            "try:",
            f"    {call}",
            "except Exception as error:",
            f"    print({name!r}, type(error).__name__, sep=': ')",
            "else:",
            f"    print({name!r}, 'accepted', sep=': ')",
        ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["fine", *(f"{name}: TypeCheckError" for name in WRONG)]
