"""Neighbours of the best cells beside what is decoded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.pool import predict
from dermonas.controller.proposal import ProposalSettings, propose
from tests.unit.controller.cells import LANGUAGES, NAMES, some_cells


@pytest.fixture(params=LANGUAGES, ids=NAMES)
def language(request):
    return request.param


@pytest.fixture
def call(language):
    """Arguments of `propose` up to the settings, with an untrained controller and four cells, of which three seeds."""
    thetas = some_cells(language, 4)
    thetas = np.array([language.space.canonical(tuple(theta)) for theta in thetas.tolist()])
    controller = Controller(ControllerSettings(language.vocabulary, language.length, hidden=8, mlp_hidden=8), 3).eval()
    known = {language.space.digest(tuple(theta)) for theta in thetas.tolist()}
    return controller, language, thetas[:3], known, language.encode(thetas)


def expected(call, seeds: int) -> list[str]:
    """Digests of the neighbours of the first seeds that are new, by falling predicted value, each once."""
    controller, language, thetas, known, _ = call
    near = list(dict.fromkeys(n for theta in thetas[:seeds].tolist() for n in language.space.neighbours(tuple(theta))))
    values = predict(controller, torch.from_numpy(language.encode(np.array(near))))
    order = sorted(range(len(near)), key=lambda place: (-values[place], place))
    digests = dict.fromkeys(language.space.digest(near[place]) for place in order)
    return [digest for digest in digests if digest not in known]


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("near", "least"), [(0.0, 0), (0.5, 5), (0.8, 7), (1.0, 9)])
def test_the_best_predicted_neighbours_have_their_share_of_a_round(call, seeds, near, least):
    found = propose(*call, ProposalSettings(count=9, steps=3, constrained=True, neighbours=seeds, near=near), 0, 0)
    assert [c.digest for c in found.candidates][:least] == expected(call, seeds)[:least]
    assert found.neighbours >= least
    assert found.neighbours == sum(not candidate.step for candidate in found.candidates)
    assert all(0 <= candidate.seed < seeds for candidate in found.candidates if not candidate.step)
    assert len({candidate.digest for candidate in found.candidates}) == 9
    assert found.fallbacks == 0


def test_they_take_what_the_decoder_leaves(call):
    alone = propose(*call, ProposalSettings(count=9, steps=1, at_least=0), 0, 0)
    assert len(alone.candidates) < 5  # an untrained decoder
    both = propose(*call, ProposalSettings(count=9, steps=1, at_least=0, neighbours=3, near=0.5), 0, 0)
    assert len(both.candidates) == 9
    decoded = {candidate.digest for candidate in both.candidates if candidate.step}
    assert decoded <= {candidate.digest for candidate in alone.candidates}
    near = [candidate.digest for candidate in both.candidates if not candidate.step]
    assert near == [digest for digest in expected(call, 3) if digest not in decoded][: len(near)]


def test_without_them_nothing_but_decoded_cells_and_positives_stands(call):
    found = propose(*call, ProposalSettings(count=9, steps=3, at_least=2), 0, 0)
    assert found.neighbours == 0
    assert sum(not candidate.step for candidate in found.candidates) == found.fallbacks
