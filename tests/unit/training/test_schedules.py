import dataclasses

import pytest

from dermonas.training.recipes import recipe
from dermonas.training.schedules import drop_path_probability, learning_rate
from dermonas.training.settings import TrainSettings


def test_isic_decays_by_a_hundredth_every_three_and_a_half_epochs():
    settings = recipe("isic2019-paper").settings
    # floor(epoch / 3.5) by hand: steps at 4, 7, 11, 14, 18, 21
    powers = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 6]
    rates = [learning_rate(settings, epoch) for epoch in range(22)]
    assert rates == pytest.approx([0.02 * 0.99**power for power in powers])
    assert rates[4] == pytest.approx(0.0198)
    assert learning_rate(settings, 299) == pytest.approx(0.02 * 0.99**85)


def test_imagenet_decays_every_two_and_a_half_epochs():
    settings = recipe("imagenet-paper").settings
    rates = [learning_rate(settings, epoch) for epoch in (0, 2, 3, 4, 5, 7, 8, 10, 249)]
    assert rates == pytest.approx([0.1 * 0.97**power for power in (0, 0, 1, 1, 2, 2, 3, 4, 99)])


def test_cifar_follows_a_cosine_to_nothing():
    settings = recipe("cifar10-paper").settings
    assert learning_rate(settings, 0) == 0.025
    assert learning_rate(settings, 200) == pytest.approx(0.025 * 0.75)
    assert learning_rate(settings, 300) == pytest.approx(0.0125)
    assert learning_rate(settings, 400) == pytest.approx(0.025 * 0.25)
    assert learning_rate(settings, 599) == pytest.approx(1.7134e-7, rel=1e-4)  # .0125 (pi / 600)^2 / 2


def test_unnas_warms_up_over_five_epochs():
    settings = recipe("imagenet-unnas").settings
    rates = [learning_rate(settings, epoch) for epoch in range(6)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])
    assert learning_rate(settings, 5 + 245 // 5) == pytest.approx(0.5 * (1 + 0.8090169943749475) / 2)  # cos 36 degrees


def test_warm_up_comes_before_the_exponential_schedule_too():
    settings = TrainSettings(
        epochs=9, batch_size=2, learning_rate=1.0, schedule="exponential", decay=0.5, period=2, warmup=2
    )
    assert [learning_rate(settings, epoch) for epoch in range(6)] == [0.5, 1.0, 1.0, 1.0, 0.5, 0.5]


def test_drop_path_rises_from_nothing():
    settings = dataclasses.replace(recipe("isic2019-paper").settings, epochs=4)
    assert [drop_path_probability(settings, epoch) for epoch in range(4)] == pytest.approx([0, 0.05, 0.1, 0.15])
