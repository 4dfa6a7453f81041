"""A program prepared for a server: equal answers, fewer steps, and the original where it cannot be prepared."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from packed import noise
from torch import nn

from dermonas.serving.program import export_program, load_program
from dermonas.serving.rest import tuned as module
from dermonas.serving.rest.tuned import tuned

NORM = torch.ops.aten.batch_norm.default


def norms(program):
    return [node for node in program.graph.nodes if node.target is NORM]


@pytest.mark.parametrize("tta", [False, True])
def test_answers_are_equal(packed, tta):
    quick = tuned(packed.served)
    assert quick.program is not packed.served.program
    views = torch.stack([packed.served.view(image) for image in noise()])
    for count in (1, 2, 7):
        wanted, found = (served.logits(views[:count], tta=tta) for served in (packed.served, quick))
        torch.testing.assert_close(torch.tensor(found.logits), torch.tensor(wanted.logits), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.features, wanted.features, rtol=1e-5, atol=1e-5)
        for a, b in zip(packed.served.answers(wanted, cam=True), quick.answers(found, cam=True), strict=True):
            assert (a["label"], a["abstain"]) == (b["label"], b["abstain"])


def test_batch_norms_behind_a_convolution_are_folded_and_the_original_is_left(cells):
    before = len(norms(cells.served.program))
    state = {name: value.clone() for name, value in cells.served.program.state_dict().items()}
    quick = tuned(cells.served).program.program
    assert 0 <= len(norms(quick)) < before / 2
    assert len(norms(cells.served.program)) == before
    assert all(torch.equal(value, state[name]) for name, value in cells.served.program.state_dict().items())


class Shared(nn.Module):
    """A convolution that a batch norm and something else use: folding would change the latter."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3, affine=False)
        self.norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
        self.norm.running_var.copy_(torch.tensor([0.5, 2.0, 4.0]))
        self.classifier = nn.Linear(3, 2)

    def logits_and_map(self, x):
        seen = self.convolution(x)
        features = self.norm(seen) + seen + self.norm(x)
        return self.classifier(features.mean(dim=(2, 3))), features


def test_what_folding_would_change_is_left(tiny, tmp_path):
    program = load_program(export_program(Shared().eval(), 32, tmp_path / "a.pt2"))
    quick = tuned(dataclasses.replace(tiny.served, program=program))
    assert len(norms(quick.program.program)) == 2
    views = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(quick.program(views), program(views), rtol=1e-5, atol=1e-5)


def test_a_program_that_would_answer_otherwise_is_not_used(cells, monkeypatch, caplog):
    monkeypatch.setattr(module, "_fold", lambda graph, node: node.replace_all_uses_with(node.args[0]))
    assert tuned(cells.served) is cells.served
    monkeypatch.setattr(module, "_fold", lambda graph, node: 1 / 0)
    assert tuned(cells.served) is cells.served
    assert [record.getMessage() for record in caplog.records].count("program not tuned") == 2
    plain = dataclasses.replace(cells.served, program=lambda views: (views, views))
    assert tuned(plain) is plain
