"""Distance from the training images: against a dense formula, and what it says of images of another kind."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
import torch

from dermonas.errors import ConfigError, DataError, StorageError
from dermonas.serving.description import DESCRIPTION, Description
from dermonas.serving.distance import DISTANCE, Distance, threshold_of
from dermonas.serving.look import look
from dermonas.serving.served import Served


def blobs(count, features, seed=0, classes=3):
    generator = np.random.default_rng(seed)
    turned, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(features, features)))
    mix = turned * np.linspace(0.5, 3, features)
    means = 4 * np.random.default_rng(2).normal(size=(classes, features))
    labels = generator.integers(0, classes, count)
    return means[labels] + generator.normal(size=(count, features)) @ mix, labels


def test_it_is_mahalanobis_where_all_directions_are_kept():
    values, labels = blobs(400, 6)
    new, _ = blobs(20, 6, seed=5)
    means = np.stack([values[labels == one].mean(axis=0) for one in range(3)])
    centred = values - means[labels]
    inverse = np.linalg.inv(centred.T @ centred / (len(values) - 3))
    wanted = [min((one - mean) @ inverse @ (one - mean) for mean in means) / 6 for one in new]
    np.testing.assert_allclose(Distance.fit(values, labels).of(new), wanted, rtol=1e-8)


def test_the_rest_is_round():
    values, labels = blobs(4000, 160)
    found = Distance.fit(values, labels)
    assert found.directions.shape == (128, 160)
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(128), atol=1e-9)
    covariance = found.rest * (np.eye(160) - found.directions.T @ found.directions)
    covariance += (found.directions.T * found.variances) @ found.directions
    means = np.stack([values[labels == one].mean(axis=0) for one in range(3)])
    new, _ = blobs(10, 160, seed=5)
    inverse = np.linalg.inv(covariance)
    wanted = [min((one - mean) @ inverse @ (one - mean) for mean in means) / 160 for one in new]
    np.testing.assert_allclose(found.of(new), wanted, rtol=1e-6)


def test_images_like_those_of_training_are_near_and_others_far():
    found = Distance.fit(*blobs(600, 40))
    near = found.of(blobs(300, 40, seed=7)[0])
    assert 0.7 < np.median(near) < 1.5
    assert found.of(blobs(300, 40, seed=7)[0] + 30).min() > near.max()


def test_few_images_of_many_features_and_absent_classes():
    values, labels = blobs(12, 200)
    found = Distance.fit(values, np.where(labels == 1, 5, labels))
    assert np.isfinite(found.of(values)).all()
    assert found.of(values + 50).min() > found.of(values).max()
    with pytest.raises(DataError, match="2 training images are too few"):
        Distance.fit(values[:2], labels[:2])
    with pytest.raises(DataError, match="do not vary"):
        Distance.fit(np.ones((9, 4)), np.zeros(9))


def test_it_keeps_through_its_file(tmp_path):
    values, labels = blobs(300, 80)
    found = Distance.fit(values, labels)
    found.write(tmp_path)
    np.testing.assert_allclose(Distance.read(tmp_path).of(values), found.of(values), rtol=1e-4)
    assert Distance.read(tmp_path / "elsewhere") is None
    file = tmp_path / DISTANCE
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(StorageError, match="is damaged"):
        Distance.read(tmp_path)


def test_a_pickle_in_its_place_is_refused(tmp_path):
    np.savez(tmp_path / DISTANCE, means=np.array([{}], dtype=object), directions=1, variances=1, rest=1)
    with pytest.raises(StorageError, match="is damaged"):
        Distance.read(tmp_path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.98, 1.0])
def test_the_threshold_keeps_at_least_its_share(share):
    distances = np.random.default_rng(0).gamma(2, size=173)
    threshold = threshold_of(distances, share)
    assert np.mean(distances <= threshold) >= share
    assert np.mean(distances < threshold) < share
    for wrong in (0, 1.1):
        with pytest.raises(ConfigError, match="familiar"):
            threshold_of(distances, wrong)
    with pytest.raises(DataError):
        threshold_of([], 0.5)


@pytest.fixture
def familiar(tiny, images):
    """A model that knows the noise it was shown, and the threshold that keeps all of it."""
    views = torch.stack([tiny.served.view(image) for image in images])
    seen = look(views)
    distance = Distance.fit(seen, np.zeros(len(seen)))
    description = dataclasses.replace(
        tiny.description, abstain_below=0.0, unfamiliar_above=float(distance.of(seen).max()), unfamiliar_rule="a rule"
    )
    return dataclasses.replace(tiny.served, distance=distance, description=description), views


def test_the_reason_says_which_rule_refused(familiar):
    served, views = familiar
    assert [answer["reason"] for answer in served.answers(served.logits(views))] == [""] * len(views)
    far = served.answers(served.logits(views[:2] * 50))
    for answer in far:
        assert answer["abstain"]
        assert re.fullmatch(
            r"unlike the training images: the distance, \S+, is above \S+ \(a rule\)", answer["reason"]
        ), answer["reason"]
    sure = dataclasses.replace(served, description=dataclasses.replace(served.description, abstain_below=1.0))
    (both, *_) = sure.answers(sure.logits(views[:1] * 5))
    first, second = both["reason"].split("; ")
    assert first.startswith("the largest probability")
    assert second.startswith("unlike the training images")


def test_a_distance_that_is_no_number_abstains(familiar):
    served, views = familiar
    output = served.logits(views[:1])
    (answer,) = served.answers(dataclasses.replace(output, distances=np.array([np.nan])))
    assert answer["abstain"]


def test_packages_of_before_are_read(tiny, tmp_path):
    values = json.loads((tiny.artifacts / DESCRIPTION).read_text())
    old = {key: value for key, value in values.items() if not key.startswith("unfamiliar")}
    for file in tiny.artifacts.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / DESCRIPTION).write_text(json.dumps({**old, "format": 1}))
    served = Served.load(tmp_path)
    assert (served.distance, served.description) == (None, Description.read(tiny.artifacts))
    (tmp_path / DESCRIPTION).write_text(json.dumps({**old, "format": 3}))
    with pytest.raises(StorageError, match="another format than 1 or 2"):
        Served.load(tmp_path)
    Distance.fit(*blobs(300, 80)).write(tmp_path)
    (tmp_path / DESCRIPTION).write_text(json.dumps(values))
    with pytest.raises(StorageError, match="of other features than 204"):
        Served.load(tmp_path)
    (tmp_path / DISTANCE).unlink()
    (tmp_path / DESCRIPTION).write_text(json.dumps({**values, "unfamiliar_above": 2.0}))
    with pytest.raises(StorageError, match=r"has a largest distance and no distance\.npz"):
        Served.load(tmp_path)


def test_the_look_is_a_thumbnail_and_contrasts():
    views = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = look(views)
    assert found.shape == (3, 204)
    cells = views.reshape(3, 3, 8, 4, 8, 4).mean(dim=(3, 5))
    np.testing.assert_allclose(found[:, :192], cells.flatten(1), atol=1e-6)
    rows = views[:, :, ::4].numpy()
    for number, step in enumerate((1, 2, 4, 8)):
        wanted = np.log(((rows[..., step:] - rows[..., :-step]) ** 2).mean(axis=(2, 3)))
        np.testing.assert_allclose(found[:, 192 + 3 * number : 195 + 3 * number], wanted, rtol=1e-4)
    assert np.isfinite(look(torch.zeros(1, 3, 4, 4))).all()
    single = np.concatenate([look(view[None]) for view in views])
    np.testing.assert_allclose(single, found, rtol=1e-5)


def test_a_blurred_image_is_far_from_sharp_ones():
    generator = torch.Generator().manual_seed(0)
    sharp = torch.randn(300, 3, 32, 32, generator=generator)
    distance = Distance.fit(look(sharp[:200]), np.zeros(200))
    blurred = torch.nn.functional.avg_pool2d(sharp[200:], 3, 1, 1) * 3
    assert distance.of(look(blurred)).min() > distance.of(look(sharp[200:])).max()
