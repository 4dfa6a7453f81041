"""What is served equals evaluation: the same input bit for bit, logits, probabilities and maps."""

from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dermonas.data.augmentation import Evaluate
from dermonas.data.cache import decoded_cache
from dermonas.data.manifest import Manifest
from dermonas.errors import ConfigError, DataError, ImageError, StorageError
from dermonas.evaluation.predict import predict
from dermonas.explain.cam import class_activation
from dermonas.metrics.temperature import scaled
from dermonas.serving.abstention import threshold_for
from dermonas.serving.description import HEAD, Description
from dermonas.serving.package import head_of
from dermonas.serving.served import BATCH, NO_CAM, Output, Served


@pytest.fixture(scope="module")
def cached(images, tmp_path_factory):
    """The images as evaluation reads them: files behind a manifest, decoded once."""
    import hashlib

    root = tmp_path_factory.mktemp("manifest")
    names = [f"{number}.img" for number in range(len(images))]
    for name, content in zip(names, images, strict=True):
        (root / name).write_bytes(content)
    frame = pd.DataFrame(
        {
            "path": names,
            "label": ["dark", "middle", "light"] * 2 + ["dark"],
            "group": names,
            "split": "validation",
            "search": False,
            "sha256": [hashlib.sha256(content).hexdigest() for content in images],
            "phash": "0" * 16,
            "width": 1,
            "height": 1,
        }
    )
    manifest = Manifest(frame, root, ("dark", "middle", "light"), "noise", "folder")

    def pixels(side):
        return np.asarray(decoded_cache(manifest, root, side, "validation"))

    return pixels


def views(packed, images):
    return torch.stack([packed.served.view(image) for image in images])


def test_the_input_is_evaluations_bit_for_bit(packed, images, cached):
    pixels = cached(packed.view.stored)
    wanted = torch.stack([Evaluate(packed.view)(image) for image in pixels])
    assert torch.equal(views(packed, images), wanted)


@pytest.mark.parametrize("tta", [False, True])
def test_logits_are_evaluations(packed, images, cached, tta):
    wanted = predict(packed.network, cached(packed.view.stored), packed.view, tta=tta)
    found = packed.served.logits(views(packed, images), tta=tta).logits
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert np.ptp(found, axis=0).min() > 1e-3  # images differ, so equality says something


def test_flips_change_the_answer(packed, images):
    seen = views(packed, images)
    plain, turned = packed.served.logits(seen), packed.served.logits(seen, tta=True)
    assert np.abs(plain.logits - turned.logits).max() > 1e-3
    assert torch.equal(plain.features, turned.features)


def test_tta_without_flips_is_an_error(packed, images):
    still = dataclasses.replace(packed.served, description=dataclasses.replace(packed.description, flips=((),)))
    with pytest.raises(ConfigError, match="leave tta out"):
        still.logits(views(packed, images), tta=True)


def test_probabilities_are_scaled_by_the_temperature(packed):
    logits = np.random.default_rng(0).normal(0, 30, (20, 3))
    np.testing.assert_allclose(packed.served.probabilities(logits), scaled(logits, 1.7), rtol=1e-12)


def test_many_images_go_in_batches_and_keep_their_order(cells, images):
    many = (images * 10)[: BATCH * 2 + 3]
    found = cells.served.predict(many)
    np.testing.assert_allclose(found, np.concatenate([cells.served.predict([image]) for image in many]), atol=1e-6)
    assert cells.served.predict([]).shape == (0, 3)


def test_an_answer_lists_the_likeliest_and_abstains_below_its_threshold(cells):
    logits = 1.7 * np.log(np.array([[0.2, 0.7, 0.1], [0.34, 0.33, 0.33], [0.4, 0.2, 0.4]]))
    output = Output(logits, torch.zeros(3, 1, 1, 1))
    found = cells.served.answers(output, top_k=2)
    assert [answer["label"] for answer in found] == ["middle", "dark", "dark"]
    assert [answer["abstain"] for answer in found] == [False, True, False]
    assert found[0]["reason"] == ""
    assert found[1]["reason"].startswith("the largest probability, 0.340, is below 0.400 (95% of")
    assert [row["label"] for row in found[0]["probabilities"]] == ["middle", "dark"]
    assert found[0]["probabilities"][1]["probability"] == pytest.approx(0.2)
    assert found[0]["cam"] is None
    assert len(cells.served.answers(output, top_k=99)[0]["probabilities"]) == 3
    with pytest.raises(ConfigError, match="top_k is 0"):
        cells.served.answers(output, top_k=0)


