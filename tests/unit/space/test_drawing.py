"""Drawings: files, determinism, and that nothing overlaps."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.transforms import Bbox

from dermonas.seeding import numpy_generator
from dermonas.space import zoo
from dermonas.space.darts import DartsSpace
from dermonas.space.drawing import draw, draw_cell
from dermonas.space.genotype import Cell


def some_cells() -> dict[str, Cell]:
    found = {}
    for name in ("PDARTS", "DermoCSNAS_5", "AmoebaNet", "NASNet"):
        found[f"{name}-normal"], found[f"{name}-reduce"] = zoo.load(name).normal, zoo.load(name).reduce
    for space in (DartsSpace(5, "all"), DartsSpace(5, "pairs")):
        genotype = space.genotype(space.sample(numpy_generator(3)))
        found[f"{space.name}-a"], found[f"{space.name}-b"] = genotype.normal, genotype.reduce
    return found


CELLS = some_cells()


def test_four_files_the_same_bytes_each_time(tmp_path: Path) -> None:
    genotype = zoo.load("DermoCSNAS_5")
    first, second = draw(genotype, tmp_path / "a" / "b"), draw(genotype, tmp_path / "c")
    assert [path.name for path in first] == ["normal.svg", "normal.png", "reduction.svg", "reduction.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == sorted(path.name for path in second)
    assert first[0].read_text().startswith("<?xml")
    assert "<dc:date>" not in first[0].read_text()
    assert first[1].read_bytes().startswith(b"\x89PNG")


def test_stem_comes_before_the_names_and_files_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "best-normal.svg").write_text("old")
    paths = draw(zoo.load("DARTS_V2"), tmp_path, "best")
    assert [path.name for path in paths][:2] == ["best-normal.svg", "best-normal.png"]
    assert paths[0].read_text() != "old"


def test_a_failed_write_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        Path(str(args[1])).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OSError, match="No space left"):
        draw(zoo.load("DARTS_V2"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", CELLS)
def test_nothing_overlaps_and_everything_is_inside(name: str) -> None:
    cell = CELLS[name]
    figure = draw_cell(cell, name)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    axes = figure.axes[0]
    boxes = [p.get_window_extent(renderer) for p in axes.patches if isinstance(p, FancyBboxPatch)]
    assert len(boxes) == 4 + len(cell.nodes) + sum(map(len, cell.nodes))
    legend = axes.get_legend()
    assert legend is not None
    apart = [*boxes, legend.get_window_extent(renderer), axes.texts[0].get_window_extent(renderer)]
    page = figure.bbox
    for k, one in enumerate(apart):
        assert page.x0 <= one.x0 < one.x1 <= page.x1
        assert page.y0 <= one.y0 < one.y1 <= page.y1
        assert not any(one.overlaps(other) for other in apart[k + 1 :])
    for text in axes.texts[1:]:
        extent = text.get_window_extent(renderer)
        assert any(box.containsx(extent.x0) and box.containsx(extent.x1) and box.y0 < extent.y0 for box in boxes)
    inner = [Bbox.from_extents(b.x0 + 2, b.y0 + 2, b.x1 - 2, b.y1 - 2) for b in boxes]
    for arrow in (p for p in axes.patches if isinstance(p, FancyArrowPatch)):
        for line in arrow.get_transform().transform_path(arrow.get_path()).to_polygons(closed_only=False):
            dense = np.concatenate([np.linspace(a, b, 30) for a, b in itertools.pairwise(line)])
            assert not any(box.contains(x, y) for box in inner for x, y in dense[::3])


def test_dead_nodes_are_marked() -> None:
    texts = [text.get_text() for text in draw_cell(zoo.load("DermoCSNAS_5").reduce, "").axes[0].texts]
    assert [text for text in texts if "dead" in text] == ["0\n(dead)"]
    texts = [text.get_text() for text in draw_cell(zoo.load("DermoCSNAS_5").normal, "").axes[0].texts]
    assert not [text for text in texts if "dead" in text]
