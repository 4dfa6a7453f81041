import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dermonas.seeding import numpy_generator
from dermonas.training.mixing import mix


def _batch(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    # Image i is i everywhere, so that pixels tell which image they come from.
    images = torch.arange(count).float()[:, None, None, None].expand(count, 3, 8, 10).clone()
    return images, F.one_hot(torch.arange(count), count).float()


@pytest.mark.parametrize("kinds", [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_labels_are_what_the_pixels_are(kinds):
    for step in range(40):
        images, targets = _batch()
        mixed, labels = mix(images, targets, numpy_generator(0, step), mixup=kinds[0], cutmix=kinds[1])
        assert mixed.shape == images.shape
        torch.testing.assert_close(labels.sum(dim=1), torch.ones(6))
        assert (labels >= 0).all()
        # The mean pixel of an image is the mean of the image numbers by their share of the label.
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), labels @ torch.arange(6.0), rtol=1e-4, atol=1e-4)
        assert torch.equal(images, _batch()[0])


def test_mixup_blends_and_cutmix_pastes():
    images, targets = _batch()
    blended, _ = mix(images, targets, numpy_generator(3), mixup=1.0, cutmix=0.0)
    assert all(len(image.unique()) == 1 for image in blended)
    assert any(float(image[0, 0, 0]) % 1 for image in blended)
    pasted = [mix(images, targets, numpy_generator(i), mixup=0.0, cutmix=1.0)[0] for i in range(20)]
    assert all(float(value) % 1 == 0 for batch in pasted for value in batch.unique())
    assert max(len(image.unique()) for batch in pasted for image in batch) == 2


def test_both_are_used_at_even_odds():
    images, targets = _batch()
    blends = 0
    for step in range(200):
        mixed, _ = mix(images, targets, numpy_generator(5, step), mixup=1.0, cutmix=1.0)
        blends += bool((mixed % 1).any())
    assert 80 < blends < 120


def test_shares_follow_the_beta_distribution():
    images, targets = _batch(2)
    shares = []
    for step in range(2000):
        _, labels = mix(images, targets, numpy_generator(1, step), mixup=0.2, cutmix=0.0)
        if labels[0, 0] != 1:  # else image 0 met itself
            shares.append(float(labels[0, 0]))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.2 + 1)), abs=0.02)


def test_the_same_key_mixes_the_same_and_nothing_means_nothing():
    images, targets = _batch()
    first = mix(images, targets, numpy_generator(0, 1, 2), mixup=0.2, cutmix=1.0)
    again = mix(images, targets, numpy_generator(0, 1, 2), mixup=0.2, cutmix=1.0)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    same, labels = mix(images, targets, numpy_generator(0), mixup=0.0, cutmix=0.0)
    assert same is images
    assert labels is targets
