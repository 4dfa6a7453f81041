"""Procedural textures for the synthetic phantoms: smooth noise, cells, outlines and strokes.

Everything is a function of position in lesion coordinates (lesion radius about 1), so that the same
lesion can be photographed again from another angle and distance at any size in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Field = NDArray[np.float32]
"""(size, size) float32: one number a pixel."""
Picture = NDArray[np.float32]
"""(size, size, 3) float32: sRGB in [0, 1]."""
Colour = tuple[float, float, float]
"""sRGB in [0, 1]."""

_PERIOD = 32  # a power of two: lattice points before a texture repeats; no lesion is that many cells wide
_WRAP = _PERIOD - 1
_WARP = np.float32(0.45)  # how far cell borders bend, in cell widths: seen by eye


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where each pixel of one photograph lies on the lesion.

    Attributes:
        u: Horizontal position, in lesion radii.
        v: Vertical position, in lesion radii.
        rho: Distance from the lesion's centre, in lesion radii.
        phi: Angle around the centre, in radians, (-pi, pi].
        pixel: Width of one pixel, in lesion radii.
        size: Height and width, in pixels.
        to_pixels: (2, 3) affine map from (u, v, 1) to pixel positions (x, y).
    """

    u: Field
    v: Field
    rho: Field
    phi: Field
    pixel: float
    size: int
    to_pixels: NDArray[np.float64]


def view(size: int, radius: float, angle: float, centre: tuple[float, float]) -> Canvas:
    """Lay a camera over a lesion.

    Args:
        size: Height and width, in pixels, >= 1.
        radius: Lesion radius, as a fraction of half the picture's width, > 0.
        angle: Rotation of the camera, in radians.
        centre: Lesion centre (x, y), picture coordinates in [-1, 1].
    """
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    x, y = (axis - np.float32(centre[0]))[None, :], (axis - np.float32(centre[1]))[:, None]
    cos, sin = np.float32(np.cos(angle) / radius), np.float32(np.sin(angle) / radius)
    u, v = cos * x + sin * y, cos * y - sin * x
    half = size / 2.0
    turn = radius * half * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = np.array([[(centre[0] + 1.0) * half], [(centre[1] + 1.0) * half]])
    return Canvas(u, v, np.hypot(u, v), np.arctan2(v, u), 2.0 / (size * radius), size, np.hstack([turn, shift]))


