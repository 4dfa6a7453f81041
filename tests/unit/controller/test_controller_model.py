"""The controller's sizes, its forward pass against one written out, and greedy decoding step by step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dermonas.controller.model import Controller, ControllerSettings, Encoded, pooled
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.errors import ConfigError
from tests.unit.controller.cells import some_cells


def controller(seed: int = 0, **sizes: int) -> Controller:
    """One whose decoder reacts enough that its decisions differ."""
    made = Controller(ControllerSettings(**{"vocabulary": 7, "length": 27, **sizes}), seed).double().eval()
    with torch.no_grad():
        for value in made.decoder.recurrent.parameters():
            value.mul_(2)
    return made


def tokens(count: int = 6) -> Tensor:
    language = NasBench101Language()
    return torch.from_numpy(language.encode(some_cells(language, count)))


def count(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def test_the_papers_controller_has_its_parameters():
    made = controller()
    assert count(made) == 10_312
    assert count(made.encoder) + count(made.predictor) == 7_137
    assert count(made.decoder) == 3_175


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def lstm_cell(lstm: torch.nn.LSTM, suffix: str, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One LSTM step of one sequence from the weights."""
    w, u = getattr(lstm, f"weight_ih_l0{suffix}"), getattr(lstm, f"weight_hh_l0{suffix}")
    gates = w @ x + getattr(lstm, f"bias_ih_l0{suffix}") + u @ h + getattr(lstm, f"bias_hh_l0{suffix}")
    i, f, g, o = gates.chunk(4)
    c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
    return sigmoid(o) * torch.tanh(c), c


def slow_encode(made: Controller, sequence: list[int]) -> tuple[Tensor, Tensor]:
    part = made.encoder
    symbols = [part.symbols.weight[token] for token in sequence]
    runs = []
    for suffix, order in (("", range(27)), ("_reverse", range(26, -1, -1))):
        h = c = torch.zeros(16, dtype=torch.float64)
        states = {}
        for position in order:
            h, c = lstm_cell(part.recurrent, suffix, symbols[position], h, c)
            states[position] = h
        runs.append(states)
    outputs = []
    for position in range(27):
        both = torch.cat([runs[0][position], runs[1][position]])
        out = part.project.weight @ both + part.project.bias + symbols[position]
        outputs.append(out / out.norm())
    mean = sum(outputs) / 27
    return torch.stack(outputs), mean / mean.norm()


def slow_step(made: Controller, token: int, outputs: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of the token after `token`."""
    part = made.decoder
    symbol = part.symbols.weight[token]
    h, c = lstm_cell(part.recurrent, "", symbol, h, c)
    state = (h + symbol) * math.sqrt(0.5)
    weight = torch.exp(outputs @ (part.query.weight @ state))
    mix = (weight / weight.sum()) @ outputs
    attended = torch.tanh(part.combine.weight @ torch.cat([mix, state]))
    logits = part.logits.weight @ ((attended + state) * math.sqrt(0.5)) + part.logits.bias
    return logits - torch.log(torch.exp(logits).sum()), h, c


def slow_generate(made: Controller, outputs: Tensor, embedding: Tensor, allowed: Tensor | None) -> list[int]:
    h = c = embedding
    sequence = [0]
    for position in range(27):
        scores, h, c = slow_step(made, sequence[-1], outputs, h, c)
        order = scores.argsort(descending=True).tolist()
        sequence.append(next(s for s in order if allowed is None or allowed[position, s]))
    return sequence[1:]


@torch.no_grad()
def test_the_forward_pass_is_that_of_the_formulas():
    made, batch = controller(), tokens()
    encoded = made.encoder(batch)
    scores = made.log_probabilities(batch, encoded)
    values = made.predictor(encoded.embedding)
    for row, sequence in enumerate(batch.tolist()):
        outputs, embedding = slow_encode(made, sequence)
        torch.testing.assert_close(encoded.outputs[row], outputs)
        torch.testing.assert_close(encoded.embedding[row], embedding)
        h = c = embedding
        for position, before in enumerate([0, *sequence[:-1]]):
            expected, h, c = slow_step(made, before, outputs, h, c)
            torch.testing.assert_close(scores[row, position], expected)
        part = made.predictor
        hidden = torch.relu(part.widen.weight @ embedding + part.widen.bias)
        hidden = torch.relu(part.narrow.weight @ hidden + part.narrow.bias)
        value = part.value.weight[0] @ ((embedding + hidden) * math.sqrt(0.5)) + part.value.bias[0]
        torch.testing.assert_close(values[row], sigmoid(value))


@pytest.mark.parametrize("constrained", [False, True])
@torch.no_grad()
def test_greedy_decoding_equals_one_step_after_the_other(constrained):
    made = controller()
    allowed = torch.from_numpy(NasBench101Language().allowed) if constrained else None
    noise = torch.randn(8, 27, 16, dtype=torch.float64)
    outputs = noise / noise.norm(dim=2, keepdim=True)  # points that are no cell's
    encoded = Encoded(outputs, pooled(outputs))
    found = made.generate(encoded, allowed)
    expected = [slow_generate(made, outputs[row], encoded.embedding[row], allowed) for row in range(8)]
    assert found.tolist() == expected
    assert len({tuple(row) for row in expected}) > 1
    if constrained:
        reasons = NasBench101Language().decode(found.numpy()).reasons
        assert not {"no output", "output on a connection"} & set(reasons)


@torch.no_grad()
def test_a_batch_of_one_keeps_its_axis():
    made, batch = controller(), tokens()
    encoded = made.encoder(batch)
    alone = made.encoder(batch[:1])
    torch.testing.assert_close(alone.outputs, encoded.outputs[:1])
    torch.testing.assert_close(made.predictor(alone.embedding), made.predictor(encoded.embedding)[:1])
    assert made.generate(alone).shape == (1, 27)
    assert made.predictor(alone.embedding).shape == (1,)


def test_weights_follow_from_the_seed_and_leave_the_generator_alone():
    before = torch.get_rng_state()
    one, same, other = (Controller(ControllerSettings(7, 27), seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    assert not torch.equal(one["encoder.symbols.weight"], other["encoder.symbols.weight"])


def test_sizes_are_checked():
    with pytest.raises(ConfigError, match="hidden: 0"):
        ControllerSettings(7, 27, hidden=0)
