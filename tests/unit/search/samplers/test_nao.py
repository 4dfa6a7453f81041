"""Search by nao: the initial pool, candidates in order, and all of it again by hand."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from nao_fakes import COUNT, DOMAINS, INITIAL, NB201, controller_for, sampler_for, searched, settings
from sampler_fakes import drive, every, new_study, record, separable

from dermonas.controller.languages import language_of
from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.pool import Target, train_on_pool
from dermonas.controller.proposal import propose
from dermonas.controller.storage import weights_digest
from dermonas.errors import ConfigError
from dermonas.search.samplers.nao import NaoSampler
from dermonas.seeding import numpy_generator
from dermonas.space.darts import DartsSpace


@pytest.fixture(params=DOMAINS)
def domain(request):
    return DOMAINS[request.param]


def priors(domain, count):
    """What the prior gives trials 0, 1, ... of seed 1."""
    return [domain.sample(numpy_generator(1, "sampler", "nao", number)) for number in range(count)]


def across(domain, theta):
    """A theta of the language's space, for the network of one of the searched space."""
    space = language_of(domain).space
    return space.theta(domain.genotype(theta)) if isinstance(domain, DartsSpace) else space.canonical(theta)


def back(domain, theta):
    space = language_of(domain).space
    return domain.theta(space.genotype(theta)) if isinstance(domain, DartsSpace) else domain.canonical(theta)


def by_hand(domain, how, score, rounds):
    """Thetas of a search without duplicates, from spec/nao.md 5 alone: one controller goes through all rounds."""
    controller, language = controller_for(domain), language_of(domain)
    thetas = priors(domain, how.initial)
    losses = [score(domain.canonical(theta)) for theta in thetas]
    worst = float(np.median(losses))
    best = min(losses) - (worst - min(losses))
    for number in range(rounds):
        cells = np.array([across(domain, theta) for theta in thetas])
        tokens = language.encode(cells)
        targets = np.clip([(worst - loss) / (worst - best) for loss in losses], 0, 1).astype(np.float32)
        controller = train_on_pool(
            controller, torch.from_numpy(tokens), torch.from_numpy(targets), how.pool, 1, number
        ).controller
        seeds = cells[sorted(range(len(losses)), key=lambda row: losses[row])[: how.seeds]]
        known = {domain.digest(theta) for theta in thetas}
        found = propose(controller, language, seeds, known, tokens, how.proposal, 1, number)
        new = [back(domain, candidate.theta) for candidate in found.candidates]
        thetas += new
        losses += [score(domain.canonical(theta)) for theta in new]
    return thetas


@pytest.mark.parametrize("ascent", ["growing", "iterative"])
def test_rounds_equal_a_reference_by_hand(domain, ascent):
    score = separable(domain, 0)
    sampler = sampler_for(domain, ascent=ascent)
    thetas, _ = searched(sampler, INITIAL + 3 * COUNT, score=score)
    assert thetas == by_hand(domain, settings(ascent=ascent), score, 3)
    assert [made.first for made in sampler.rounds] == [6, 11, 16]
    assert [made.pool for made in sampler.rounds] == [6, 11, 16]


def test_the_prior_is_drawn_until_enough_distinct_networks_are_complete(domain):
    draws = priors(domain, 12)
    records = [record(n, theta, float(n), digest=domain.digest(theta)) for n, theta in enumerate(draws[:4])]
    # Trial 4 repeats a network, 5 failed, 6 was pruned: none of them fills the pool.
    records.append(replace(records[1], number=4, duplicate=True))
    records.append(record(6, draws[6], 0.0, pruned_at=1, digest=domain.digest(draws[6])))
    records.append(record(7, draws[7], 7.0, digest=domain.digest(draws[7])))
    sampler = sampler_for(domain)
    assert [sampler.theta(records, number) for number in (8, 9)] == draws[8:10]
    assert sampler.rounds == []
    records.append(record(9, draws[9], 9.0, digest=domain.digest(draws[9])))  # trial 8 still runs
    theta = sampler.theta(records, 10)
    assert [(made.first, made.pool) for made in sampler.rounds] == [(10, 7)]  # six complete, one pruned
    assert theta == sampler.rounds[0].candidates[0] != draws[10]


def test_candidates_are_taken_in_order_and_once_whatever_becomes_of_them(domain):
    silent = {7, 9, *range(11, 16), 17}  # of the second round no trial ends at all
    sampler = sampler_for(domain)
    thetas, records = searched(sampler, INITIAL + 4 * COUNT, silent=silent)
    made = sampler.rounds
    assert [one.first for one in made] == [6, 11, 16, 21]
    assert [one.pool for one in made] == [6, 9, 9, 13]
    assert [theta for one in made for theta in one.candidates] == thetas[INITIAL:]
    found = [domain.digest(theta) for theta in thetas]
    assert len(set(found)) == len(found)
    assert [one.number for one in made] == [0, 1, 2, 3]
    assert not any(r.duplicate for r in records)


