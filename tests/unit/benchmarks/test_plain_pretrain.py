"""The plain pretraining, which edits cell by cell, is the same pretraining."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.controller_pretrain import PlainLoop
from dermonas.controller.anchors import anchors_of
from dermonas.controller.darts import DartsLanguage
from dermonas.controller.language import uniforms
from dermonas.controller.pretrain import PretrainSettings, pretrain


@pytest.mark.parametrize("nodes", [4, 5])
def test_positives_drawn_cell_by_cell_are_those_drawn_together(nodes: int) -> None:
    language, anchors = anchors_of(f"darts{nodes}", seed=1, count=150)
    assert isinstance(language, DartsLanguage)
    plain = PlainLoop(language, anchors, PretrainSettings())
    numbers = uniforms(language, 3, 0, range(len(anchors)), 4)
    wanted = language.positives(anchors, numbers)
    found = [
        [plain.positive(theta, row) for row in rows]
        for theta, rows in zip(anchors.tolist(), numbers.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(found, wanted.thetas)
    assert set(np.unique(wanted.distance)) == {1, 2, 3}


def test_both_pretrainings_have_the_same_losses() -> None:
    language, anchors = anchors_of("darts5", seed=1, count=80)
    assert isinstance(language, DartsLanguage)
    settings = PretrainSettings(iterations=3, log_every=1, batch_size=64, seed=4)
    plain = PlainLoop(language, anchors, settings)
    plain()
    ours = [
        (report["pretrain/reconstruction"], report["pretrain/metric"])
        for report in pretrain(language, anchors, settings).history
    ]
    np.testing.assert_allclose(plain.history, ours, atol=1e-5)
    assert ours[-1][0] < ours[0][0]
