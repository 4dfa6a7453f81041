"""Bring an image to the network's square. The only resize in the project.

The aspect ratio is squashed, not cropped: a lesion at the border stays in the picture, and the same
pixels reach the cache, evaluation, heat maps and REST.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

FILTER = Image.Resampling.BICUBIC
"""Bicubic. When shrinking, Pillow widens the kernel by the scale factor, which is what antialiases."""


def resize(image: Image.Image, size: int) -> np.ndarray:
    """Squash an RGB image to a square.

    Args:
        image: Mode RGB, any size; see `dermonas.imaging.decode`.
        size: Side in pixels, at least 1.

    Returns:
        uint8 array (size, size, 3), channels last, 0..255, own memory.
    """
    if image.mode != "RGB":
        raise ValueError(f"resize takes mode RGB, not {image.mode}: decode the image first")
    if image.size == (size, size):
        return np.array(image)
    return np.array(image.resize((size, size), FILTER))


def grey_thumbnail(image: Image.Image, size: int = 64) -> np.ndarray:
    """Squash an RGB image to a grey square, for perceptual hashing and the duplicate audit.

    Returns:
        uint8 array (size, size), ITU-R 601 luma.
    """
    return np.array(image.convert("L").resize((size, size), FILTER))
