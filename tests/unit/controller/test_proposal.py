"""The search's steps: targets, training on the pool, the gradient step, what is accepted, and the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dermonas.controller.darts import DartsLanguage
from dermonas.controller.language import Language
from dermonas.controller.model import Controller, ControllerSettings, pooled
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.controller.nasbench201 import NasBench201Language
from dermonas.controller.pool import PoolSettings, Target, predict, train_on_pool
from dermonas.controller.pretrain import PretrainSettings, pretrain
from dermonas.controller.proposal import (
    IN_POOL,
    IN_ROUND,
    ProposalSettings,
    _Judge,
    moved,
    propose,
    value_gradient,
)
from dermonas.controller.storage import load_controller, save_controller
from dermonas.errors import ConfigError, SearchError, StorageError
from dermonas.seeding import torch_generator
from tests.unit.controller.cells import LANGUAGES, NAMES, some_cells

LANGUAGE = NasBench201Language()


def fresh(language: Language = LANGUAGE, seed: int = 0) -> Controller:
    return Controller(ControllerSettings(language.vocabulary, language.length), seed).eval()


def state(controller: Controller) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in controller.state_dict().items()}


def same(one: Controller, other: Controller) -> bool:
    first, second = state(one), state(other)
    return all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.fixture(scope="module")
def speaker() -> Controller:
    """A controller that reconstructs NAS-Bench-201's cells tolerably."""
    cells = np.array(LANGUAGE.space.representatives(), np.uint8)
    settings = PretrainSettings(metric="NoMetricLoss", iterations=400, batch_size=64, learning_rate=3.0, milestones=())
    done = pretrain(LANGUAGE, cells, settings)
    assert done.history[-1]["pretrain/token_accuracy"] > 0.9
    return done.controller


def pool_of(language: Language, count: int = 40):
    thetas = some_cells(language, count)
    tokens = torch.from_numpy(language.encode(thetas))
    targets = torch.from_numpy(Target(0.0, 1.0)(np.random.default_rng(0).random(count)))
    return thetas, tokens, targets


def test_targets_are_those_of_the_paper_and_turn_losses_round():
    accuracies = np.array([0.7, 0.8, 0.9, 0.95, 1.0])
    np.testing.assert_allclose(Target(0.8, 1.0)(accuracies), np.maximum(accuracies - 0.8, 0) * 5, atol=1e-6)
    target = Target.of_losses([90.0, 4.0, 5.0])  # a failure moves nothing
    np.testing.assert_allclose(target([5.0, 4.0, 3.0, 2.0, 6.0, 4.5]), [0.0, 0.5, 1.0, 1.0, 0.0, 0.25])
    # Most of the pool is equal, and the best: the worst is then the largest.
    np.testing.assert_allclose(Target.of_losses([4.0, 4.0, 5.0])([4.0, 5.0, 4.5]), [0.5, 0.0, 0.25])
    with pytest.raises(ConfigError, match="no range"):
        Target.of_losses([4.0, 4.0])


def test_a_round_on_the_pool_is_sgd_on_both_losses():
    """Written out with torch's own parts; also a last batch of one cell."""
    _, tokens, targets = pool_of(LANGUAGE, 5)
    settings = PoolSettings(epochs=2, batch_size=4, learning_rate=3.0, milestones=(7,), weight=0.25, clip=0.1)
    start = fresh()
    before = state(start)
    trained = train_on_pool(start, tokens, targets, settings, seed=1, round=3)
    assert all(torch.equal(value, before[key]) for key, value in start.state_dict().items())  # a copy was trained

    made = fresh()
    for number, rate in ((0, 3.0), (1, 0.3)):  # passes 6 and 7 over all rounds
        order = torch.randperm(5, generator=torch_generator(1, "pool", 3, number))
        for rows in (order[:4], order[4:]):
            encoded = made.encoder(tokens[rows])
            error = (made.predictor(encoded.embedding) - targets[rows]).pow(2).mean()
            scores = made.log_probabilities(tokens[rows], encoded)
            loss = 0.25 * error - 0.75 * scores.gather(2, tokens[rows][:, :, None]).mean()
            made.zero_grad()
            loss.backward()
            assert nn.utils.clip_grad_norm_(made.parameters(), 0.1) > 0.1
            with torch.no_grad():
                for value in made.parameters():
                    value -= rate * value.grad
    for key, value in made.state_dict().items():
        torch.testing.assert_close(trained.controller.state_dict()[key], value, rtol=1e-4, atol=1e-6)