def smooth_step(values: Field, low: float, high: float) -> Field:
    """Rise smoothly from 0 at `low` to 1 at `high` (fall, if `low` > `high`)."""
    t = np.clip((values - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def blend(picture: Picture, colour: Colour | Picture, alpha: Field) -> None:
    """Mix a colour into a picture, in place; `alpha` in [0, 1] is the colour's share."""
    picture += alpha[..., None] * (np.asarray(colour, dtype=np.float32) - picture)


def noise(rng: np.random.Generator, u: Field, v: Field, frequency: float, octaves: int = 1) -> Field:
    """Sum octaves of smooth lattice noise.

    Draws the same numbers whatever the picture's size, so that later draws stay in step.

    Args:
        rng: Source of the lattice.
        u: Horizontal position.
        v: Vertical position.
        frequency: Lattice points a unit of position, of the first octave; each next one doubles it at half
            the height.
        octaves: Number of octaves, >= 1.

    Returns:
        (size, size) float32, about in [-1, 1], mean near 0.
    """
    lattice = rng.uniform(-1.0, 1.0, (octaves, _PERIOD * _PERIOD)).astype(np.float32)
    shift = rng.uniform(0.0, _PERIOD, (octaves, 2))
    total = np.zeros_like(u)
    for octave in range(octaves):
        scale = frequency * 2.0**octave
        total += np.float32(0.5**octave) * _lattice_noise(
            lattice[octave], u * scale + shift[octave, 0], v * scale + shift[octave, 1]
        )
    return total * np.float32(1.5 / (2.0 - 0.5 ** (octaves - 1)))


def _lattice_noise(lattice: NDArray[np.float32], x: Field, y: Field) -> Field:
    x, y = x.astype(np.float32), y.astype(np.float32)
    left, top = np.floor(x), np.floor(y)
    a, b = x - left, y - top
    a, b = a * a * (3.0 - 2.0 * a), b * b * (3.0 - 2.0 * b)
    column, row = left.astype(np.int32) & _WRAP, top.astype(np.int32) & _WRAP
    right, below = (column + 1) & _WRAP, (row + 1) & _WRAP
    row, below = row * _PERIOD, below * _PERIOD
    upper = lattice[row + column] * (1.0 - a) + lattice[row + right] * a
    lower = lattice[below + column] * (1.0 - a) + lattice[below + right] * a
    return upper + b * (lower - upper)


def cells(rng: np.random.Generator, u: Field, v: Field, frequency: float) -> tuple[Field, Field, Field]:
    """Divide the plane into irregular cells around jittered lattice points.

    Args:
        rng: Source of the points.
        u: Horizontal position.
        v: Vertical position.
        frequency: Cells a unit of position.

    Returns:
        `nearest`: distance to the nearest point, in cell widths, about [0, 1].
        `edge`: distance to the second nearest minus that, 0 on the border between two cells.
        `draw`: a number in [0, 1) that is constant over a cell.

    Source: Worley, "A cellular texture basis function" (SIGGRAPH 1996).
    """
    points = rng.uniform(0.1, 0.9, (2, _PERIOD * _PERIOD)).astype(np.float32)
    draws = rng.random(_PERIOD * _PERIOD, dtype=np.float32)
    shift = rng.uniform(0.0, _PERIOD, 2)
    bend = _WARP * noise(rng, u, v, frequency * 0.5)  # straight cell borders look like tiles, not like skin
    lean = _WARP * noise(rng, u, v, frequency * 0.5)
    x, y = (u * frequency + shift[0] + bend).astype(np.float32), (v * frequency + shift[1] + lean).astype(np.float32)
    left, top = np.floor(x), np.floor(y)
    x, y = x - left, y - top
    column, row = left.astype(np.int32), top.astype(np.int32)
    first, second = np.full_like(x, 9.0), np.full_like(x, 9.0)
    draw = np.zeros_like(x)
    for down in (-1, 0, 1):
        line = ((row + down) & _WRAP) * _PERIOD
        for across in (-1, 0, 1):
            cell = line + (column + across) % _PERIOD
            dx, dy = points[0][cell] + (across - x), points[1][cell] + (down - y)
            distance = dx * dx + dy * dy
            closer = distance < first
            second = np.minimum(second, np.maximum(first, distance))
            np.copyto(draw, draws[cell], where=closer)
            first = np.minimum(first, distance)
    nearest = np.sqrt(first)
    return nearest, np.sqrt(second) - nearest, draw


def outline(
    rng: np.random.Generator, canvas: Canvas, *, ragged: float, stretch: float, softness: float, notches: int = 7
) -> Field:
    """Draw the lesion's outline.

    Args:
        rng: Source of the shape.
        canvas: The photograph.
        ragged: Height of the border's waves, in lesion radii, >= 0.
        stretch: Ratio of the long to the short axis, >= 1.
        softness: Width of the border, in lesion radii, > 0 (never thinner than a pixel).
        notches: Number of waves summed, >= 2.

    Returns:
        (size, size) float32, signed depth scaled to 1 one softness inside, 0 on the border, negative outside
        and clipped to [-4, 4]: `coverage` turns it into a mask.
    """
    order = np.arange(2, 2 + notches)
    height = rng.normal(0.0, 1.0, notches) * ragged * np.sqrt(2.0) / order
    phase = rng.uniform(0.0, 2.0 * np.pi, notches)
    tilt = rng.uniform(0.0, np.pi)
    # the radius depends on the angle alone: tabulate it, then look it up
    angles = np.linspace(-np.pi, np.pi, 257)
    waves = (height[:, None] * np.cos(order[:, None] * angles + phase[:, None])).sum(axis=0)
    ellipse = 1.0 / np.sqrt(np.cos(angles - tilt) ** 2 / stretch + np.sin(angles - tilt) ** 2 * stretch)
    radius = np.clip(ellipse * (1.0 + waves), 0.25, 1.9).astype(np.float32)
    depth = radius[((canvas.phi + np.float32(np.pi)) * np.float32(256 / (2 * np.pi)) + 0.5).astype(np.int32)]
    depth = depth - canvas.rho
    depth += np.float32(ragged * 0.7 + 0.02) * noise(rng, canvas.u, canvas.v, 2.5, 4)
    return np.clip(depth / np.float32(max(softness, canvas.pixel)), -4.0, 4.0)


def coverage(depth: Field) -> Field:
    """Turn `outline`'s depth into a mask in [0, 1]: 0.5 on the border."""
    return smooth_step(depth, -1.0, 1.0)


def strokes(canvas: Canvas, lines: Sequence[NDArray[np.float64]], widths: Sequence[float]) -> Field:
    """Draw anti-aliased polylines.

    Args:
        canvas: The photograph.
        lines: (points, 2) positions (u, v) in lesion radii, each of at least two points.
        widths: Their widths, in lesion radii; those thinner than a pixel are drawn fainter by the
            sub-pixel grid.

    Returns:
        (size, size) float32 mask in [0, 1].
    """
    sub = 4 if canvas.size <= 128 else 2
    image = Image.new("L", (canvas.size * sub, canvas.size * sub))
    draw = ImageDraw.Draw(image)
    for line, width in zip(lines, widths, strict=True):
        spots = (line @ canvas.to_pixels[:, :2].T + canvas.to_pixels[:, 2]) * sub
        draw.line(spots.reshape(-1).tolist(), fill=255, width=max(1, round(width * sub / canvas.pixel)), joint="curve")
    return np.asarray(image.reduce(sub), dtype=np.float32) / np.float32(255.0)


def branches(
    rng: np.random.Generator, start: NDArray[np.float64], heading: float, length: float, depth: int
) -> tuple[list[NDArray[np.float64]], list[int]]:
    """Grow a branching vessel.

    Args:
        rng: Source of the bends.
        start: (2,) position of the root, in lesion radii.
        heading: Direction of growth, in radians.
        length: Length of the trunk, in lesion radii.
        depth: Levels of branching, >= 0.

    Returns:
        The polylines and each one's level, `depth` for the trunk down to 0.
    """
    bends = heading + np.cumsum(rng.normal(0.0, 0.45, 6))
    steps = np.stack([np.cos(bends), np.sin(bends)], axis=1) * (length / 6.0)
    line = np.vstack([start, start + np.cumsum(steps, axis=0)])
    lines, levels = [line], [depth]
    if depth:
        for _ in range(2):
            point = line[rng.integers(2, 7)]
            turned = bends[-1] + rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1.0)
            more, deeper = branches(rng, point, turned, length * rng.uniform(0.45, 0.75), depth - 1)
            lines += more
            levels += deeper
    return lines, levels