def test_the_map_is_the_networks_own_and_lies_where_the_network_looked(packed, images):
    seen = views(packed, images)
    output = packed.served.logits(seen)
    with torch.inference_mode():
        logits, features = packed.network.logits_and_map(seen)
    wanted = class_activation(features, packed.network.classifier.weight, logits.argmax(1), 32).numpy()
    side, start = packed.view.stored, (packed.view.stored - 32) // 2
    assert start > 0
    for answer, activation in zip(packed.served.answers(output, cam=True), wanted, strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(answer["cam"])))
        assert (picture.mode, picture.size) == ("LA", (side, side))
        grey, alpha = np.moveaxis(np.asarray(picture, dtype=int), 2, 0)
        inside = np.s_[start : start + 32, start : start + 32]
        assert np.abs(grey[inside] - activation * 255).max() <= 0.51
        assert (alpha[inside] == 255).all()
        assert alpha.sum() == 255 * 32 * 32


def test_a_head_that_is_not_pool_and_linear_has_no_map(cells, images):
    class Other(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = torch.nn.Linear(4, 3)

        def logits_and_map(self, x):
            features = x.repeat(1, 2, 1, 1)[:, :4]
            return self.classifier(features.amax(dim=(2, 3))), features

    assert head_of(Other(), 8) is None
    assert head_of(cells.network, 32) is not None
    headless = dataclasses.replace(cells.served, head=None)
    answers = headless.answers(headless.logits(views(cells, images)), cam=True)
    assert {answer["cam"] for answer in answers} == {NO_CAM} == {"not available for this model"}


def test_a_bad_image_names_its_row(cells, images):
    with pytest.raises(ImageError, match="row 1: image: not an image"):
        list(cells.served.outputs([images[0], b"no image"]))


def test_logits_that_are_no_numbers_are_an_error(cells):
    broken = dataclasses.replace(cells.served, program=lambda x: (torch.full((len(x), 3), torch.nan), x))
    with pytest.raises(DataError, match="not finite"):
        broken.logits(torch.zeros(2, 3, 32, 32))


def test_a_damaged_head_or_description_is_told(cells, tmp_path):
    import shutil

    folder = shutil.copytree(cells.artifacts, tmp_path / "a")
    np.save(folder / HEAD, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(StorageError, match=r"head\.npy is damaged"):
        Served.load(folder)
    (folder / "model.json").write_text('{"format": 9}')
    with pytest.raises(StorageError, match="another format"):
        Description.read(folder)
    (folder / "model.json").write_text('{"format": 1}')
    with pytest.raises(StorageError, match="cannot be read"):
        Description.read(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 40}, "size 40"),
        ({"classes": ("a", "a")}, "different names"),
        ({"temperature": 0.0}, "temperature 0"),
        ({"abstain_below": 1.1}, "abstain_below"),
        ({"flips": ((3,),)}, "plain one"),
    ],
)
def test_a_description_that_cannot_be_is_refused(cells, change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(cells.description, **change)


def test_a_description_comes_back_equal_and_says_that_it_is_synthetic(cells, tmp_path):
    cells.description.write(tmp_path)
    assert Description.read(tmp_path) == cells.description
    assert "not a medical device; trained on synthetic images" in cells.description.notice
    assert "synthetic" not in dataclasses.replace(cells.description, synthetic=False).notice


@pytest.mark.parametrize("coverage", [0.05, 0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("count", [1, 19, 20, 200])
def test_the_threshold_answers_the_share_and_is_the_largest_that_does(coverage, count):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), count)
    confidence = probabilities.max(axis=1)
    threshold = threshold_for(probabilities, coverage)
    assert (confidence >= threshold).mean() >= coverage - 1e-9
    assert (confidence >= np.nextafter(threshold, 2)).mean() < coverage
