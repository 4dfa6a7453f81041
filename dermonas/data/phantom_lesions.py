"""Eight painters of synthetic lesions, one a class: caricatures of dermoscopic criteria, not patients.

Each painter adds one lesion to a picture of skin. It draws all its randomness from the lesion's own
generator, and never a number of draws that depends on the picture, so that the same generator state
paints the same lesion in every photograph of it. Colours overlap between the classes on purpose:
what tells them apart is arrangement and structure.

Source of the criteria: the dermoscopy vocabulary of the ISIC 2019 classes (pigment network, blue-white
veil, arborising vessels, milia-like cysts, central white patch, lacunae, keratin); figures are ours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dermonas.data.phantom_palette import (
    BLACK,
    BLOOD,
    BLUE_GREY,
    BROWN,
    DARK,
    PINK,
    PURPLE,
    RED,
    TAN,
    WHITE,
    YELLOW,
    faded,
    mix,
    spot,
    stain,
    vessels,
)
from dermonas.data.phantom_texture import Canvas, Picture, blend, cells, coverage, noise, outline, smooth_step, strokes

Painter = Callable[[np.random.Generator, Canvas, Picture], None]


def nevus(rng: np.random.Generator, canvas: Canvas, picture: Picture) -> None:
    """NV: one or two browns, regular soft border, an even network, globules or nothing."""
    base = mix(TAN, DARK, rng.uniform(0.1, 0.95))
    base = mix(base, PINK, rng.uniform(0.0, 0.45) * (rng.random() < 0.5))
    kind, contrast, frequency = rng.random(), rng.uniform(0.35, 0.75), rng.uniform(4.0, 7.0)
    depth = outline(
        rng, canvas, ragged=rng.uniform(0.02, 0.07), stretch=rng.uniform(1, 1.6), softness=rng.uniform(0.08, 0.3)
    )
    inside = coverage(depth)
    stain(rng, canvas, picture, base, inside * np.float32(rng.uniform(0.6, 0.92)))
    centre = smooth_step(canvas.rho, 0.8, 0.1) * np.float32(rng.uniform(0, 0.55))
    blend(picture, mix(base, DARK if rng.random() < 0.7 else TAN, 0.7), inside * centre)
    nearest, edge, _ = cells(rng, canvas.u, canvas.v, frequency)
    if kind < 0.5:
        blend(picture, mix(base, BLACK, 0.6), inside * smooth_step(edge, 0.4, 0.0) * faded(rng, canvas, contrast))
    elif kind < 0.8:
        blend(picture, mix(base, BLACK, 0.6), inside * smooth_step(nearest, 0.5, 0.2) * faded(rng, canvas, contrast))


def melanoma(rng: np.random.Generator, canvas: Canvas, picture: Picture) -> None:
    """MEL: asymmetric, ragged, many colours, blue-white veil, uneven network, streaks and dots."""
    base = mix(TAN, DARK, rng.uniform(0.1, 0.7))
    depth = outline(
        rng,
        canvas,
        ragged=rng.uniform(0.12, 0.24),
        stretch=rng.uniform(1.1, 1.9),
        softness=rng.uniform(0.08, 0.22),
        notches=9,
    )
    inside = coverage(depth)
    stain(rng, canvas, picture, base, inside * np.float32(rng.uniform(0.75, 0.95)))
    nearest, edge, draw = cells(rng, canvas.u, canvas.v, rng.uniform(3.0, 5.5))
    uneven = smooth_step(noise(rng, canvas.u, canvas.v, 1.2), -0.1, 0.4)
    blend(picture, mix(base, BLACK, 0.7), inside * smooth_step(edge, 0.45, 0.0) * uneven * np.float32(0.75))
    others = [DARK, BLACK, mix(base, RED, 0.6), DARK, mix(TAN, PINK, 0.5)]
    for colour in rng.permutation(len(others))[:3]:
        blend(picture, others[colour], inside * spot(rng, canvas, 0.75, (0.25, 0.6)) * np.float32(0.85))
    veil = spot(rng, canvas, 0.5, (0.3, 0.6)) * np.float32(rng.uniform(0.5, 0.85))
    blend(picture, mix(BLUE_GREY, WHITE, rng.uniform(0, 0.4)), inside * veil)
    blend(picture, BLACK, inside * smooth_step(nearest, 0.3, 0.15) * (draw < 0.18) * faded(rng, canvas, 0.85))
    angles = rng.uniform(0, 2 * np.pi) + rng.uniform(-0.8, 0.8, 9)
    reach = rng.uniform(0.9, 1.35, 9)
    ends = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    streaks = strokes(
        canvas, [np.outer([0.7, r], e) for e, r in zip(ends, reach, strict=True)], rng.uniform(0.025, 0.06, 9).tolist()
    )
    blend(picture, DARK, streaks * np.float32(0.7 * (rng.random() < 0.4)))


def basal(rng: np.random.Generator, canvas: Canvas, picture: Picture) -> None:
    """BCC: pearly pink, arborising vessels, blue-grey nests, sometimes an ulcer."""
    depth = outline(
        rng, canvas, ragged=rng.uniform(0.06, 0.14), stretch=rng.uniform(1, 1.6), softness=rng.uniform(0.15, 0.35)
    )
    inside = coverage(depth)
    pearl = mix(mix(PINK, WHITE, rng.uniform(0, 0.7)), TAN, rng.uniform(0, 0.5))
    stain(rng, canvas, picture, pearl, inside * np.float32(rng.uniform(0.5, 0.85)))
    shine = smooth_step(noise(rng, canvas.u, canvas.v, 1.6, 2), 0.0, 0.6)
    blend(picture, WHITE, inside * shine * np.float32(rng.uniform(0.2, 0.55)))
    ink = mix(BLUE_GREY, BLACK if rng.random() < 0.4 else BROWN, rng.uniform(0.2, 0.8))
    pigmented = np.float32(rng.random() < 0.7)
    for _ in range(5):
        blend(picture, ink, inside * spot(rng, canvas, 0.85, (0.1, 0.26)) * pigmented * np.float32(0.85))
    blend(picture, BLOOD, inside * spot(rng, canvas, 0.4, (0.2, 0.4)) * np.float32(0.85 * (rng.random() < 0.35)))
    tree = vessels(rng, canvas, int(rng.integers(2, 6)), rng.uniform(0.8, 1.4), rng.uniform(0.028, 0.06), 2)
    blend(
        picture,
        mix(RED, BLOOD, rng.uniform(0, 0.5)),
        tree * smooth_step(canvas.rho, 1.5, 1.0) * faded(rng, canvas, rng.uniform(0.6, 0.95)),
    )


def actinic(rng: np.random.Generator, canvas: Canvas, picture: Picture) -> None:
    """AK: vague red pseudo-network around pale follicles, white scale on top."""
    depth = outline(
        rng, canvas, ragged=rng.uniform(0.1, 0.2), stretch=rng.uniform(1, 1.7), softness=rng.uniform(0.4, 0.7)
    )
    inside = coverage(depth)
    base = mix(mix(RED, PINK, rng.uniform(0.2, 0.9)), TAN if rng.random() < 0.6 else BROWN, rng.uniform(0, 0.6))
    stain(rng, canvas, picture, base, inside * np.float32(rng.uniform(0.45, 0.8)))
    nearest, _, draw = cells(rng, canvas.u, canvas.v, rng.uniform(3.0, 5.0))
    blend(
        picture,
        mix(YELLOW, WHITE, rng.uniform(0.2, 0.9)),
        inside * smooth_step(nearest, 0.42, 0.1) * faded(rng, canvas, rng.uniform(0.4, 0.8)),
    )
    blend(picture, RED, inside * smooth_step(np.abs(nearest - 0.5), 0.2, 0.05) * np.float32(0.3))
    blend(picture, BROWN, inside * smooth_step(nearest, 0.12, 0.05) * (draw < 0.4) * np.float32(0.6))
    flake = noise(rng, canvas.u * 0.6, canvas.v * 1.4, 3.0, 3)
    blend(picture, WHITE, inside * smooth_step(flake, 0.25, 0.4) * np.float32(rng.uniform(0.4, 0.9)))


def keratosis(rng: np.random.Generator, canvas: Canvas, picture: Picture) -> None:
    """BKL: waxy and stuck on: a sharp scalloped border, milia-like cysts, dark plugs, ridges."""
    depth = outline(rng, canvas, ragged=rng.uniform(0.05, 0.12), stretch=rng.uniform(1, 1.8), softness=0.03)
    inside = coverage(depth)
    base = mix(mix(YELLOW, DARK, rng.uniform(0.15, 0.85)), BLUE_GREY, rng.uniform(0, 0.4))
    base = mix(base, PINK, rng.uniform(0, 0.4) * (rng.random() < 0.4))
    stain(rng, canvas, picture, base, inside * np.float32(rng.uniform(0.8, 0.97)))
    warp = noise(rng, canvas.u, canvas.v, 1.5, 2)
    lean, pitch = rng.uniform(0, np.pi), rng.uniform(9.0, 14.0)
    ridges = np.sin(
        np.float32(pitch)
        * (canvas.u * np.float32(np.cos(lean)) + canvas.v * np.float32(np.sin(lean)) + warp * np.float32(0.35))
    )
    blend(picture, mix(base, BLACK, 0.6), inside * smooth_step(ridges, 0.1, 0.9) * np.float32(rng.uniform(0.15, 0.6)))
    rim = inside * smooth_step(depth * np.float32(max(0.03, canvas.pixel)), 0.16, 0.02)
    blend(picture, mix(base, BLACK, 0.55), rim * np.float32(rng.uniform(0.3, 0.7)))
    nearest, _, draw = cells(rng, canvas.u, canvas.v, rng.uniform(2.4, 4.2))
    milia, plugs = rng.uniform(0.2, 0.5), rng.uniform(0.65, 0.9)
    blend(
        picture,
        mix(WHITE, YELLOW, 0.3),
        inside * smooth_step(nearest, 0.32, 0.1) * (draw < milia) * faded(rng, canvas, 0.9),
    )
    blend(picture, BLACK, inside * smooth_step(nearest, 0.3, 0.17) * (draw > plugs) * faded(rng, canvas, 0.8))


def fibroma(rng: np.random.Generator, canvas: Canvas, picture: Picture) -> None:
    """DF: a white scar in the middle of a delicate brown network that fades outward."""
    depth = outline(
        rng, canvas, ragged=rng.uniform(0.03, 0.09), stretch=rng.uniform(1, 1.4), softness=rng.uniform(0.3, 0.5)
    )
    inside = coverage(depth)
    base = mix(mix(TAN, BROWN, rng.uniform(0, 1)), PINK, rng.uniform(0, 0.7))
    stain(rng, canvas, picture, base, inside * np.float32(rng.uniform(0.5, 0.85)))
    _, edge, _ = cells(rng, canvas.u, canvas.v, rng.uniform(4.5, 7.0))
    blend(
        picture,
        mix(base, DARK, 0.8),
        inside * smooth_step(edge, 0.35, 0.0) * faded(rng, canvas, rng.uniform(0.3, 0.65)),
    )
    du, dv = canvas.u - np.float32(rng.normal(0, 0.1)), canvas.v - np.float32(rng.normal(0, 0.1))
    ragged = np.hypot(du, dv) + np.float32(0.2) * noise(rng, canvas.u, canvas.v, 2.5, 4)
    width = rng.uniform(0.32, 0.58)
    scar = smooth_step(ragged, width + 0.25, width - 0.2)
    blend(picture, mix(WHITE, PINK, rng.uniform(0, 0.45)), scar * np.float32(rng.uniform(0.65, 0.9)))
    shards = smooth_step(noise(rng, canvas.u, canvas.v * 0.4, 5.0), 0.2, 0.5)
    blend(picture, mix(PINK, RED, 0.3), scar * shards * np.float32(rng.uniform(0, 0.5)))


def vascular(rng: np.random.Generator, canvas: Canvas, picture: Picture) -> None:
    """VASC: sharply bounded; red, purple or near-black lacunae between pale septa."""
    depth = outline(rng, canvas, ragged=rng.uniform(0.03, 0.09), stretch=rng.uniform(1, 1.5), softness=0.06)
    inside = coverage(depth)
    blood = mix(mix(RED, PURPLE, rng.random()), BLACK if rng.random() < 0.6 else PINK, rng.uniform(0, 0.7))
    septum = mix(mix(PINK, WHITE, rng.uniform(0, 0.5)), blood, rng.uniform(0.2, 0.75))
    stain(rng, canvas, picture, septum, inside * np.float32(0.92))
    _, edge, draw = cells(rng, canvas.u, canvas.v, rng.uniform(1.5, 2.8))
    seams = rng.uniform(0.12, 0.5)
    lacunae = inside * smooth_step(edge, 0.0, seams)
    blend(picture, blood, lacunae * (1.0 - np.float32(0.4) * faded(rng, canvas, 1.0)))
    blend(picture, mix(blood, BLACK, 0.6), lacunae * draw * np.float32(rng.uniform(0.2, 0.9)))
    halo = smooth_step(depth, -4.0, 0.0) * (1.0 - inside)
    blend(picture, PINK, halo * np.float32(rng.uniform(0, 0.4)))


def squamous(rng: np.random.Generator, canvas: Canvas, picture: Picture) -> None:
    """SCC: a yellow-white keratin mass off the centre, a red rim with radial hairpin vessels, blood spots."""
    depth = outline(
        rng, canvas, ragged=rng.uniform(0.08, 0.16), stretch=rng.uniform(1, 1.5), softness=rng.uniform(0.12, 0.3)
    )
    inside = coverage(depth)
    rim = mix(mix(RED, PINK, rng.uniform(0, 0.7)), BROWN, rng.uniform(0, 0.5))
    stain(rng, canvas, picture, rim, inside * np.float32(rng.uniform(0.65, 0.9)))
    count = 20
    angles = rng.uniform(0, 2 * np.pi, count)
    near, far, bend = rng.uniform(0.55, 0.75, count), rng.uniform(0.85, 1.15, count), rng.normal(0, 0.12, count)
    loops = [
        np.array(
            [
                [n * np.cos(a), n * np.sin(a)],
                [f * np.cos(a + b), f * np.sin(a + b)],
                [n * np.cos(a + 0.15), n * np.sin(a + 0.15)],
            ]
        )
        for a, n, f, b in zip(angles, near, far, bend, strict=True)
    ]
    blend(
        picture,
        BLOOD,
        strokes(canvas, loops, rng.uniform(0.015, 0.04, count).tolist()) * np.float32(rng.uniform(0.35, 0.75)),
    )
    du, dv = canvas.u - np.float32(rng.normal(0, 0.12)), canvas.v - np.float32(rng.normal(0, 0.12))
    crust = noise(rng, canvas.u, canvas.v, 3.0, 3)
    width = rng.uniform(0.4, 0.62)
    mass = smooth_step(np.hypot(du, dv) + np.float32(0.3) * crust, width + 0.1, width - 0.12)
    keratin = mix(mix(YELLOW, WHITE, rng.uniform(0, 0.8)), BROWN, rng.uniform(0, 0.35))
    blend(picture, keratin, mass * np.float32(0.92))
    blend(picture, mix(keratin, BROWN, 0.7), mass * smooth_step(crust, 0.0, -0.45) * np.float32(0.7))
    nearest, _, draw = cells(rng, canvas.u, canvas.v, 2.5)
    blend(
        picture, BLOOD, inside * smooth_step(nearest, 0.35, 0.2) * (draw < rng.uniform(0.05, 0.25)) * np.float32(0.85)
    )


PAINTERS: dict[str, Painter] = {
    "MEL": melanoma,
    "NV": nevus,
    "BCC": basal,
    "AK": actinic,
    "BKL": keratosis,
    "DF": fibroma,
    "VASC": vascular,
    "SCC": squamous,
}
"""A painter a class, in the official ISIC 2019 column order."""
