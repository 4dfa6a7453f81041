"""What the figures show."""

import numpy as np
import pytest
from evaluated import ISIC, manifest_rows, of_rows, predictions, random_logits
from matplotlib.figure import Figure
from PIL import Image

from dermonas.errors import StorageError
from dermonas.evaluation.evaluate import Evaluation, evaluate
from dermonas.evaluation.figures import confusion_figure, reliability_figure, roc_figure, write_figures


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(predictions(400), resamples=50)


def of_classes(count: int, n: int) -> Evaluation:
    classes = tuple(f"class ${index}" for index in range(count))
    return evaluate(predictions(n, classes, synthetic=False), resamples=5)


def title(figure: Figure) -> str:
    return figure.get_suptitle()


def test_every_figure_is_written_as_svg_and_png(tmp_path, evaluation):
    paths = write_figures(evaluation, tmp_path / "figures")
    assert {path.name for path in paths} == {
        f"{name}.{kind}" for name in ("confusion", "roc", "reliability") for kind in ("svg", "png")
    }
    for path in paths:
        if path.suffix == ".png":
            pixels = np.asarray(Image.open(path).convert("RGB"))
            assert (pixels < 250).any(axis=2).mean() > 0.01
        else:
            assert path.read_text().count("<path") > 50
    again = write_figures(evaluation, tmp_path / "again")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]


def test_synthetic_data_are_called_so(evaluation):
    figures = (confusion_figure, roc_figure, reliability_figure)
    for make in figures:
        assert title(make(evaluation)).startswith("SYNTHETIC data: DermoCSNAS_4, phantom test")
    rows = manifest_rows(100)
    real = evaluate(of_rows(rows, random_logits(rows), synthetic=False), resamples=5)
    assert not any("SYNTHETIC" in title(make(real)) for make in figures)


def test_the_confusion_matrix_holds_counts_and_shares(evaluation):
    left, right = confusion_figure(evaluation).axes
    counts = np.array([text.get_text() for text in left.texts]).reshape(8, 8)
    np.testing.assert_array_equal(counts.astype(int), evaluation.confusion)
    shares = np.array([float(text.get_text()) for text in right.texts]).reshape(8, 8)
    want = 100 * evaluation.confusion / evaluation.confusion.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, want, atol=0.51)
    assert [tick.get_text() for tick in left.get_xticklabels()] == list(ISIC)
    assert (left.get_xlabel(), left.get_ylabel()) == ("decision", "label")


def test_a_label_without_images_has_no_shares():
    rows = manifest_rows(200)
    kept = np.flatnonzero(rows["label"] != "DF")
    made = evaluate(of_rows(rows.iloc[kept].reset_index(drop=True), random_logits(rows)[kept]), resamples=5)
    right = confusion_figure(made).axes[1]
    assert [text.get_text() for text in right.texts][8 * 5 : 8 * 6] == ["–"] * 8
    labels = [line.get_label() for line in roc_figure(made).axes[0].lines]
    assert not any(str(label).startswith("DF") for label in labels)


def test_there_is_a_roc_curve_a_class_with_its_area(evaluation):
    figure = roc_figure(evaluation)
    (axes,) = figure.axes
    named = {
        str(line.get_label()).split("  ")[0]: line for line in axes.lines if not str(line.get_label()).startswith("_")
    }
    assert list(named)[:9] == [*ISIC, "macro average"]
    for name in ISIC:
        x, y = (np.asarray(values, dtype=float) for values in named[name].get_data())
        assert np.trapezoid(y, x) == pytest.approx(evaluation.areas.by_class[name])
        assert f"{evaluation.areas.by_class[name]:.3f}" in str(named[name].get_label())
    x, y = (np.asarray(values, dtype=float) for values in named["macro average"].get_data())
    assert np.trapezoid(y, x) == pytest.approx(evaluation.areas.value)
    point = evaluation.melanoma_point
    assert point is not None
    marker = axes.lines[-1]
    assert marker.get_data()[1] == pytest.approx([point.sensitivity])
    assert len(figure.legends) == 1
    assert len({(line.get_color(), line.get_linestyle()) for line in named.values()}) == len(named)


def test_reliability_is_shown_before_and_after_with_the_images_of_each_bin(evaluation):
    axes = reliability_figure(evaluation).axes
    assert len(axes) == 4
    for column, curve in enumerate((evaluation.before, evaluation.after)):
        filled = curve.counts > 0
        heights = [bar.get_height() for bar in axes[column].patches]
        np.testing.assert_allclose(heights, curve.accuracy[filled])
        assert [bar.get_height() for bar in axes[2 + column].patches] == curve.counts.tolist()
        assert [int(text.get_text()) for text in axes[2 + column].texts] == curve.counts[filled].tolist()
        assert f"ECE {curve.ece:.3f}" in axes[column].get_title()
    assert "temperature 1.600" in axes[1].get_title()


def test_many_classes_stay_readable():
    dozen = of_classes(12, 300)
    assert len(confusion_figure(dozen).axes[0].texts) == 144
    lines = [line for line in roc_figure(dozen).axes[0].lines if not str(line.get_label()).startswith("_")]
    assert len(lines) == 13
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 13
    hundred = of_classes(100, 1500)
    figure = confusion_figure(hundred)
    assert max(figure.get_size_inches()) < 25
    assert not figure.axes[0].texts
    assert len(figure.axes[0].get_xticks()) == 50
    legend = roc_figure(hundred).axes[0].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 1


def test_a_refused_write_is_told(tmp_path, evaluation):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write figures"):
        write_figures(evaluation, tmp_path / "file")
