import pytest
import torch
from torch import nn

from dermonas.training.ema import Ema


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_the_average_equals_its_closed_form():
    network = _network()
    ema, decay, count = Ema(network, 0.5), 0.5, 12
    weights = [network[0].weight.detach().clone()]
    for _ in range(count):
        with torch.no_grad():
            network[0].weight.normal_()
        weights.append(network[0].weight.detach().clone())
        ema.update(network)
    rates = [min(decay, (1 + n) / (10 + n)) for n in range(1, count + 1)]
    assert rates[0] == pytest.approx(2 / 11)
    assert rates[-1] == 0.5
    # sum over n of (1 - d_n) w_n times the product of all later d
    expected = torch.zeros_like(weights[0])
    for n in range(count + 1):
        share = 1.0 if n == 0 else 1 - rates[n - 1]
        for later in rates[n:]:
            share *= later
        expected += share * weights[n]
    torch.testing.assert_close(ema.network[0].weight, expected)


def test_statistics_are_averaged_and_counts_copied():
    network = _network()
    ema = Ema(network, 0.9)
    network(torch.randn(8, 3) + 5)
    ema.update(network)
    expected = network[1].running_mean * (1 - 2 / 11)
    torch.testing.assert_close(ema.network[1].running_mean, expected)
    assert int(ema.network[1].num_batches_tracked) == 1


def test_it_stays_in_eval_mode_and_out_of_the_gradient():
    ema = Ema(_network(), 0.9)
    nn.ModuleList([ema]).train()
    assert not any(module.training for module in ema.modules())
    assert not any(parameter.requires_grad for parameter in ema.parameters())


def test_its_state_carries_the_number_of_updates():
    network = _network()
    ema, fresh = Ema(network, 0.9), Ema(_network(), 0.9)
    ema.update(network)
    fresh.load_state_dict(ema.state_dict())
    assert fresh.updates == 1
    with torch.no_grad():
        network[0].weight.fill_(1)
    ema.update(network)
    fresh.update(network)
    assert all(torch.equal(a, b) for a, b in zip(ema.network.parameters(), fresh.network.parameters(), strict=True))
