"""Pretraining: one step by its formula, resume, rates, what is told and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses, miners

from dermonas.controller.batches import Batches
from dermonas.controller.darts import DartsLanguage
from dermonas.controller.losses import METRICS
from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.controller.nasbench201 import NasBench201Language
from dermonas.controller.pretrain import CHECKPOINT, PretrainSettings, pretrain
from dermonas.errors import ConfigError, SearchError, StorageError
from dermonas.events import Silent
from dermonas.space.nasbench101_graphs import every_graph
from tests.unit.controller.cells import some_cells

LANGUAGE = NasBench101Language()
GRAPHS = every_graph(5)
SMALL = PretrainSettings(iterations=12, batch_size=32, log_every=3, checkpoint_every=3, milestones=(7,), positives=3)


def small(**changes: object) -> PretrainSettings:
    return PretrainSettings(**{**SMALL.__dict__, **changes})


class Reports(Silent):
    """Keeps what it is told; stops after a number of reports."""

    def __init__(self, stop: int = 10**9) -> None:
        self.stop, self.epochs, self.metrics, self.begun, self.ended = stop, [], [], {}, {}

    def started(self, stage, total, info):
        self.begun = {"stage": stage, "total": total, **info}

    def epoch(self, number, epoch, metrics):
        self.epochs.append(epoch)
        self.metrics.append(dict(metrics))
        if len(self.epochs) == self.stop:
            raise KeyboardInterrupt

    def finished(self, stage, metrics):
        self.ended = dict(metrics)


def weights(controller):
    return {key: value.clone() for key, value in controller.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("metric", ["MarginLoss", "NoMetricLoss"])
def test_one_step_is_the_gradient_of_reconstruction_plus_weighed_metric(metric):
    settings = small(metric=metric, iterations=1, learning_rate=0.5, weight=0.3 if metric == "MarginLoss" else None)
    found = pretrain(LANGUAGE, GRAPHS, settings)
    made = Controller(ControllerSettings(7, 27), settings.seed)
    batch = Batches(LANGUAGE, GRAPHS, 32, 3, settings.seed, "redraw")[0]
    encoded = made.encoder(batch.tokens)
    scores = made.log_probabilities(batch.tokens, encoded)
    loss = -scores.gather(2, batch.tokens[:, :, None]).mean()
    if metric == "MarginLoss":
        triplets = miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard")(encoded.embedding, batch.labels)
        loss = loss + 0.3 * losses.MarginLoss(triplets_per_anchor="all")(encoded.embedding, batch.labels, triplets)
    loss.backward()
    expected = {
        key: value - 0.5 * value.grad if value.grad is not None else value for key, value in made.named_parameters()
    }
    untouched = [key for key, value in made.named_parameters() if value.grad is None]
    assert all(key.startswith("predictor") for key in untouched)
    assert untouched
    for key, value in found.controller.named_parameters():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-7)
    right = scores.argmax(dim=2) == batch.tokens
    assert found.history[0]["pretrain/token_accuracy"] == pytest.approx(right.float().mean().item())
    assert found.history[0]["pretrain/masked_accuracy"] == pytest.approx(right[batch.tokens > 0].float().mean().item())
    assert found.history[0]["pretrain/metric"] > 0


@pytest.mark.parametrize("metric", ["MarginLoss", "NoMetricLoss"])
def test_a_resumed_pretraining_ends_bit_equal(tmp_path, metric):
    settings = small(metric=metric)
    whole = Reports()
    expected = pretrain(LANGUAGE, GRAPHS, settings, observer=whole)
    with pytest.raises(KeyboardInterrupt):  # killed in the third stretch, before its checkpoint
        pretrain(LANGUAGE, GRAPHS, settings, observer=Reports(stop=3), folder=tmp_path)
    rest = Reports()
    found = pretrain(LANGUAGE, GRAPHS, settings, observer=rest, folder=tmp_path)
    assert rest.begun["resumed_at"] == 6
    assert rest.epochs == [8, 11]
    assert whole.epochs == [2, 5, 8, 11]
    assert found.history == expected.history
    assert same(weights(found.controller), weights(expected.controller))
    again = pretrain(LANGUAGE, GRAPHS, settings, folder=tmp_path)
    assert same(weights(again.controller), weights(expected.controller))
    longer = pretrain(LANGUAGE, GRAPHS, small(metric=metric, iterations=15), folder=tmp_path)
    assert same(
        weights(longer.controller), weights(pretrain(LANGUAGE, GRAPHS, small(metric=metric, iterations=15)).controller)
    )
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_what_is_told(tmp_path):
    told = Reports()
    done = pretrain(LANGUAGE, GRAPHS, small(iterations=10), observer=told, folder=tmp_path)
    assert told.begun["stage"] == "controller"
    assert told.begun["total"] == 10
    assert told.begun["weight"] == METRICS["MarginLoss"].weight
    assert told.epochs == [2, 5, 8, 9]
    assert [m["pretrain/learning_rate"] for m in told.metrics] == pytest.approx([1.0, 1.0, 0.2, 0.2])
    assert told.ended == told.metrics[-1]
    assert told.metrics[-1]["pretrain/reconstruction"] < told.metrics[0]["pretrain/reconstruction"]
    assert not done.controller.training


@pytest.mark.parametrize("language", [NasBench201Language(), DartsLanguage(4)], ids=["nasbench201", "darts4"])
def test_every_space_can_be_learned(language):
    settings = small(iterations=60, log_every=20, checkpoint_every=20, milestones=(), metric="NoMetricLoss")
    history = pretrain(language, some_cells(language, 200), settings).history
    assert history[-1]["pretrain/token_accuracy"] > history[0]["pretrain/token_accuracy"]
    assert history[-1]["pretrain/token_accuracy"] == history[-1]["pretrain/masked_accuracy"]  # nothing is padded


def test_a_batch_holds_whole_classes_and_an_epoch_every_anchor_once():
    batches = Batches(LANGUAGE, GRAPHS[:50], 32, 3, seed=1, fallback="redraw")
    assert batches.an_epoch == 6
    anchors, graph = LANGUAGE.encode(GRAPHS[:50]).tolist(), LANGUAGE.space.digest
    orders = []
    for epoch in range(2):
        order = []
        for number in range(6):
            batch = batches[epoch * 6 + number]
            assert batch.labels.tolist() == [label for label in range(8) for _ in range(4)]
            order += [anchors.index(row) for row in batch.tokens[::4].tolist()]
            cells = [graph(tuple(theta)) for theta in LANGUAGE.decode(batch.tokens.numpy()).thetas.tolist()]
            equal = sum(cells[i] == cells[i // 4 * 4] for i in range(32) if i % 4)
            assert equal == batch.unedited
        assert len(set(order)) == len(order) == 48
        orders.append(order)
    assert orders[0] != orders[1]


def test_the_reconstruction_counts_padding():
    """Graphs of two vertices: two tokens and 25 pads, on which accuracy soon is high."""
    edge = np.repeat(every_graph(2), 8, axis=0)
    settings = small(iterations=30, log_every=30, checkpoint_every=30, metric="NoMetricLoss", milestones=())
    last = pretrain(LANGUAGE, edge, settings).history[-1]
    assert last["pretrain/unedited"] == 30 * 24
    assert last["pretrain/token_accuracy"] > last["pretrain/masked_accuracy"]


def test_a_checkpoint_of_another_pretraining_is_refused(tmp_path):
    pretrain(LANGUAGE, GRAPHS, SMALL, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"another seed \(0, now 1\)"):
        pretrain(LANGUAGE, GRAPHS, small(seed=1), folder=tmp_path)
    with pytest.raises(ConfigError, match="another anchors"):
        pretrain(LANGUAGE, GRAPHS[1:], SMALL, folder=tmp_path)
    with pytest.raises(ConfigError, match="holds 12 iterations, more than 9"):
        pretrain(LANGUAGE, GRAPHS, small(iterations=9), folder=tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"half a fi")
    with pytest.raises(StorageError, match="is damaged"):
        pretrain(LANGUAGE, GRAPHS, SMALL, folder=tmp_path)


def test_a_loss_that_is_no_number_stops_the_pretraining(tmp_path):
    with pytest.raises(SearchError, match="lower learning_rate"):
        pretrain(LANGUAGE, GRAPHS, small(learning_rate=1e30), folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_settings_are_checked():
    for changes, match in (
        ({"metric": "Margin"}, "'Margin' is unknown"),
        ({"iterations": 0}, "iterations: 0"),
        ({"weight": -1.0}, "weight: -1.0"),
        ({"checkpoint_every": 4}, "no multiple of log_every"),
        ({"metric": "NoMetricLoss", "weight": 0.5}, "has no effect"),
    ):
        with pytest.raises(ConfigError, match=match):
            small(**changes)
    with pytest.raises(ConfigError, match="multiple of 4"):
        pretrain(LANGUAGE, GRAPHS, small(batch_size=30))
    with pytest.raises(ConfigError, match="too few"):
        pretrain(LANGUAGE, GRAPHS[:7], SMALL)
    assert small(batch_size=None, metric="AngularLoss").resolved().batch_size == 256
