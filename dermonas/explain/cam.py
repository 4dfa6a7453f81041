"""The exact class activation map of a network that ends in global average pooling and a linear classifier.

Pooling and classifier are linear, so the logit is a mean over positions: what each position adds to it
is known without gradients. Serving imports this module: it needs torch and nothing else.

Source: spec/csnas.md 8 (CSNAS, Fig 7); Zhou et al. 2016, Learning Deep Features for Discriminative
Localization, eq. 2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dermonas.errors import ConfigError, DataError

ROI_THRESHOLD = 0.7
"""Share of the largest activation from which a pixel belongs to the region of interest. Source: CSNAS, Fig 7."""
_FLAT = 1e-6  # a range below this share of the largest value is float32 rounding: about 8 units in the last place


def class_activation(features: Tensor, weight: Tensor, classes: Tensor | int, size: int | tuple[int, int]) -> Tensor:
    """Return the map of Fig 7: weighted sum of the last feature map, upsampled, scaled to 0..1 by image.

    Mirrored features give the mirrored map (up to rounding); mirrored images do so only as far as the network
    commutes with mirroring, which strides at even sizes and learned kernels break. A map tells where, not how
    much: each image is scaled by itself, so maps of two images or two models compare in shape only.

    Args:
        features: (batch, features, h, w), what the pooling averages; any floating dtype.
        weight: (classes, features), the linear classifier's weight.
        classes: Class to explain: one for all images, or integers (batch,).
        size: Side, or (height, width), in pixels; usually the network input's.

    Returns:
        (batch, height, width) on 0..1; float64 for float64 features, else float32. An image whose map is
        constant has zeros: it has no place that stands out.

    Raises:
        ValueError: Shapes that do not fit each other.
        ConfigError: A class that the classifier does not have.
        DataError: Features that are not finite.
    """
    return scale(upsample(raw_cam(features, weight, classes), size))


def raw_cam(features: Tensor, weight: Tensor, classes: Tensor | int) -> Tensor:
    """Return what each position adds to the logit: its mean over positions plus the class's bias is the logit.

    Args:
        features: (batch, features, h, w), any floating dtype.
        weight: (classes, features).
        classes: One class for all images, or integers (batch,).

    Returns:
        (batch, h, w), unbounded; float64 for float64 features, else float32.

    Raises:
        ValueError: Shapes that do not fit each other.
        ConfigError: A class that the classifier does not have.
        DataError: Features that are not finite.
    """
    if features.ndim != 4 or 0 in features.shape[1:]:
        raise ValueError(f"features must be (batch, features, h, w), not {tuple(features.shape)}")
    if weight.ndim != 2 or weight.shape[1] != features.shape[1]:
        raise ValueError(f"weight must be (classes, {features.shape[1]}), not {tuple(weight.shape)}")
    finite = torch.isfinite(features).flatten(1).all(dim=1)
    if not bool(finite.all()):
        rows = torch.nonzero(~finite).flatten().tolist()
        raise DataError(f"no CAM: the feature map of image {rows[0]} in the batch is not finite ({len(rows)} such)")
    # float64 inside: sums over a thousand channels that nearly cancel would otherwise leave rounding in a flat map.
    rows_of_classes = weight.detach()[_classes(classes, len(features), len(weight), weight.device)].double()
    cam = torch.einsum("bfhw,bf->bhw", features.detach().double(), rows_of_classes)
    return cam if features.dtype == torch.float64 else cam.float()


def upsample(cam: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resize maps bilinearly, pixel centres aligned (align_corners=False), without antialiasing.

    The published figure does not state its interpolation; this is the one of OpenCV and of pytorch-grad-cam.

    Args:
        cam: (batch, h, w), floating.
        size: Side, or (height, width), in pixels.

    Returns:
        (batch, height, width), the dtype of `cam`, within the range of each map.

    Raises:
        ValueError: `cam` is not (batch, h, w), or a side is below 1 pixel.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if cam.ndim != 3 or height < 1 or width < 1:
        raise ValueError(f"cannot resize maps of shape {tuple(cam.shape)} to {height} x {width} pixels")
    return F.interpolate(cam[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]


def scale(cam: Tensor) -> Tensor:
    """Scale each map to 0..1 by its own minimum and maximum.

    Args:
        cam: (batch, height, width), floating and finite.

    Returns:
        The same shape and dtype; a map that is constant up to rounding becomes zeros.
    """
    low = cam.amin(dim=(1, 2), keepdim=True)
    high = cam.amax(dim=(1, 2), keepdim=True)
    span = high - low
    flat = span <= _FLAT * torch.maximum(low.abs(), high.abs())
    return torch.where(flat, torch.zeros_like(cam), (cam - low) / torch.where(flat, torch.ones_like(span), span))


def roi(cam: Tensor, threshold: float = ROI_THRESHOLD) -> Tensor:
    """Return the region of interest: where a scaled map reaches the threshold.

    Args:
        cam: (..., height, width) on 0..1.
        threshold: In (0, 1]; 0 would call everything a region, a constant map too.

    Returns:
        Boolean, the shape of `cam`; all False for a constant map.

    Raises:
        ConfigError: The threshold is out of range.
    """
    if not 0.0 < threshold <= 1.0:
        raise ConfigError(f"threshold {threshold} must lie in (0, 1]")
    return cam >= threshold


def _classes(classes: Tensor | int, batch: int, count: int, device: torch.device) -> Tensor:
    """Return classes as int64 (batch,), every one known to be in 0..count - 1."""
    index = torch.as_tensor(classes, device=device)
    if index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(f"classes must be integers, not {index.dtype}")
    if index.ndim == 0:
        index = index.expand(batch)
    if index.shape != (batch,):
        raise ValueError(f"classes must be one integer or ({batch},), not {tuple(index.shape)}")
    wrong = index[(index < 0) | (index >= count)]
    if len(wrong):
        raise ConfigError(f"class {int(wrong[0])} does not exist; the classifier has 0..{count - 1}")
    return index.long()