def test_parallel_asks_take_the_next_candidates():
    _, records = searched(sampler_for(), INITIAL)
    sampler = sampler_for()
    numbers = range(INITIAL, INITIAL + COUNT + 2)
    asked = [sampler.theta(records, number) for number in reversed(numbers)][::-1]
    assert asked == [theta for made in sampler.rounds for theta in made.candidates][: COUNT + 2]
    assert len({NB201.digest(theta) for theta in asked}) == COUNT + 2
    assert [sampler_for().theta(records, number) for number in numbers] == asked


def test_rounds_can_be_had_from_the_history_alone():
    """A search that was killed after its last trial asks for nothing when it goes on, and has them all the same."""
    sampler = sampler_for()
    _, records = searched(sampler, INITIAL + 2 * COUNT + 1)
    sampler.theta(records[:-1], INITIAL + 2 * COUNT)
    kept = sampler.rounds
    again = sampler_for().rounds_of(records)
    assert [one.candidates for one in again] == [one.candidates for one in kept]
    assert [one.first for one in again] == [6, 11, 16]
    assert all(a is b for a, b in zip(sampler.rounds_of(records), kept, strict=True))
    # A round that only trials without a record asked for is none of them.
    sampler.theta(records, INITIAL + 3 * COUNT)
    assert len(sampler.rounds) == 4
    assert sampler.rounds_of(records) == kept
    assert sampler_for().rounds_of(records[: INITIAL - 1]) == sampler_for().rounds_of([]) == []


def test_a_maximised_study_is_searched_upwards():
    score = separable(NB201, 0)
    down, up = sampler_for(), sampler_for()
    trials = INITIAL + 2 * COUNT + 1
    lower = drive(new_study(sampler=down), down, score, trials)
    higher = drive(new_study(sampler=up, direction="maximize"), up, lambda theta: -score(theta), trials)
    assert higher == lower
    assert [made.rank_correlation for made in up.rounds] == [made.rank_correlation for made in down.rounds]


def test_a_given_target_is_what_the_predictor_learns():
    _, records = searched(sampler_for(), INITIAL)
    scores = [r.value for r in records]
    same, other = Target.of_losses(scores), Target(max(scores), min(scores))
    errors = []
    for target in (None, same, other):
        sampler = sampler_for(target=target)
        sampler.theta(records, INITIAL)
        errors.append(sampler.rounds[0].error)
    assert errors[0] == errors[1] != errors[2]


def test_equal_scores_are_no_hindrance(domain):
    sampler = sampler_for(domain)
    thetas, _ = searched(sampler, INITIAL + COUNT + 1, score=lambda theta: 2.5)
    assert len({domain.digest(theta) for theta in thetas}) == len(thetas)
    assert all(np.isnan(made.rank_correlation) for made in sampler.rounds)


def test_a_space_that_is_searched_through_still_answers():
    networks = {NB201.digest(theta): theta for theta in every(NB201)}
    records = [record(n, theta, float(n), digest=digest) for n, (digest, theta) in enumerate(networks.items())]
    first = len(records)
    sampler = sampler_for(initial=first, pool=replace(settings().pool, epochs=1, batch_size=4096))
    theta = sampler.theta(records, first)
    (made,) = sampler.rounds
    assert made.candidates == (theta,)
    assert made.pool == first
    assert NB201.digest(theta) in networks


def test_nothing_else_moves(domain):
    """No global generator, and not the controller that was given."""
    controller = controller_for(domain)
    weights = weights_digest(controller)
    _, records = searched(sampler_for(domain), INITIAL)
    python, legacy, mine = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    sampler = NaoSampler(domain, 1, controller, settings())
    sampler.theta(records, INITIAL + COUNT)
    assert random.getstate() == python
    assert all(np.array_equal(a, b) for a, b in zip(legacy, np.random.get_state(), strict=True))  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), mine)
    assert weights_digest(controller) == weights
    assert not controller.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in controller.parameters())
    assert len({weights, *(weights_digest(made.controller) for made in sampler.rounds)}) == 3


def test_a_controller_of_another_space_is_refused():
    with pytest.raises(ConfigError, match="give one that was pretrained on nasbench201"):
        NaoSampler(NB201, 1, controller_for(DOMAINS["darts"]))
    with pytest.raises(ConfigError, match="no controller speaks of"):
        NaoSampler(DartsSpace(nodes=4, encoding="all"), 1, Controller(ControllerSettings(5, 5)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"initial": 1}, "initial is 1"),
        ({"seeds": 0}, "seeds is 0"),
        ({"count": 0, "at_least": 0}, "count: 0"),
        ({"steps": 0}, "steps: 0"),
        ({"at_least": 6}, "at_least: 6 is more than count"),
        ({"target": Target(0.1, 0.9)}, "worst 0.1 is below best 0.9"),
    ],
)
def test_impossible_settings_are_refused(changed, message):
    with pytest.raises(ConfigError, match=message):
        settings(**changed)
