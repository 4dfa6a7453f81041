"""What a heat map points at: regions, agreement with a known lesion, and faithfulness to the model.

Agreement asks whether people would point there too; the deletion and insertion curves ask whether the model
itself depends on it. A map can do well on one and badly on the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from torch import Tensor

from dermonas.errors import DataError

_BLUR = (5.0, 5, 224)  # sigma and radius in pixels at that image side. Source: RISE's code, gkern(11, 5) at 224 pixels


@dataclass(frozen=True)
class Region:
    """One connected region of a mask.

    Attributes:
        box: (top, left, bottom, right) in pixels; bottom and right are the first row and column outside.
        area: Pixels.
        share: Area as a share of the image, in (0, 1].
        centre: Centre of mass (row, column), in pixels; pixel (0, 0) has its centre at 0, 0.
    """

    box: tuple[int, int, int, int]
    area: int
    share: float
    centre: tuple[float, float]


def regions(mask: ArrayLike) -> list[Region]:
    """Return the regions of a mask, largest first; of equal ones the upper, then the left one first.

    Pixels that touch by a side or a corner belong together.

    Args:
        mask: Boolean (height, width).

    Raises:
        ValueError: `mask` is not (height, width).
    """
    marked = _mask(mask)
    labels, _ = ndimage.label(marked, structure=np.ones((3, 3), dtype=int))
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == number
        row, column = (float(part.mean()) for part in np.nonzero(inside))
        area = int(inside.sum())
        box = (rows.start, columns.start, rows.stop, columns.stop)
        found.append(Region(box, area, area / marked.size, (rows.start + row, columns.start + column)))
    return sorted(found, key=lambda region: (-region.area, region.box))


@dataclass(frozen=True)
class Overlap:
    """How a region of interest lies on a lesion, all in [0, 1].

    Attributes:
        iou: Intersection over union.
        coverage: Share of the lesion that the region covers.
        precision: Share of the region that lies on the lesion; NaN for an empty region.
    """

    iou: float
    coverage: float
    precision: float


def overlap(region: ArrayLike, lesion: ArrayLike) -> Overlap:
    """Compare a region of interest with a lesion mask.

    Args:
        region: Boolean (height, width), see `dermonas.explain.cam.roi`; may be empty.
        lesion: Boolean, same shape.

    Raises:
        ValueError: Shapes that do not fit each other.
        DataError: The lesion mask is empty.
    """
    mine, theirs = _mask(region), _lesion(lesion, np.shape(region))
    both = int((mine & theirs).sum())
    precision = both / int(mine.sum()) if mine.any() else float("nan")
    return Overlap(both / int((mine | theirs).sum()), both / int(theirs.sum()), precision)


def pointing_game(cam: ArrayLike, lesion: ArrayLike, tolerance: float = 0.0) -> bool:
    """Tell whether the map's peak lies on the lesion.

    Of several equal peaks all must: a constant map points nowhere and misses.
    Source: Zhang et al. 2016, Top-down Neural Attention by Excitation Backprop, 4.1 (there with a tolerance
    of 15 pixels at ImageNet sizes).

    Args:
        cam: (height, width).
        lesion: Boolean, same shape.
        tolerance: Pixels that the peak may lie off the lesion.

    Raises:
        ValueError: Shapes that do not fit each other.
        DataError: The lesion mask is empty.
    """
    values = np.asarray(cam)
    reached = ndimage.distance_transform_edt(~_lesion(lesion, values.shape)) <= tolerance
    return bool(np.asarray(reached)[values == values.max()].all())


@dataclass(frozen=True)
class Curve:
    """Probability of a class while an image's pixels go or come, most important first.

    Attributes:
        fractions: Share of pixels removed (deletion) or shown (insertion), rising from 0 to 1.
        probabilities: float64, same length, in [0, 1].
        area: Area under the curve, in [0, 1]; low is good for deletion, high for insertion. Compare maps of
            one model and image only: a model that is unsure from the start has low curves.
    """

    fractions: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    area: float


def curve(
    kind: Literal["deletion", "insertion"],
    model: Callable[[Tensor], Tensor],
    image: Tensor,
    cam: ArrayLike,
    target: int,
    *,
    baseline: Tensor | None = None,
    steps: int = 50,
    batch: int = 32,
) -> Curve:
    """Remove pixels from an image, or add them to its baseline, in the map's order, and watch a class.

    Equal pixels go row by row. The model is called under no_grad in the mode that it is in: use eval mode.
    Source: Petsiuk et al. 2018, RISE, 3.3 and their code; their blur pads with zeros, ours mirrors the edge.

    Args:
        kind: "deletion": from the image to the baseline; "insertion": from the baseline to the image.
        model: Gives logits (batch, classes) for images (batch, channels, height, width).
        image: (channels, height, width), normalised as the model wants it, on the model's device.
        cam: (height, width).
        target: The class to watch.
        baseline: What stands where pixels are missing, the shape of `image`. None takes RISE's choice:
            zeros (the data set's mean colour) for deletion, `blurred(image)` for insertion.
        steps: Steps between 0 and 1; every step is one image for the model.
        batch: Images in one call.

    Raises:
        ValueError: Shapes that do not fit each other, `steps` or `batch` below 1, an unknown kind or class.
    """
    order = _order(cam, image)
    if kind not in ("deletion", "insertion") or steps < 1 or batch < 1:
        raise ValueError(f"no {kind} curve with {steps} steps in batches of {batch}")
    if baseline is None:
        baseline = torch.zeros_like(image) if kind == "deletion" else blurred(image)
    if baseline.shape != image.shape:
        raise ValueError(f"baseline {tuple(baseline.shape)} does not fit image {tuple(image.shape)}")
    start, end = (image, baseline) if kind == "deletion" else (baseline, image)
    counts = torch.linspace(0, len(order), steps + 1, dtype=torch.float64).round().long().unique()
    # rank[i] is when pixel i changes: it has changed once more than rank[i] pixels have.
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    rank = rank.view(image.shape[1:])
    found = []
    for part in counts.split(batch):
        changed = (rank < part[:, None, None]).to(image.device)[:, None]
        with torch.no_grad():
            logits = model(torch.where(changed, end, start))
        if logits.ndim != 2 or not 0 <= target < logits.shape[1]:
            raise ValueError(f"no class {target} in model output {tuple(logits.shape)}")
        found.append(logits.double().softmax(dim=1)[:, target].cpu())
    fractions = counts.double().numpy() / len(order)
    probabilities = torch.cat(found).numpy()
    return Curve(fractions, probabilities, float(np.trapezoid(probabilities, fractions)))


def blurred(image: Tensor) -> Tensor:
    """Blur an image until its detail is gone but no hard edge appears.

    Args:
        image: (channels, height, width), floating.

    Returns:
        The same shape, dtype and device.
    """
    sigma, radius, side = _BLUR
    ratio = min(image.shape[1:]) / side
    pixels = image.detach().cpu().float().numpy()
    reach = max(1, round(radius * ratio))
    out = ndimage.gaussian_filter(pixels, sigma * ratio, axes=(1, 2), radius=reach, mode="reflect")
    return torch.from_numpy(out).to(image)


def _order(cam: ArrayLike, image: Tensor) -> Tensor:
    """Return flat pixel numbers from the map's highest to its lowest, ties row by row."""
    values = np.asarray(cam)
    if image.ndim != 3 or values.shape != tuple(image.shape[1:]):
        raise ValueError(f"map {values.shape} does not fit image {tuple(image.shape)}")
    return torch.from_numpy(np.argsort(-values.astype(np.float64).ravel(), kind="stable"))


def _mask(mask: ArrayLike) -> NDArray[np.bool_]:
    marked = np.asarray(mask)
    if marked.ndim != 2 or marked.size == 0:
        raise ValueError(f"a mask is (height, width), not {marked.shape}")
    return marked.astype(bool)


def _lesion(mask: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    lesion = _mask(mask)
    if lesion.shape != shape:
        raise ValueError(f"lesion mask {lesion.shape} does not fit {shape}")
    if not lesion.any():
        raise DataError("the lesion mask is empty: nothing to compare with")
    return lesion
