"""Maps and regions laid over the image that they explain, as pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

OPACITY = 0.6
"""Of a map over its grey image: enough to read values off the colour bar, and to see what lies beneath."""

_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R 601 luma, as Pillow's mode L
_DIMMED = 0.25  # brightness left outside a region of interest


def overlay(image: ArrayLike, cam: ArrayLike, opacity: float = OPACITY) -> NDArray[np.uint8]:
    """Lay a map in plasma colours over its image in grey, so that colour means activation alone.

    Args:
        image: uint8 (height, width, 3).
        cam: (height, width) on 0..1.
        opacity: Of the map, in [0, 1]; 1 gives the map alone.

    Returns:
        uint8 (height, width, 3).

    Raises:
        ValueError: Shapes that do not fit each other, or values out of range.
    """
    from matplotlib import colormaps

    pixels, values = pixels_of(image, 3), _map(cam, np.shape(image)[:2])
    if not 0.0 <= opacity <= 1.0:
        raise ValueError(f"opacity {opacity} must lie in [0, 1]")
    colours = colormaps["plasma"](values)[..., :3] * 255.0
    grey = (pixels @ _GREY)[..., None]
    return np.rint(opacity * colours + (1.0 - opacity) * grey).astype(np.uint8)


def spotlight(image: ArrayLike, region: ArrayLike) -> NDArray[np.uint8]:
    """Dim an image outside a region; uint8 (height, width, 3), see `dermonas.explain.cam.roi`."""
    pixels, inside = pixels_of(image, 3), np.asarray(region).astype(bool)
    if inside.shape != pixels.shape[:2]:
        raise ValueError(f"region {inside.shape} does not fit image {pixels.shape}")
    grey = (pixels @ _GREY)[..., None] * _DIMMED
    return np.where(inside[..., None], pixels, np.rint(grey)).astype(np.uint8)


def pixels_of(image: ArrayLike, dimensions: int) -> NDArray[np.uint8]:
    """Return images as an array of 3 (one) or 4 dimensions; ValueError unless uint8 RGB, channels last."""
    pixels = np.asarray(image)
    if pixels.ndim != dimensions or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"images are uint8 RGB, channels last, not {pixels.dtype} {pixels.shape}")
    return pixels


def _map(cam: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    values = np.asarray(cam, dtype=np.float64)
    if values.shape != shape:
        raise ValueError(f"map {values.shape} does not fit image {shape}")
    if not (values.min() >= 0.0 and values.max() <= 1.0):  # NaN fails too
        raise ValueError(f"a map lies in [0, 1], not {values.min():g}..{values.max():g}")
    return values
