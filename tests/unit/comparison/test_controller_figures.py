"""The controller's report: what its figures draw, what its tables say, and what is left out with a reason. Made up."""

from __future__ import annotations

import csv
import io
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from controlled import CELLS, NB101, controller, history, known, material, search
from matplotlib.colors import to_hex
from scipy.stats import spearmanr

from dermonas.comparison.controller import embeddings, report, tables
from dermonas.comparison.controller.curves import (
    History,
    average_figure,
    pretraining_figure,
    regret_figure,
)
from dermonas.comparison.controller.distances import differences, histogram_figure, performance_figure
from dermonas.comparison.controller.material import ReportSettings
from dermonas.comparison.controller.page import markdown
from dermonas.comparison.controller.published import published
from dermonas.comparison.controller.searches import found, moving_average
from dermonas.comparison.controller.style import density
from dermonas.comparison.controller.write import write
from dermonas.controller.darts import DartsLanguage
from dermonas.controller.locality import pairs_by_distance
from dermonas.errors import StorageError

SETTINGS = ReportSettings(
    queries=(5, 30), references=("evolution",), window=10, pairs=10, performance_pairs=20, random_pairs=200
)


@pytest.fixture(scope="module")
def made():
    """A whole report, UMAP included: ten seconds of its compiling, once.

    Numba, when UMAP first runs, would leave torch every core's threads, and its sums would go another way.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = report.make(material(), SETTINGS)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)
    return whole


def lines(figure, axes=0):
    """The drawn lines by their names, the text of an empty one left out."""
    return {one.get_label(): one for one in figure.axes[axes].lines if len(one.get_xdata())}


def test_everything_is_made_of_whole_material(made, tmp_path):
    assert made.skipped == {}
    figures = ("fig1a-distances", "fig1b-performance", "fig1c-similarity", "fig2-embeddings", "fig3-pretraining")
    assert tuple(made.figures) == (*figures, "fig4-moving-average", "regret")
    files = {path.name for path in write(made, tmp_path / "new")}
    drawn = {f"{name}.{kind}" for name in made.figures for kind in ("svg", "png")}
    assert files == drawn | {"report.html", "report.md", "table1.csv", "comparison.csv", "locality.json"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == files
    again = {path.name: path.read_bytes() for path in write(made, tmp_path / "again")}
    assert all(content == (tmp_path / "new" / name).read_bytes() for name, content in again.items())
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StorageError, match="free space or name another"):
        write(made, file)


def test_the_page_stands_alone_and_marks_what_is_published(made, tmp_path):
    write(made, tmp_path)
    page = (tmp_path / "report.html").read_text()
    sources = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert len(sources) == len(made.figures)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert "nao-&lt;b&gt;" in page
    assert "<b>" not in page
    table = page.split("<h2>Comparison</h2>")[0]
    assert table.count('<span class="badge">published</span>') == len(published().rows) == 10
    assert "five runs of up to 6,528 queries; ours have 40 queries" in page
    ElementTree.fromstring(table[table.index("<table>") : table.index("</table>") + 8])
    other = report.Report(material(domain="nasbench201", place="NAS-Bench-201, cifar10"), SETTINGS)
    assert "another benchmark than NAS-Bench-201, cifar10, not to be compared" in tables.about_published(other)


def test_table_1_holds_ours_and_the_papers_own_digits(made):
    rows = list(csv.DictReader(io.StringIO(tables.table1_csv(made))))
    assert [row["source"] for row in rows] == ["measured"] * 3 + ["published"] * 10
    mine, angular = rows[1], rows[3]
    assert (mine["method"], mine["seeds"], mine["run_id"]) == ("nao-<b>", "3", made.material.searches[1].run_id)
    last = [100 * found(answers)[-1] for answers in made.material.searches[1].seeds.values()]
    assert float(mine["test_acc_mean"]) == pytest.approx(np.mean(last), abs=1e-5)
    assert float(mine["regret_mean"]) == pytest.approx(100 * known().best - np.mean(last), abs=1e-5)
    assert rows[2]["test_acc_std"] == ""  # one seed
    assert angular["benchmark"] == "NAS-Bench-101"
    assert (angular["queries_mean"], angular["test_acc_mean"], angular["test_acc_std"]) == ("751", "94.22", "0.004")
    text = markdown(made, list(made.figures))
    assert "| AngularLoss | published | 751 ± 141.5 | 94.22 ± 0.004 | 3.06 ± 1.067 | 0.10 ± 0.004 | 3 ± 0.4 |" in text


def test_the_comparison_says_what_its_interval_says(made):
    rows = list(csv.DictReader(io.StringIO(tables.comparison_csv(made))))
    assert [(row["arm"], row["queries"]) for row in rows[:3]] == [("evolution", "5"), ("nao-<b>", "5"), ("random", "5")]
    assert (rows[0]["reference"], rows[1]["reference"]) == ("", "evolution")
    assert float(rows[1]["difference"]) == pytest.approx(5)
    assert rows[5]["seeds_ended_before"] == "1"
    head, shown = tables.comparison_rows(made)
    assert head[-1] == "Less evolution"
    assert shown[1][-1].startswith("+5.00 [5.00, 5.00], 3 seeds: higher")
    assert shown[2][-1].endswith("(one seed, no interval)")
    assert shown[5][2] == "1 (1 ended before)"


def test_locality_is_angulars_and_named_by_metric(made):
    angular = made.similarities[1]
    rho = spearmanr(angular.pairs.distance, angular.cosine).statistic
    assert angular.rho.estimate == pytest.approx(rho)
    assert made.numbers["locality/spearman"] == made.numbers["locality/spearman/AngularLoss"] == pytest.approx(rho)
    assert made.numbers["locality/spearman"] != made.numbers["locality/spearman/MarginLoss"]
    content = json.loads(tables.locality_json(made))["controllers"]
    assert [one["metric"] for one in content] == ["MarginLoss", "AngularLoss"]
    assert content[1]["spearman"]["estimate"] == pytest.approx(rho)
    assert content[1]["pairs"]["1"] == 10
    near = angular.cosine[angular.pairs.distance == 1]
    assert content[1]["median_cosine"]["1"] == pytest.approx(np.median(near))


def test_figure_1a_shows_each_distance_and_both_shares():
    found = np.array([1, 3, 3, 7, 8, 8, 8, 2, 6, 7])
    figure = histogram_figure(found, "made up")
    (axes,) = figure.axes
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in axes.patches}
    assert {at: height for at, height in heights.items() if height} == {1: 10, 2: 10, 3: 20, 6: 10, 7: 20, 8: 30}
    far = {to_hex(bar.get_facecolor()) for bar in axes.patches if round(bar.get_x() + 0.42) > 6}
    assert len(far) == 1
    assert axes.get_title("left") == "50.0 % are more than 6 edits apart"
    assert any("published" in text.get_text() and "88 %" in text.get_text() for text in axes.get_legend().get_texts())


def test_figure_1b_takes_both_ends_from_the_table():
    table = known()
    pairs = pairs_by_distance(NB101, CELLS, 15, (1, 4))
    values = differences(pairs, table)
    of = {
        NB101.space.digest(tuple(theta)): quality for theta, quality in zip(CELLS.tolist(), table.quality, strict=True)
    }
    for row in (0, 20):
        ends = [of[NB101.space.digest(tuple(side[row].tolist()))] for side in (pairs.first, pairs.second)]
        assert values[row] == pytest.approx(100 * abs(ends[0] - ends[1]))
    figure = performance_figure(pairs, table)
    assert list(lines(figure)) == ["1 edit (15 pairs)", "4 edits (15 pairs)"]


def test_a_density_has_mass_one_and_a_fold_at_zero():
    rng = np.random.default_rng(0)
    values = np.abs(rng.normal(size=400))
    grid = np.linspace(0, 6, 2000)
    folded = density(values, grid, mirror=True)
    assert np.trapezoid(folded, grid) == pytest.approx(1, abs=1e-3)
    assert folded[0] == pytest.approx(np.sqrt(2 / np.pi), abs=0.15)
    outliers = density(np.r_[values, [80.0] * 10], grid, mirror=True)
    assert outliers[0] > 0.8 * folded[0]  # a few far ones do not smooth the rest away
    assert density(np.ones(5), grid) is None
    assert density(values[:1], grid) is None


def test_figure_3_overlays_every_run():
    figure = pretraining_figure(
        [History("A", 0, history()), History("A", 1, history(1)), History("B", 0, history())], "x"
    )
    assert len(figure.axes) == 3
    drawn = lines(figure, 1)
    assert list(drawn) == ["A, seed 0", "A, seed 1", "B, seed 0"]
    assert drawn["A, seed 0"].get_color() == drawn["A, seed 1"].get_color() != drawn["B, seed 0"].get_color()
    assert drawn["B, seed 0"].get_xdata().tolist() == [10, 20, 30, 40]
    assert drawn["B, seed 0"].get_ydata() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])


def test_figure_4_is_the_mean_over_seeds_of_moving_averages():
    one = search("a")
    (line,) = lines(average_figure([one], 10, "x")).values()
    each = [moving_average(100 * answers.test, 10) for answers in one.seeds.values()]
    assert line.get_xdata().tolist() == list(range(10, 41))
    assert line.get_ydata() == pytest.approx(np.mean(each, axis=0))


def test_the_regret_ends_where_the_search_does_and_has_a_yardstick():
    one, table = search("a"), known()
    drawn = lines(regret_figure([one], table))
    (curve,) = (line for name, line in drawn.items() if name == "a (3 seeds)")
    last = [100 * (table.best - found(answers)[-1]) for answers in one.seeds.values()]
    assert curve.get_ydata()[-1] == pytest.approx(np.mean(last))
    (yardstick,) = (line for name, line in drawn.items() if name.startswith("best by validation"))
    assert yardstick.get_ydata() == pytest.approx([100 * (table.best - table.by_validation)] * 2)


def test_figure_2_shows_the_same_cells_in_every_panel(made):
    axes = made.figures["fig2-embeddings"].figure.axes
    titles = ["MarginLoss, pretrained", "MarginLoss, after search (nao-<b>)", "AngularLoss, pretrained"]
    assert [one.get_title("left") for one in axes] == titles
    assert all(sum(len(dots.get_offsets()) for dots in one.collections) == 16 * 8 for one in axes)
    cells = embeddings.near_cells(NB101, CELLS, 0)
    assert cells.shape == (16, 8, 26)
    assert np.array_equal(cells, embeddings.near_cells(NB101, CELLS, 0))
    assert not np.array_equal(cells, embeddings.near_cells(NB101, CELLS, 1))


def test_umap_keeps_near_points_near_and_its_seed(made, capfd):
    """Four tight groups; `made` has paid for the compiling."""
    rng = np.random.default_rng(0)
    centres = np.eye(4, 16).repeat(10, axis=0)
    points = (centres + rng.normal(0, 0.01, centres.shape)).astype(np.float32)
    laid = embeddings.project(points, 3)
    assert np.array_equal(laid, embeddings.project(points, 3))
    distance = np.linalg.norm(laid[:, None] - laid[None], axis=2)
    same = np.arange(40)[:, None] // 10 == np.arange(40)[None] // 10
    assert np.median(distance[same]) < np.median(distance[~same])
    assert capfd.readouterr().err == ""


def test_what_lacks_data_is_named_with_the_reason():
    bare = report.make(material(known=None, pretrainings=[], searches=[], searched=[]), SETTINGS)
    assert list(bare.figures) == ["fig1a-distances"]
    assert bare.subject is None
    assert {name.split(":")[0]: why for name, why in bare.skipped.items()} == {
        "Fig 1b": "no table of accuracies was given",
        "Fig 1c": "no pretrained controller was given",
        "Fig 2": "no controller was given",
        "Fig 3": "no pretraining run was given",
        "Fig 4": "no search was given",
        "Regret by query": "no search was given",
        "Table 1 and the comparison": "no search was given",
    }
    text = markdown(bare, list(bare.figures))
    assert "- Fig 1c: similarity of embeddings by edit distance: no pretrained controller was given." in text
    few = report.Report(material(known=None, searches=[search("a", queries=9)]), SETTINGS)
    for step in (report._figure_4, report._regret):
        step(few)
    assert "9 queries, fewer than the window of 10" in few.skipped["Fig 4: performance in query order"]
    assert few.skipped["Regret by query"] == "no table with test accuracies was given"


def test_our_space_is_reported_without_a_table():
    language = DartsLanguage(4)
    cells = language.sample(np.random.default_rng(0), 300)
    own = material(
        domain="darts4",
        language=language,
        cells=cells,
        listed=False,
        known=None,
        pretrainings=[],
        searches=[],
        searched=[],
    )
    made = report.make(own, SETTINGS)
    assert made.numbers["distance/share_above_6"] == 1.0
    assert "genotypes drawn uniformly" in made.figures["fig1a-distances"].caption
    assert controller().training is False
