"""`explain`: a grid on its own run, a column on each model's, and no look at test. Synthetic phantoms."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from workplace import TINY

from dermonas.data.manifest import read_manifest
from pipelines.explain import chosen_rows

EXPLAIN = ("--config", str(TINY))


def explained_models(place):
    """The run of the first seed of the found network, and the baseline's."""
    (seed,) = (run for run in place.runs("train") if run.data.tags.get("dermonas.seed") == "0")
    (baseline,) = (run for run in place.runs("benchmark") if run.info.status == "FINISHED")
    return seed, baseline


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=int)


def test_each_model_has_its_column_and_the_run_the_grid(road):
    (run,) = road.runs("explain")
    models = explained_models(road)
    folder = road.artifacts(run)
    assert {path.name for path in folder.iterdir()} == {"cam-grid.png", "cam-grid.svg", "config.yaml", "sanity.json"}
    columns = [picture(road.artifacts(model) / "explain" / "cam.png") for model in models]
    grid = picture(folder / "cam-grid.png")
    assert all(column.std() > 0 for column in (grid, *columns))
    assert not np.array_equal(*columns)
    assert grid.shape[1] > max(column.shape[1] for column in columns)
    checks = json.loads((folder / "sanity.json").read_text())["rank_correlation_with_shuffled_weights"]
    assert list(checks) == [model.info.run_id for model in models]
    for model in models:
        assert -1 <= checks[model.info.run_id] <= 1
        assert model.data.metrics["explain/similarity_to_shuffled"] == checks[model.info.run_id]
    assert run.data.tags["dermonas.synthetic"] == "True"


def test_it_never_looks_at_test(road):
    (before,) = road.runs("explain")
    models = [run.info.run_id for run in explained_models(road)]
    data = road.folder / "data" / "phantom"
    manifest = read_manifest(data)
    for path in manifest.paths(manifest.split_frame("test")):
        path.write_bytes(b"no image")
    shutil.rmtree(data / "cache")
    done = road.run("explain", *EXPLAIN, "--runs", json.dumps(models))
    assert done.code == 0, done.err
    run = road.run_of(done)
    assert run.info.run_id != before.info.run_id
    for name in ("cam-grid.png", "sanity.json"):
        assert (road.artifacts(run) / name).read_bytes() == (road.artifacts(before) / name).read_bytes()
    assert not any("test" in cache.name for cache in (data / "cache").iterdir())
    # Without test's images an evaluation fails, so they were looked for in the right place.
    done = road.run("evaluate", *EXPLAIN, "--run", models[0])
    assert done.code == 1
    assert "Traceback" not in done.err


def test_a_model_that_cannot_be_explained_is_warned_about(road):
    model, _ = explained_models(road)
    done = road.run("benchmark", *EXPLAIN, "--weights", "none")  # of 32 px one position is left
    assert done.code == 0, done.err
    flat = road.run_of(done).info.run_id
    done = road.run("explain", *EXPLAIN, "--runs", json.dumps([model.info.run_id, flat]))
    assert done.code == 0, done.err
    assert "WARNING tf_efficientnet_lite0 (random) cannot be explained: " in done.err
    checks = json.loads((road.artifacts(road.run_of(done)) / "sanity.json").read_text())
    assert list(checks["rank_correlation_with_shuffled_weights"]) == [model.info.run_id]
    assert not (road.artifacts(road.client.get_run(flat)) / "explain").exists()
    for arguments, says in (
        (("--runs", json.dumps([flat])), "none of the models can be explained"),
        (("--runs", json.dumps([flat, flat])), "names a run twice"),
        (("--threshold", "0"), "threshold is 0"),
        (("--images", "0"), "images is 0"),
    ):
        done = road.run("explain", *EXPLAIN, *arguments)
        assert (done.code, done.out) == (2, ""), done.err
        assert says in done.last


def test_images_are_drawn_from_validation_class_by_class(phantoms):
    manifest = read_manifest(phantoms)
    labels = manifest.split_frame("validation")["label"].to_numpy()
    classes = len(set(labels))
    assert 1 < classes < len(labels)
    draws = {}
    for seed in range(6):
        rows = chosen_rows(manifest, classes, seed)
        np.testing.assert_array_equal(chosen_rows(manifest, classes, seed), rows)
        assert len(set(labels[rows])) == classes
        draws[tuple(rows)] = seed
        more = chosen_rows(manifest, classes + 1, seed)
        assert set(rows) < set(more)
        np.testing.assert_array_equal(more, np.sort(more))
        counts = {name: (labels[more] == name).sum() for name in set(labels)}
        assert sorted(counts.values()) == [1] * (classes - 1) + [2]
    assert len(draws) > 1
    np.testing.assert_array_equal(chosen_rows(manifest, 1000, 0), np.arange(len(labels)))
    assert len(chosen_rows(manifest, 1, 0)) == 1


@pytest.mark.parametrize("method", ["cam", "gradcam"])
def test_both_methods_explain_a_network_of_cells(method, road):
    model, _ = explained_models(road)
    done = road.run("explain", *EXPLAIN, "--runs", json.dumps([model.info.run_id]), "--method", method)
    assert done.code == 0, done.err
    assert road.run_of(done).data.params["method"] == method
