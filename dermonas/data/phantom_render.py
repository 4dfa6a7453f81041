"""One synthetic photograph: skin, lesion, hair, ruler, bubbles, light and sensor. Not a patient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dermonas.data.phantom_lesions import PAINTERS
from dermonas.data.phantom_palette import BLACK, RED
from dermonas.data.phantom_texture import Canvas, Picture, blend, branches, noise, smooth_step, strokes, view
from dermonas.seeding import numpy_generator

_SKINS = np.array([[0.93, 0.78, 0.72], [0.88, 0.69, 0.60], [0.80, 0.60, 0.48], [0.90, 0.72, 0.70]])
"""Skin tones that the picture's own is mixed from, sRGB: pale, fair, tan, pink. ISIC 2019 has few darker ones."""


def photograph(seed: int, lesion: int, shot: int, label: str, size: int) -> NDArray[np.uint8]:
    """Render one synthetic photograph of one synthetic lesion.

    The lesion and its skin come from the generator keyed (seed, "phantom", lesion), the photograph's angle,
    distance, light, hair and noise from (seed, "phantom", lesion, shot): no other picture matters.

    Args:
        seed: The data set's seed.
        lesion: The lesion's number, >= 0.
        shot: The photograph's number among those of the lesion, >= 0.
        label: An ISIC 2019 class, a key of `PAINTERS`.
        size: Height and width, in pixels, >= 8.

    Returns:
        (size, size, 3) uint8, sRGB.

    Raises:
        KeyError: `label` is not an ISIC 2019 class.
    """
    paint = PAINTERS[label]
    own = numpy_generator(seed, "phantom", lesion)
    now = numpy_generator(seed, "phantom", lesion, shot)
    radius = own.uniform(0.34, 0.72) * now.uniform(0.85, 1.2)
    centre = tuple(now.uniform(-0.28, 0.28, 2) * (1.15 - min(radius, 0.9)))
    canvas = view(size, radius, now.uniform(0.0, 2.0 * np.pi), centre)
    picture = _skin(own, canvas, radius)
    paint(own, canvas, picture)
    sheet = view(size, 1.0, 0.0, (0.0, 0.0))  # what lies on the glass, in picture coordinates
    _hair(now, sheet, picture)
    _ruler(now, sheet, picture)
    _bubbles(now, sheet, picture)
    return _expose(now, sheet, picture)


def _skin(rng: np.random.Generator, canvas: Canvas, radius: float) -> Picture:
    tone = rng.dirichlet(np.full(len(_SKINS), 0.7)) @ _SKINS * rng.uniform(0.86, 1.04)
    picture: Picture = np.empty((canvas.size, canvas.size, 3), dtype=np.float32)
    picture[:] = tone
    # skin texture is as coarse under a small lesion as under a large one: count it in picture widths
    s, t = canvas.u * np.float32(radius), canvas.v * np.float32(radius)
    mottle = noise(rng, s, t, rng.uniform(1.5, 3.5), 4) * np.float32(rng.uniform(0.03, 0.10))
    flush = noise(rng, s, t, 1.5, 2) * np.float32(rng.uniform(0.0, 0.07))
    picture += mottle[..., None] * np.array([0.7, 1.0, 1.0], dtype=np.float32)
    picture += flush[..., None] * np.array([0.3, -1.0, -0.8], dtype=np.float32)
    lines, levels = [], []
    for _ in range(3):
        start = rng.uniform(-1.5, 1.5, 2) / radius
        grown, depths = branches(rng, start, rng.uniform(0, 2 * np.pi), 1.2 / radius, 1)
        lines += grown
        levels += depths
    thin = strokes(canvas, lines, [(0.015 + 0.015 * level) / radius for level in levels])
    blend(picture, RED, thin * np.float32(rng.uniform(0.0, 0.35) * (rng.random() < 0.4)))
    return picture


def _hair(rng: np.random.Generator, sheet: Canvas, picture: Picture) -> None:
    if rng.random() > 0.45:
        return
    count = int(rng.integers(2, 16))
    lean = rng.uniform(0, 2 * np.pi)
    lines = []
    for _ in range(count):
        middle, angle = rng.uniform(-1.1, 1.1, 2), lean + rng.normal(0, 0.5)
        along = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(0.25, 0.9)
        bow = np.array([-along[1], along[0]]) * rng.normal(0, 0.25)
        t = np.linspace(-1, 1, 9)[:, None]
        lines.append(middle + t * along + (1 - t * t) * bow)
    dark = np.array(BLACK) if rng.random() < 0.8 else np.array([0.78, 0.66, 0.50])
    hairs = strokes(sheet, lines, rng.uniform(0.008, 0.022, count).tolist())
    blend(picture, tuple(dark), hairs * np.float32(rng.uniform(0.6, 0.95)))


def _ruler(rng: np.random.Generator, sheet: Canvas, picture: Picture) -> None:
    if rng.random() > 0.15:
        return
    angle = rng.uniform(0, 2 * np.pi)
    along, inward = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    corner = -inward * rng.uniform(0.85, 0.95)
    ticks = []
    for k, step in enumerate(np.arange(-1.4, 1.4, rng.uniform(0.07, 0.12))):
        foot = corner + along * step
        ticks.append(np.stack([foot, foot + inward * (0.16 if k % 5 == 0 else 0.08)]))
    blend(picture, BLACK, strokes(sheet, ticks, [0.012] * len(ticks)) * np.float32(0.85))


def _bubbles(rng: np.random.Generator, sheet: Canvas, picture: Picture) -> None:
    if rng.random() > 0.12:
        return
    for _ in range(int(rng.integers(1, 5))):
        x, y = rng.uniform(-1, 1, 2)
        radius = rng.uniform(0.04, 0.16)
        far = np.hypot(sheet.u - np.float32(x), sheet.v - np.float32(y))
        width = max(0.02, sheet.pixel)
        picture += (smooth_step(np.abs(far - np.float32(radius)), width, 0.0) * np.float32(0.16))[..., None]
        picture -= (smooth_step(far, radius, radius * 0.8) * np.float32(0.03))[..., None]


def _expose(rng: np.random.Generator, sheet: Canvas, picture: Picture) -> NDArray[np.uint8]:
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.12)
    light = 1.0 + np.float32(slope) * (sheet.u * np.float32(np.cos(angle)) + sheet.v * np.float32(np.sin(angle)))
    light = light - np.float32(rng.uniform(0.0, 0.14)) * np.square(sheet.rho)
    gains = rng.uniform(0.88, 1.08) * rng.normal(1.0, (0.03, 0.04, 0.06))
    picture *= light[..., None] * gains.astype(np.float32)
    if rng.random() < 0.18:  # the dermoscope's tube shows in the corners
        reach = rng.uniform(1.0, 1.25)
        tube = smooth_step(sheet.rho, reach, reach + 0.06 + sheet.pixel)
        blend(picture, (0.05, 0.04, 0.04), tube)
    grain = rng.normal(0.0, 1.0, (*sheet.u.shape, 1)) + rng.normal(0.0, 0.5, (*sheet.u.shape, 3))
    blur = rng.uniform(0.0, 0.012) * sheet.size / 2.0 * (rng.random() < 0.3)
    pixels = (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    if blur > 0.2:
        pixels = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(blur)))
    noisy = pixels + np.float32(rng.uniform(0.8, 3.0)) * grain.astype(np.float32)
    return np.clip(noisy + 0.5, 0.0, 255.0).astype(np.uint8)
