"""From any folder of images to a genotype, and labels that a search never reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import yaml
from PIL import Image
from workplace import TINY

from dermonas.data.manifest import read_manifest, write_manifest


def draw(folder, count, seed):
    folder.mkdir(parents=True)
    for number in range(count):
        coarse = np.random.default_rng((seed, number)).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((24, 24), Image.Resampling.BICUBIC).save(folder / f"{number:03d}-{seed}.png")


def recipe(place, **prepare):
    """A recipe with another source; the search's own settings are the tiny recipe's."""
    file = place.log / "recipe.yaml"
    search = {**yaml.safe_load(TINY.read_text())["search"], "images": 8}
    file.write_text(yaml.safe_dump({"mode": "modern", "prepare": {"workers": 0, **prepare}, "search": search}))
    return ["--config", str(file), "--channels", "2", "--batch_size", "4", "--trials", "2"]


def test_a_flat_folder_of_unlabelled_images(place):
    draw(place.folder / "skin", 12, 0)
    done = place.run("search", *recipe(place, source="folder", root="skin"))
    assert done.code == 0, done.err
    manifest = read_manifest(place.folder / "data" / "skin")
    assert manifest.frame["search"].all()
    assert manifest.frame["label"].isna().all()
    (run,) = place.runs("search")
    assert place.client.get_experiment(run.info.experiment_id).name == "dermonas/skin"
    assert run.data.tags["dermonas.synthetic"] == "False"
    assert place.runs("prepare")[0].info.status == "FINISHED"


def test_shuffled_labels_leave_a_search_unchanged(make_place):
    first, second = make_place("first"), make_place("second")
    for seed, name in enumerate(("naevus", "melanoma", "wart")):
        draw(first.folder / "classes" / name, 10, seed)
    arguments = recipe(first, source="folder", root="classes")
    done = first.run("search", *arguments)
    assert done.code == 0, done.err
    manifest = read_manifest(first.folder / "data" / "classes")
    searched = manifest.search_frame()
    assert set(searched["label"]) == {"naevus", "melanoma", "wart"}
    assert set(searched["split"]) == {"train"}

    labels = np.random.default_rng(1).permutation(manifest.frame["label"])
    assert (labels != manifest.frame["label"]).any()
    shuffled = replace(manifest, frame=manifest.frame.assign(label=labels))
    write_manifest(shuffled, second.folder / "data")
    assert shuffled.digest != manifest.digest
    again = second.run("search", *arguments, "--data", "data")
    assert again.code == 0, again.err
    assert second.trials() == first.trials()
    assert again.out.split()[3] == done.out.split()[3]
