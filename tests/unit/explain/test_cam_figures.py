"""Figures: what they say, that nothing overlaps, and how they are written."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from dermonas.explain.figures import Column, grid, save
from dermonas.explain.overlays import overlay, spotlight
from dermonas.seeding import numpy_generator

IMAGES = numpy_generator(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
CAMS = np.stack([np.linspace(0, 1, 400).reshape(20, 20)] * 3)
ONE = Column("DermoCSNAS_4", CAMS, ["MEL", "NV", "BCC"], [0.5, 0.987, 1.0])
TWO = Column("tf_efficientnet_lite0", np.zeros_like(CAMS), ["black-and-tan coonhound dog", "NV", "a$b$"], [0.1] * 3)
LABELS = ["MEL", "MEL", None]


def texts(figure: Figure) -> list[str]:
    inside = [text.get_text() for axes in figure.axes for text in axes.texts]
    return [text.get_text() for text in figure.texts] + inside


def test_a_grid_says_what_it_shows() -> None:
    figure = grid(IMAGES, [ONE, TWO], LABELS, title="Ten samples")
    said = texts(figure)
    for text in ("Ten samples", "class activation map", "region at 0.7", "MEL  0.50", "✗ NV  0.99", "BCC  1.00"):
        assert said.count(text) == 1
    assert said.count("DermoCSNAS_4") == said.count("tf_efficientnet_lite0") == 2
    assert said.count("no region") == 3
    assert said.count("label unknown") == 1
    pictures = [axes for axes in figure.axes if axes.images]
    assert len(pictures) == 3 * (1 + 2 + 2) + 1  # and the colour bar


def test_synthetic_images_say_so_when_told() -> None:
    plain, marked = texts(grid(IMAGES, [ONE], LABELS)), texts(grid(IMAGES, [ONE], LABELS, synthetic=True))
    assert not [text for text in plain if "synthetic" in text.lower()]
    assert marked.count("SYNTHETIC") == 3
    assert any("no patient" in text for text in marked)


def test_tiles_are_in_the_order_promised() -> None:
    figure = grid(IMAGES, [ONE, TWO], LABELS, threshold=0.4)
    top = max(axes.get_position().y1 for axes in figure.axes if axes.images)
    first = [axes for axes in figure.axes if axes.images and axes.get_position().y1 > top - 1e-6]
    first.sort(key=lambda axes: axes.get_position().x0)
    row = [np.asarray(axes.images[0].get_array()) for axes in first[:5]]
    wanted = [IMAGES[0], overlay(IMAGES[0], CAMS[0]), spotlight(IMAGES[0], CAMS[0] >= 0.4)]
    assert all(np.array_equal(row[k], tile) for k, tile in zip((0, 1, 3), wanted, strict=True))
    assert np.array_equal(row[4], spotlight(IMAGES[0], np.zeros((20, 20))))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("columns", [[ONE], [TWO], [ONE, TWO, TWO, ONE]])
def test_no_text_meets_another_or_leaves_the_page(columns: list[Column], count: int) -> None:
    columns = [
        replace(c, cams=np.asarray(c.cams)[:count], predicted=c.predicted[:count], probability=c.probability[:count])
        for c in columns
    ]
    figure = grid(IMAGES[:count], columns, LABELS[:count], title="A title", synthetic=True)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    tiles = [("tile", axes.get_window_extent(renderer)) for axes in figure.axes if axes.images]
    for (one, a), (two, b) in itertools.combinations(boxes + tiles, 2):
        assert not a.overlaps(b), (one, two)
    for axes in figure.axes:
        assert axes.get_tightbbox(renderer).x1 <= figure.bbox.x1 + 1


def test_files_the_same_bytes_each_time(tmp_path: Path) -> None:
    for ending in ("png", "svg", "pdf"):
        paths = [save(grid(IMAGES, [ONE], LABELS), tmp_path / folder / f"cam.{ending}") for folder in "ab"]
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert [path.name for path in (tmp_path / "a").iterdir() if "part" in path.name] == []
    with Image.open(tmp_path / "a" / "cam.png") as image:
        assert image.size[0] > 600
    before = (tmp_path / "a" / "cam.png").read_bytes()
    with pytest.raises(ValueError):
        save(grid(IMAGES, [ONE], LABELS), tmp_path / "a" / "cam.nothing")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["cam.pdf", "cam.png", "cam.svg"]
    assert (tmp_path / "a" / "cam.png").read_bytes() == before


def test_an_overlay_mixes_grey_and_plasma() -> None:
    white, cam = np.full((2, 2, 3), 255, dtype=np.uint8), np.array([[0.0, 1.0], [0.0, 1.0]])
    assert overlay(white, cam, 0.0).tolist() == white.tolist()
    plasma = overlay(white, cam, 1.0)
    assert plasma[0].tolist() == [[13, 8, 135], [240, 249, 33]]  # the ends of matplotlib's plasma
    assert overlay(white, cam, 0.5)[0, 0].tolist() == pytest.approx([134, 131.5, 195], abs=0.6)


def test_a_spotlight_keeps_the_region_and_dims_the_rest() -> None:
    inside = np.zeros((20, 20), dtype=bool)
    inside[:5] = True
    lit = spotlight(IMAGES[0], inside)
    assert np.array_equal(lit[:5], IMAGES[0][:5])
    assert lit[5:].max() <= 64
    assert (lit[5:, :, 0] == lit[5:, :, 2]).all()


@pytest.mark.parametrize(
    ("images", "columns", "labels", "options", "text"),
    [
        (IMAGES, [], LABELS, {}, "a grid needs images"),
        (IMAGES, [ONE], LABELS[:2], {}, "a label each"),
        (IMAGES[:2], [ONE], LABELS[:2], {}, r"DermoCSNAS_4: maps \(3, 20, 20\) .* fit the images, \(2, 20, 20\)"),
        (IMAGES.astype(float), [ONE], LABELS, {}, "images are uint8 RGB"),
        (IMAGES, [replace(ONE, cams=CAMS * 2)], LABELS, {}, r"a map lies in \[0, 1\]"),
        (IMAGES, [replace(ONE, cams=CAMS * np.nan)], LABELS, {}, "a map lies in"),
        (IMAGES, [replace(ONE, probability=[0.1])], LABELS, {}, "answers must fit"),
        (IMAGES, [ONE], LABELS, {"threshold": 0.0}, "threshold 0.0 must lie"),
    ],
)
def test_what_does_not_fit(
    images: np.ndarray, columns: list[Column], labels: list[str | None], options: dict[str, float], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        grid(images, columns, labels, **options)


def test_more_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="opacity"):
        overlay(IMAGES[0], CAMS[0], 1.5)
    with pytest.raises(ValueError, match="does not fit image"):
        overlay(IMAGES[0], CAMS[0, :3])
    with pytest.raises(ValueError, match="region"):
        spotlight(IMAGES[0], CAMS[0, :3])


def test_pyplot_is_not_used() -> None:
    import dermonas.explain.figures as module
    import dermonas.explain.overlays as other

    assert not {"plt", "pyplot"} & (set(vars(module)) | set(vars(other)))
    before = "matplotlib.pyplot" in sys.modules and sys.modules["matplotlib.pyplot"].get_fignums()
    grid(IMAGES, [ONE], LABELS)
    assert ("matplotlib.pyplot" in sys.modules and sys.modules["matplotlib.pyplot"].get_fignums()) == before
