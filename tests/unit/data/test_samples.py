import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dermonas.data.augmentation import Augment, AugmentSettings
from dermonas.data.samples import Key, KeyedSampler, Samples, class_weights, label_fraction
from dermonas.errors import ConfigError, DataError


def _echo(image: np.ndarray, epoch: int, index: int) -> torch.Tensor:
    return torch.tensor([int(image[0, 0, 0]), epoch, index])


@pytest.fixture
def images() -> np.ndarray:
    return np.arange(12, dtype=np.uint8).repeat(8 * 8 * 3).reshape(12, 8, 8, 3)


def test_items_carry_image_label_and_row(images):
    labels = np.arange(12) % 3
    samples = Samples(images, labels, _echo, rows=[7, 2, 11])
    assert len(samples) == 3
    assert samples.labels.tolist() == [1, 2, 2]
    view, label, row = samples[Key(5, 1, 0)]
    assert view.tolist() == [2, 5, 2]
    assert (label, row) == (2, 2)
    assert samples[Key(5, 1, 3)][0].tolist() == [2, 5, 2 + 3 * 12]  # a repeat is another view
    assert samples[0][0].tolist() == [7, 0, 7]


@pytest.mark.parametrize(
    ("labels", "rows", "match"),
    [
        (np.zeros(11), None, "11 labels"),
        (np.zeros(12), [], "no image"),
        (np.array([0] * 4 + [-1] * 8), [1, 5], "row 5"),
    ],
)
def test_unusable_rows_are_named(images, labels, rows, match):
    with pytest.raises(DataError, match=match):
        Samples(images, labels, _echo, rows=rows)


def test_the_order_is_keyed_by_seed_and_epoch():
    sampler = KeyedSampler(np.zeros(50, dtype=int), seed=1)
    first = list(sampler)
    assert sorted(key.sample for key in first) == list(range(50))
    assert {(key.epoch, key.repeat) for key in first} == {(0, 0)}
    sampler.set_epoch(3)
    third = list(sampler)
    assert {key.epoch for key in third} == {3}
    assert [k.sample for k in third] != [k.sample for k in first]
    fresh = KeyedSampler(np.zeros(50, dtype=int), seed=1)
    fresh.set_epoch(3)
    assert list(fresh) == third
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert [k.sample for k in KeyedSampler(np.zeros(50, dtype=int), seed=2)] != [k.sample for k in first]


def test_processes_share_an_epoch():
    labels = np.zeros(11, dtype=int)
    parts = [list(KeyedSampler(labels, 0, rank=rank, replicas=4)) for rank in range(4)]
    assert (
        [len(part) for part in parts] == [3] * 4 == [len(KeyedSampler(labels, 0, rank=r, replicas=4)) for r in range(4)]
    )
    assert {key.sample for part in parts for key in part} == set(range(11))
    assert len({key for part in parts for key in part}) == 12  # the one repeat is marked as such


def test_the_balanced_sampler_draws_classes_equally_often_with_new_views():
    labels = np.array([0] * 900 + [1] * 90 + [2] * 10)
    keys = list(KeyedSampler(labels, 0, "sampler"))
    share = np.bincount(labels[[key.sample for key in keys]]) / 1000
    assert share == pytest.approx([1 / 3] * 3, abs=0.05)
    assert len(set(keys)) == len(keys)
    assert max(key.repeat for key in keys) > 10


def test_workers_see_the_epoch_and_change_nothing(images):
    settings = AugmentSettings(size=6, crop="pad", padding=2, horizontal_flip=0.5, backend="torchvision")
    samples = Samples(images, np.zeros(12, dtype=int), Augment(settings, 0))

    def epochs(workers: int) -> list[torch.Tensor]:
        sampler = KeyedSampler(samples.labels, 0)
        loader = DataLoader(samples, 5, sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
        seen = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            seen += [batch[0] for batch in loader]
        return seen

    alone, workers = epochs(0), epochs(1)
    assert all(torch.equal(a, b) for a, b in zip(alone, workers, strict=True))


def test_class_weights_average_one_over_the_samples():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    weights = class_weights(labels, ("a", "b", "c"))
    assert weights.tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert float(weights[labels].mean()) == pytest.approx(1)
    with pytest.raises(DataError, match="no image of d"):
        class_weights(labels, ("a", "b", "c", "d"))


def _grouped(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 5, 150)
    groups = np.repeat([f"g{i}" for i in range(150)], sizes)
    return np.repeat(np.minimum(generator.geometric(0.4, 150) - 1, 4), sizes), groups


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
def test_a_label_fraction_keeps_classes_and_whole_groups(seed, fraction):
    labels, groups = _grouped(seed)
    rows = label_fraction(labels, groups, fraction, seed)
    assert (np.diff(rows) > 0).all()
    inside, outside = set(groups[rows]), set(np.delete(groups, rows))
    assert not inside & outside
    counts, totals = np.bincount(labels[rows], minlength=5), np.bincount(labels)
    wanted = np.maximum(1, np.round(fraction * totals))
    assert (counts >= wanted).all()
    assert (counts < wanted + 4).all()  # less than one group too many
    assert np.array_equal(rows, label_fraction(labels, groups, fraction, seed))
    assert set(rows) <= set(label_fraction(labels, groups, min(1.0, fraction * 1.1), seed))


def test_label_fractions_differ_by_seed_and_one_is_everything():
    labels, groups = _grouped(0)
    assert not np.array_equal(label_fraction(labels, groups, 0.3, 0), label_fraction(labels, groups, 0.3, 1))
    assert np.array_equal(label_fraction(labels, groups, 1.0, 0), np.arange(len(labels)))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_an_impossible_fraction_is_named(fraction):
    with pytest.raises(ConfigError, match="label_fraction"):
        label_fraction(np.zeros(3, dtype=int), ["a", "b", "c"], fraction, 0)


def test_sampler_settings_are_named():
    with pytest.raises(ConfigError, match="balance"):
        KeyedSampler(np.zeros(3, dtype=int), 0, "both")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rank 2"):
        KeyedSampler(np.zeros(3, dtype=int), 0, rank=2, replicas=2)