def test_the_predictor_learns_and_may_learn_alone():
    _, tokens, targets = pool_of(LANGUAGE)
    start = fresh()
    first = train_on_pool(start, tokens, targets, PoolSettings(epochs=1), 0, 0)
    last = train_on_pool(start, tokens, targets, PoolSettings(epochs=60), 0, 0)
    assert last.error < first.error
    assert last.reconstruction < first.reconstruction
    np.testing.assert_allclose(((predict(last.controller, tokens) - targets.numpy()) ** 2).mean(), last.error, rtol=0.2)
    alone = train_on_pool(start, tokens, targets, PoolSettings(epochs=5, predictor_only=True), 0, 0).controller
    changed = {
        key.split(".")[0] for key, value in alone.state_dict().items() if not torch.equal(value, state(start)[key])
    }
    assert changed == {"predictor"}


def test_a_round_depends_on_its_arguments_alone():
    _, tokens, targets = pool_of(LANGUAGE)
    settings = PoolSettings(epochs=3, batch_size=16)

    def run(rounds, start):
        for number in rounds:
            start = train_on_pool(start, tokens, targets, settings, seed=5, round=number).controller
        return start

    half = run(range(2), fresh())
    assert same(run(range(2, 4), half), run(range(4), fresh()))
    assert not same(run([0], fresh()), run([1], fresh()))


def test_a_divergent_pool_says_so():
    _, tokens, targets = pool_of(LANGUAGE)
    with pytest.raises(SearchError, match="in round 2"):
        train_on_pool(fresh(), tokens, targets, PoolSettings(epochs=4, learning_rate=1e30), 0, 2)


@torch.no_grad()
def test_one_gradient_step_is_the_formula():
    """The gradient by central differences in double precision."""
    made = fresh().double()
    outputs = made.encoder(torch.from_numpy(LANGUAGE.encode(some_cells(LANGUAGE, 3)))).outputs

    def value(point):
        mean = point.mean(dim=1)
        return made.predictor(mean / mean.norm(dim=1, keepdim=True))

    slope, width = torch.zeros_like(outputs), 1e-6
    for position in range(6):
        for unit in range(16):
            nudge = torch.zeros_like(outputs)
            nudge[:, position, unit] = width
            slope[:, position, unit] = (value(outputs + nudge) - value(outputs - nudge)) / (2 * width)
    gradient = value_gradient(made, outputs)
    torch.testing.assert_close(gradient, slope, rtol=1e-5, atol=1e-9)
    assert gradient.abs().max() > 1e-5
    for step in (1, 40):
        point = moved(outputs, gradient, step)
        stepped = outputs + step * gradient
        stepped = stepped / stepped.norm(dim=2, keepdim=True)
        torch.testing.assert_close(point.outputs, stepped)
        torch.testing.assert_close(point.embedding, pooled(stepped))
    assert (value(moved(outputs, gradient, 1).outputs) > value(outputs)).all()


@pytest.mark.parametrize("ascent", ["growing", "iterative"])
def test_candidates_are_new_and_counted(speaker, ascent):
    thetas, tokens, targets = pool_of(LANGUAGE)
    trained = train_on_pool(speaker, tokens, targets, PoolSettings(epochs=30, learning_rate=1.0), 0, 0).controller
    digest = LANGUAGE.space.digest
    known = {digest(tuple(theta)) for theta in thetas.tolist()}
    settings = ProposalSettings(count=12, steps=40, ascent=ascent)
    call = (trained, LANGUAGE, thetas, known, tokens.numpy(), settings, 0, 1)
    found = propose(*call)
    assert found == propose(*call)
    digests = [candidate.digest for candidate in found.candidates]
    assert digests
    assert len(set(digests)) == len(digests) <= 12
    assert not known & set(digests)
    assert digests == [digest(candidate.theta) for candidate in found.candidates]
    assert all(LANGUAGE.space.canonical(c.theta) == c.theta for c in found.candidates)
    assert found.decoded == len(digests) + sum(found.rejected.values())
    assert found.rejected[IN_POOL] > 0
    assert 0 <= found.relabelled <= found.rejected[IN_POOL] + found.rejected.get(IN_ROUND, 0)
    steps = [candidate.step for candidate in found.candidates]
    assert steps == sorted(steps)
    assert len(digests) == 12 or found.decoded == 40 * 40


def test_growing_steps_start_from_the_seeds(speaker):
    """A candidate is what the decoder says at normalise(outputs + step * gradient) of its seed."""
    thetas, tokens, targets = pool_of(LANGUAGE)
    trained = train_on_pool(speaker, tokens, targets, PoolSettings(epochs=30, learning_rate=1.0), 0, 0).controller
    found = propose(trained, LANGUAGE, thetas, set(), tokens.numpy()[:0], ProposalSettings(count=60, steps=50), 0, 0)
    outputs = trained.encoder(tokens).outputs.detach()
    gradient = value_gradient(trained, outputs)
    assert {candidate.step for candidate in found.candidates} > {1}
    for candidate in found.candidates:
        row = slice(candidate.seed, candidate.seed + 1)
        said = trained.generate(moved(outputs[row], gradient[row], candidate.step)).numpy()
        theta = tuple(LANGUAGE.decode(said).thetas[0].tolist())
        assert LANGUAGE.space.digest(theta) == candidate.digest


