"""What the synthetic lesions are painted with: colours, uneven stains, patches and vessels."""

from __future__ import annotations

import numpy as np

from dermonas.data.phantom_texture import Canvas, Colour, Field, Picture, blend, branches, noise, smooth_step, strokes

# sRGB, chosen by eye to overlap between the classes
TAN: Colour = (0.70, 0.50, 0.34)
BROWN: Colour = (0.48, 0.30, 0.19)
DARK: Colour = (0.27, 0.16, 0.11)
BLACK: Colour = (0.11, 0.08, 0.08)
BLUE_GREY: Colour = (0.40, 0.45, 0.56)
WHITE: Colour = (0.93, 0.88, 0.86)
YELLOW: Colour = (0.88, 0.76, 0.52)
PINK: Colour = (0.88, 0.58, 0.56)
RED: Colour = (0.74, 0.24, 0.24)
BLOOD: Colour = (0.40, 0.07, 0.09)
PURPLE: Colour = (0.44, 0.16, 0.34)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour that lies `share` (in [0, 1]) of the way from the first to the second, in sRGB."""
    a, b = np.asarray(first), np.asarray(second)
    red, green, blue = a + share * (b - a)
    return float(red), float(green), float(blue)


def stain(rng: np.random.Generator, canvas: Canvas, picture: Picture, colour: Colour, share: Field) -> None:
    """Lay down a lesion's ground colour, unevenly, as pigment and blood lie.

    Args:
        rng: Source of the unevenness.
        canvas: The photograph.
        picture: Changed in place.
        colour: The ground colour.
        share: (size, size) in [0, 1], its opacity.
    """
    patchy = noise(rng, canvas.u, canvas.v, rng.uniform(1.2, 2.2), 4)
    light = 1.0 + patchy * np.float32(rng.uniform(0.05, 0.16))
    ground = light[..., None] * np.asarray(colour, dtype=np.float32)
    blend(picture, ground, share * (1.0 - np.float32(0.35) * smooth_step(patchy, 0.1, 0.9)))


def faded(rng: np.random.Generator, canvas: Canvas, strength: float) -> Field:
    """Return how strongly a structure shows, (size, size) in [0, strength]: none is equally clear all over."""
    return np.float32(strength) * smooth_step(noise(rng, canvas.u, canvas.v, 1.3, 2), -0.7, 0.25)


def spot(rng: np.random.Generator, canvas: Canvas, reach: float, size: tuple[float, float]) -> Field:
    """Return a soft ragged patch at a random place.

    Args:
        rng: Source of place, size and border.
        canvas: The photograph.
        reach: Farthest distance of the patch's middle from the lesion's, in lesion radii.
        size: Smallest and largest radius of the patch, in lesion radii.

    Returns:
        (size, size) float32 mask in [0, 1].
    """
    angle, distance, width = rng.uniform(0, 2 * np.pi), reach * np.sqrt(rng.random()), rng.uniform(*size)
    du, dv = canvas.u - np.float32(distance * np.cos(angle)), canvas.v - np.float32(distance * np.sin(angle))
    far = np.hypot(du, dv) + np.float32(0.45 * width) * noise(rng, canvas.u, canvas.v, 3.0, 3)
    return smooth_step(far, width * 1.3, width * 0.6)


def vessels(rng: np.random.Generator, canvas: Canvas, count: int, length: float, width: float, depth: int) -> Field:
    """Return branching vessels that grow from the lesion's border inward.

    Args:
        rng: Source of the branches.
        canvas: The photograph.
        count: Number of trunks.
        length: Length of a trunk, in lesion radii.
        width: Width of a trunk, in lesion radii; each level of branches is 0.65 times as wide.
        depth: Levels of branching, >= 0.

    Returns:
        (size, size) float32 mask in [0, 1].
    """
    lines, widths = [], []
    for _ in range(count):
        angle = rng.uniform(0, 2 * np.pi)
        start = rng.uniform(0.5, 1.0) * np.array([np.cos(angle), np.sin(angle)])
        grown, levels = branches(rng, start, angle + np.pi + rng.normal(0, 0.5), length, depth)
        lines += grown
        widths += [width * 0.65 ** (depth - level) for level in levels]
    return strokes(canvas, lines, widths)
