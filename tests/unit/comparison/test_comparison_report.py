from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from compared import candidate, comparison, three

from dermonas.comparison.candidates import Candidate
from dermonas.comparison.canvas import empty, image
from dermonas.comparison.compare import Comparison
from dermonas.comparison.figures import cost_figure, labels_figure
from dermonas.comparison.marks import place
from dermonas.comparison.page import page
from dermonas.comparison.report import PAGE, write
from dermonas.comparison.wording import bounds, cell_text, count, difference_text, mcnemar_text, number, p_text
from dermonas.errors import DataError, StorageError

VOID = {"meta", "img", "br", "link", "input"}


class Reader(HTMLParser):
    """Collects what the page shows and refers to; refuses tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.refers: list[str] = []
        self.ids: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                self.refers.append(value)
            if name == "id":
                self.ids.append(value)
            assert not name.startswith("on")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)
            if {"td", "th"} & set(self.open):
                self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(found: Comparison) -> Reader:
    """Read the page without its figures, which take the time."""
    return Reader(page(found, {}, grid=None, deviations={}))


def read_whole(found: Comparison, folder: Path, **more) -> tuple[str, Reader]:
    paths = write(found, folder, **more)
    assert paths[-1].name == PAGE
    text = paths[-1].read_text(encoding="utf-8")
    return text, Reader(text)


def fractions() -> list[Candidate]:
    return [
        candidate("DermoCSNAS_4", 0.3, label_fraction=0.1),
        candidate("tf_efficientnet_lite0", 0.2, kind="timm", label_fraction=0.1, start="wheel"),
    ]


def test_files_are_written_whole_and_always_the_same(tmp_path):
    found = comparison([*three(2), *fractions()])
    first = write(found, tmp_path / "a")
    figures = [
        f"accuracy-{what}.{kind}" for what in ("parameters", "multiply-adds", "labels") for kind in ("png", "svg")
    ]
    assert [path.name for path in first] == ["comparison.csv", "comparison.json", *figures, PAGE]
    assert sorted(first) == sorted((tmp_path / "a").iterdir())
    second = write(comparison([*three(2), *fractions()]), tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert "accuracy-labels.png" not in [path.name for path in write(comparison(), tmp_path / "c")]


def test_the_page_needs_nothing_else(tmp_path):
    grid = image(empty(1, 1), "png")
    text, shown = read_whole(comparison([*three(2), *fractions()]), tmp_path, grid=grid)
    assert "<script" not in text.lower()
    assert not re.search(r"https?:|@import|file:", text)
    assert all(target.startswith("#") for target in re.findall(r"url\(\s*([^)]+)\)", text))
    outside = [target for target in shown.refers if not target.startswith("#")]
    assert outside == [f"data:image/png;base64,{base64.b64encode(grid).decode()}"]
    assert {target.removeprefix("#") for target in shown.refers if target.startswith("#")} <= set(shown.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(shown.ids)
    assert len(shown.ids) == len(set(shown.ids))
    assert shown.tags.count("svg") == 3
    assert {"link", "iframe", "object", "base", "form"} & set(shown.tags) == set()


def test_names_are_text_whatever_they_hold(tmp_path):
    odd = "<b>&\"'$x_1$"
    models = [
        candidate(odd, 0.6, strategy=odd, start=odd),
        candidate("base", 0.4, kind="timm", start="<i>"),
    ]
    found = comparison(models, "cifar10", dataset=odd, digest=odd, classes=("<u>", "NV", "BCC"))
    text, shown = read_whole(found, tmp_path, deviations={odd: [{"key": odd, "paper": odd, "ours": odd}]})
    assert {"b", "i", "u"} & set(shown.tags) == set()
    assert shown.words.count(odd) >= 6
    assert 'aria-label="<b>' not in text


def test_what_the_table_shows():
    found = comparison(three(3))
    shown = read(found)
    row = next(row for row in shown.rows if row and row[0] == "1")
    accuracy = found.ours[0].cells["accuracy"]
    interval = f"[{100 * accuracy.interval.lo:.1f}, {100 * accuracy.interval.hi:.1f}]"
    assert row[1] == "DermoCSNAS_4weights: random · 3 seeds1,234 of the parameters never influence the output"
    assert row[2:5] == ["3.554 M", "496.1 M", "31.2"]
    assert row[5] == f"{100 * accuracy.mean:.1f} ± {100 * accuracy.sd:.1f}{interval}"
    published = [row for row in shown.rows if len(row) > 1 and "published" in row[1]]
    assert [row[1] for row in published] == [f"{row.name} published, other data{row.note}" for row in found.published]
    assert published[-1][2:] == ["4.15 M", "560 M", "–", "88.68 ± 0.02", "–", "0.84"]
    assert "Synthetic data." in shown.text
    assert "Ours are of synthetic phantom images: the two do not compare." in shown.text
    for one in found.ours:
        for run in one.candidate.runs:
            assert run.run_id in shown.text


def test_one_seed_shows_no_spread_and_real_data_no_banner():
    shown = read(comparison(synthetic=False))
    row = next(row for row in shown.rows if row and row[0] == "1")
    assert "±" not in "".join(row)
    assert "1 seed" in row[1]
    assert "ynthetic" not in shown.text
    assert {row[1] for row in shown.rows if len(row) > 1 and "published" in row[1]} >= {"ResNet152 published"}


def test_columns_without_values_of_ours_are_left_out():
    shown = read(comparison(layout="cifar10"))
    heads = ["#", "Model", "Test error, %", "Parameters", "Search, device-days", "Operations", "Strategy"]
    assert heads in shown.rows
    assert "Melanoma" not in shown.text
    shown = read(comparison(layout="imagenet"))
    assert "Top-5" not in shown.text  # three classes
    shown = read(comparison(classes=("a", "b", "c")))
    assert "Melanoma" not in shown.text


def test_tests_are_read_out():
    found = comparison(three(2))
    shown = read(found)
    worse, better = found.tests
    assert "not resolved" in difference_text(found, worse, "accuracy")
    assert "after Holm: DermoCSNAS_4 is higher" in difference_text(found, better, "accuracy")
    assert "after Holm: DermoCSNAS_4 is right more often" in mcnemar_text(found, better)
    turned = comparison(three(2), reference="DermoCSNAS_4")
    assert "after Holm: DermoCSNAS_4 is higher" in difference_text(turned, turned.tests[1], "accuracy")
    assert difference_text(turned, turned.tests[1], "accuracy").startswith("difference −")
    for pair in found.tests:
        assert difference_text(found, pair, "balanced_accuracy") in shown.text
        assert mcnemar_text(found, pair) in shown.text
    shown = read(comparison([candidate("alone", 0.5)]))
    assert "Paired tests None: there is no searched network and baseline" in shown.text


def test_numbers_are_written_for_people():
    assert [p_text(p) for p in (0.18, 0.0312, 0.0951, 0.0004, 1.0, 0.9996, None, float("nan"))] == [
        "p = .18", "p = .031", "p = .10", "p < .001", "p = 1", "p = 1", "no p-value", "no p-value"
    ]  # fmt: skip
    assert [number(x, 1) for x in (-2.04, -0.04, 0.0, float("nan"))] == ["−2.0", "0.0", "0.0", "–"]
    assert bounds(float("nan"), float("nan"), 1) == "[no interval]"
    assert [count(x) for x in (3_554_048, 16e9, 1200)] == ["3.554 M", "16 G", "0.0012 M"]
    assert [cell_text(x, "days", 1)[0] for x in (3150, 0.0625, None)] == ["3,150", "0.0625", "–"]


@pytest.mark.parametrize("layout", ["isic", "cifar10", "imagenet"])
@pytest.mark.parametrize("models", [1, 14])
def test_many_models_and_one_give_figures(layout, models):
    some = [
        candidate(f"model {k}", 0.3 + 0.04 * k, kind=("cells", "timm")[k % 2], parameters=10**6 + k * 10**5)
        for k in range(models)
    ]
    found = comparison(some, layout, replicates=50)
    for cost in ("parameters", "multiply_adds"):
        figure = cost_figure(found, cost)
        words = [text.get_text() for text in figure.texts]
        names = [row.name for row in found.ours]
        assert [name for name in names if f"{name} ★" in words] == [
            row.name for row in found.ours if row in found.front(cost)
        ]
        assert sum(word in names or word.removesuffix(" ★") in names for word in words) == models
        drawn = [row for row in found.published if {"accuracy", cost} <= row.cells.keys()]
        assert {row.mark for row in drawn} <= set(words)
        assert any("published" in word for word in words) == bool(drawn)
        low, high = figure.axes[0].get_ylim()
        assert all(low < 100 * row.cells["accuracy"].mean < high for row in found.ours)
        assert figure.axes[0].get_title(loc="left") == "phantom, synthetic phantom images"
    assert labels_figure(found) is None


def test_marks_cover_neither_points_nor_each_other():
    rng = np.random.default_rng(1)
    points = [tuple(point) for point in rng.uniform(20, 380, (14, 2))] + [(100.0, 100.0), (101.0, 101.0)]
    centres = place([str(k) for k in range(16)], points, [], (0, 0, 400, 400))
    for k, (x, y) in enumerate(centres):
        assert 0 <= x <= 400
        assert 0 <= y <= 400
        assert all(abs(x - a) > 5 or abs(y - b) > 7 for a, b in centres[:k])
        assert all(abs(x - a) > 4 or abs(y - b) > 4 for a, b in points)


def test_what_cannot_be_written_is_said_in_a_line(tmp_path):
    with pytest.raises(DataError, match="no PNG file"):
        write(comparison(), tmp_path, grid=b"GIF89a")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file") as caught:
        write(comparison(), tmp_path / "file" / "below")
    assert "\n" not in str(caught.value)