@pytest.mark.parametrize("language", LANGUAGES, ids=NAMES)
def test_a_search_cannot_stall(language):
    """An untrained controller says nothing of use; positives of the seeds take its place."""
    thetas = some_cells(language, 10)
    tokens = language.encode(thetas)
    known = {language.space.digest(tuple(theta)) for theta in thetas.tolist()}
    call = (fresh(language), language, thetas[:3], known, tokens)
    found = propose(*call, ProposalSettings(count=8, steps=2, at_least=5), 0, 0)
    assert found.fallbacks >= 1
    assert len(found.candidates) >= 5
    assert [c.step for c in found.candidates][-found.fallbacks :] == [0] * found.fallbacks
    assert not known & {c.digest for c in found.candidates}
    assert found == propose(*call, ProposalSettings(count=8, steps=2, at_least=5), 0, 0)
    other = propose(*call, ProposalSettings(count=8, steps=2, at_least=5), 0, 1)
    assert other.candidates != found.candidates
    none = propose(*call, ProposalSettings(count=8, steps=2, at_least=0), 0, 0)
    assert none.fallbacks == 0


def test_an_exhausted_neighbourhood_ends():
    everything = {LANGUAGE.space.digest(theta) for theta in LANGUAGE.space.representatives()}
    thetas = some_cells(LANGUAGE, 4)
    found = propose(
        fresh(), LANGUAGE, thetas, everything, LANGUAGE.encode(thetas), ProposalSettings(count=3, steps=1), 0, 0
    )
    assert found.candidates == []
    assert found.fallbacks == 0


def test_a_relabelled_network_is_known_and_counted_as_the_papers_new():
    """Two orders of one NAS-Bench-101 graph: other tokens, one network."""
    language = NasBench101Language()
    # input -> a, b -> output with other operations on a and b
    one = [2, 3, 2, 1, 4, 1, 2, 2, 6] + [0] * 18
    other = [2, 4, 2, 1, 3, 1, 2, 2, 6] + [0] * 18
    theta = tuple(language.decode(np.array([one])).thetas[0].tolist())
    judge = _Judge(language, {language.space.digest(theta)}, np.array([one]), 4)
    judge.look(np.array([one, other, other]), 1)
    assert judge.rejected == {IN_POOL: 3}
    assert judge.relabelled == 1  # `one` is in the pool by its tokens, the second `other` was said before


def test_constrained_decoding_says_cells_only():
    language = DartsLanguage(4)
    thetas = some_cells(language, 6)
    settings = ProposalSettings(count=200, steps=3, constrained=True, at_least=0)
    found = propose(fresh(language), language, thetas, set(), language.encode(thetas), settings, 0, 0)
    assert "start symbol" not in found.rejected
    assert found.decoded == 18


def test_settings_of_search_are_checked():
    for make, match in (
        (lambda: ProposalSettings(count=0), "count: 0"),
        (lambda: ProposalSettings(count=2, at_least=3), "more than count"),
        (lambda: PoolSettings(epochs=0), "epochs: 0"),
        (lambda: PoolSettings(weight=0.0), "weight: 0.0"),
    ):
        with pytest.raises(ConfigError, match=match):
            make()
    assert [PoolSettings().rate(epoch) for epoch in (0, 1199, 1200, 2400)] == pytest.approx([0.1, 0.1, 0.01, 0.001])


def test_a_controller_file_keeps_weights_language_and_notes(tmp_path, speaker):
    path = tmp_path / "controller.pt"
    save_controller(path, speaker, LANGUAGE, {"metric": "MarginLoss", "rounds": 3, "history": [1.0, 2.0]})
    stored = load_controller(path, LANGUAGE)
    assert same(stored.controller, speaker)
    assert stored.language == "nasbench201"
    assert stored.info == {"metric": "MarginLoss", "rounds": 3, "history": [1.0, 2.0]}
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ConfigError, match="trained on nasbench201, not on darts4-first2"):
        load_controller(path, DartsLanguage(4))


def test_a_file_that_is_no_controller_is_refused(tmp_path):
    with pytest.raises(StorageError, match="does not exist"):
        load_controller(tmp_path / "none.pt")
    path = tmp_path / "other.pt"
    torch.save({"weights": {}}, path)
    with pytest.raises(StorageError, match="is no controller"):
        load_controller(path)
    save_controller(path, fresh(), LANGUAGE, {})
    content = torch.load(path, weights_only=True)
    torch.save({**content, "settings": {**content["settings"], "hidden": 8}}, path)
    with pytest.raises(StorageError, match="do not fit"):
        load_controller(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StorageError, match="is damaged"):
        load_controller(path)
    with pytest.raises(StorageError, match="cannot write"):
        save_controller(tmp_path / "no folder" / "c.pt", fresh(), LANGUAGE, {})
