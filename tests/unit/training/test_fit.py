"""Resume, best weights, early stop, and what a run leaves behind."""

import dataclasses
import random
import signal

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from dermonas.data.augmentation import Augment
from dermonas.errors import ConfigError, StorageError
from dermonas.events import Silent
from dermonas.training.checkpoints import BEST, LAST, best_epoch, exhausted, load_best
from dermonas.training.fit import fit
from dermonas.training.hardware import Hardware


class Listener(Silent):
    """Remembers events and the network's weights at the end of each epoch; may raise at one."""

    def __init__(self, network=None, fail_at=None, error=RuntimeError):
        self.events, self.weights = [], []
        self.network, self.fail_at, self.error = network, fail_at, error

    def started(self, stage, total, info):
        self.events.append(("started", stage, total, info["first_epoch"]))

    def epoch(self, number, epoch, metrics):
        if epoch == self.fail_at:
            raise self.error("stopped here")
        self.events.append(("epoch", number, epoch))
        if self.network is not None:
            self.weights.append({key: value.clone() for key, value in self.network.state_dict().items()})

    def artifact(self, path, folder=""):
        self.events.append(("artifact", path.name))

    def finished(self, stage, metrics):
        self.events.append(("finished", stage, metrics["best_epoch"]))


def _same(one, two) -> bool:
    one, two = (x.state_dict() if isinstance(x, nn.Module) else x for x in (one, two))
    return set(one) == set(two) and all(torch.equal(one[key], two[key]) for key in one)


class _StopsInside:
    """A transform that raises in the middle of an epoch."""

    def __init__(self, transform, epoch):
        self.transform, self.epoch, self.calls = transform, epoch, 0

    def __call__(self, image, epoch, index):
        self.calls += epoch == self.epoch
        if self.calls > 10:
            raise RuntimeError("stopped here")
        return self.transform(image, epoch, index)


@pytest.fixture(scope="module")
def uninterrupted(make, tmp_path_factory):
    network, threads = make.network(), torch.get_num_threads()
    torch.set_num_threads(1)  # as in the tests: sums depend on it
    trained = fit(network, make.data(), make.settings(), tmp_path_factory.mktemp("uninterrupted"), Silent())
    torch.set_num_threads(threads)
    return network, trained


@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("where", ["inside", "end"])
def test_a_resumed_training_ends_with_the_same_weights(make, tmp_path, uninterrupted, epoch, where):
    expected, outcome = uninterrupted
    listener = Listener(fail_at=epoch if where == "end" else None)
    transform = _StopsInside(Augment(make.augment, 0), epoch) if where == "inside" else None
    with pytest.raises(RuntimeError, match="stopped here"):
        fit(make.network(), make.data(train=transform), make.settings(), tmp_path / "run", listener)
    assert (tmp_path / "run" / LAST).exists() == (epoch > 0)
    network, listener = make.network(), Listener()
    again = fit(network, make.data(), make.settings(), tmp_path / "run", listener)
    assert listener.events[0] == ("started", "train", 3, epoch)
    assert [event[2] for event in listener.events if event[0] == "epoch"] == list(range(epoch, 3))
    assert again.history == outcome.history
    assert again.best == outcome.best
    assert _same(network, expected)
    assert _same(torch.load(tmp_path / "run" / BEST), torch.load(outcome.weights))


def test_workers_change_nothing_either_in_a_resume(make, tmp_path, uninterrupted):
    with pytest.raises(RuntimeError, match="stopped here"):
        fit(make.network(), make.data(), make.settings(), tmp_path / "run", Listener(fail_at=1))
    network = make.network()
    fit(network, make.data(), make.settings(), tmp_path / "run", Silent(), hardware=Hardware(workers=1))
    assert _same(network, uninterrupted[0])


def test_a_network_with_dropout_resumes_alike(make, tmp_path):
    settings = make.settings(drop_path=0.0, auxiliary=0.0)

    def network() -> nn.Module:
        torch.manual_seed(5)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

    whole, resumed = network(), network()
    fit(whole, make.data(), settings, tmp_path / "whole", Silent())
    with pytest.raises(RuntimeError, match="stopped here"):
        fit(network(), make.data(), settings, tmp_path / "run", Listener(fail_at=1))
    torch.manual_seed(99)  # whatever the state was
    fit(resumed, make.data(), settings, tmp_path / "run", Silent())
    assert _same(whole, resumed)


def test_no_global_random_state_is_changed(make, tmp_path):
    network, data = make.network(), make.data()
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(3)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    fit(network, data, make.settings(epochs=1), tmp_path, Silent())
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_run_does_not_depend_on_the_state_it_starts_from(make, tmp_path, uninterrupted):
    random.seed(11)
    np.random.seed(12)  # noqa: NPY002
    torch.manual_seed(13)
    network = make.network()
    fit(network, make.data(), make.settings(), tmp_path / "other", Silent())
    assert _same(network, uninterrupted[0])


def test_the_best_weights_are_those_of_the_best_validation_epoch(make, tmp_path):
    settings = make.settings(epochs=5, ema_decay=0.0, select="loss", learning_rate=0.3, schedule="exponential")
    network = make.network()
    listener = Listener(network)
    trained = fit(network, make.data(), settings, tmp_path, listener)
    losses = [metrics["validation/loss"] for metrics in trained.history]
    assert trained.best == int(np.argmin(losses))
    assert len(set(losses)) == 5
    best = make.network()
    load_best(best, tmp_path)
    assert _same(best, listener.weights[trained.best])
    assert _same(network, listener.weights[-1])
    # The figures are those of exactly the validation samples.
    best.eval()
    views = torch.stack([data[0] for data in map(make.data().validation.__getitem__, range(9))])
    with torch.no_grad():
        loss = nn.functional.cross_entropy(best(views), torch.from_numpy(make.data().validation.labels))
        predicted = best(views).argmax(dim=1).numpy()
    assert float(loss) == pytest.approx(losses[trained.best], rel=1e-4)
    labels, figures = make.data().validation.labels, trained.history[trained.best]
    assert figures["validation/accuracy"] == pytest.approx((predicted == labels).mean())
    assert figures["validation/balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_the_best_epoch_is_the_earliest_of_equals():
    history = [{"validation/accuracy": a, "validation/loss": b} for a, b in ((0.5, 2.0), (0.7, 1.5), (0.7, 1.0))]
    assert best_epoch(history, "accuracy") == 1
    assert best_epoch(history, "loss") == 2


def test_patience_ends_a_training_and_keeps_it_ended(make, tmp_path):
    settings = make.settings(epochs=9, patience=2, learning_rate=1e-9, ema_decay=0.0, select="accuracy", clip_norm=0.0)
    # The steps are too small to change a prediction, so no epoch is better than the first.
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    plain = dataclasses.replace(settings, drop_path=0.0, auxiliary=0.0)
    trained = fit(network, make.data(), plain, tmp_path, Silent())
    assert (trained.best, len(trained.history), trained.stopped_early) == (0, 3, True)
    listener, again = Listener(), nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    assert fit(again, make.data(), plain, tmp_path, listener) == trained
    assert [event[0] for event in listener.events] == ["started", "artifact", "finished"]
    assert _same(network, again)
    assert not exhausted(trained.history[:2], plain)


def test_a_finished_training_is_only_loaded(make, tmp_path):
    settings, network = make.settings(epochs=2), make.network()
    first = Listener()
    trained = fit(network, make.data(), settings, tmp_path, first, number=4)
    assert first.events == [
        ("started", "train", 2, 0),
        ("epoch", 4, 0),
        ("epoch", 4, 1),
        ("artifact", BEST),
        ("finished", "train", float(trained.best)),
    ]
    again = make.network()
    assert fit(again, make.data(), settings, tmp_path, Silent()) == trained
    assert _same(network, again)
    assert sorted(path.name for path in tmp_path.iterdir()) == [BEST, LAST]


def test_another_training_in_the_folder_is_refused_by_key(make, tmp_path):
    fit(make.network(), make.data(), make.settings(epochs=1), tmp_path, Silent())
    augment = dataclasses.replace(make.augment, cutout=4)
    with pytest.raises(ConfigError, match=r"augment\.cutout \(2, now 4\), epochs \(1, now 2\)"):
        fit(make.network(), make.data(), make.settings(epochs=2, augment=augment), tmp_path, Silent())
    with pytest.raises(ConfigError, match="another data"):
        fit(make.network(), make.data(21), make.settings(epochs=1), tmp_path, Silent())
    with pytest.raises(ConfigError, match=r"now 0\.0.*network"):
        fit(make.network(False), make.data(), make.settings(epochs=1, auxiliary=0.0), tmp_path, Silent())
    anew = fit(make.network(), make.data(), make.settings(epochs=2), tmp_path, Silent(), resume=False)
    assert len(anew.history) == 2


def test_a_damaged_checkpoint_and_a_refusing_disk_are_named(make, tmp_path):
    with pytest.raises(StorageError, match="train first"):
        load_best(make.network(), tmp_path)
    fit(make.network(), make.data(), make.settings(epochs=1), tmp_path, Silent())
    with pytest.raises(StorageError, match="does not fit"):
        load_best(nn.Linear(2, 2), tmp_path)
    (tmp_path / LAST).write_bytes((tmp_path / LAST).read_bytes()[:1000])
    with pytest.raises(StorageError, match="damaged"):
        fit(make.network(), make.data(), make.settings(epochs=1), tmp_path, Silent())
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="choose another folder"):
        fit(make.network(), make.data(), make.settings(epochs=1), tmp_path / "file" / "run", Silent())


def test_hardware_that_is_not_there_is_named(make, tmp_path):
    hardware = Hardware(accelerator="warp")
    with pytest.raises(ConfigError, match="cannot train with"):
        fit(make.network(), make.data(), make.settings(), tmp_path, Silent(), hardware=hardware)


@pytest.mark.skipif(torch.cuda.is_available(), reason="float16 is possible here")
def test_a_precision_that_is_not_there_is_named(make, tmp_path):
    with pytest.raises(ConfigError, match="precision float16"):
        fit(make.network(), make.data(), make.settings(precision="float16"), tmp_path, Silent())


def test_bfloat16_trains_and_is_not_float32(make, tmp_path, uninterrupted):
    settings = make.settings(precision="bfloat16")
    trained = fit(make.network(), make.data(), settings, tmp_path, Silent(), hardware=Hardware(accelerator="cpu"))
    first, expected = trained.history[0]["train/loss"], uninterrupted[1].history[0]["train/loss"]
    assert first != expected
    assert first == pytest.approx(expected, rel=0.05)


def test_an_interrupt_stays_an_interrupt(make, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(make.network(), make.data(), make.settings(), tmp_path, Listener(fail_at=1, error=KeyboardInterrupt))
    assert signal.getsignal(signal.SIGINT) is before
    network = make.network()
    assert len(fit(network, make.data(), make.settings(), tmp_path, Silent()).history) == 3


def test_nothing_is_printed(make, tmp_path, capfd, recwarn):
    fit(make.network(), make.data(), make.settings(epochs=1), tmp_path, Silent())
    assert capfd.readouterr() == ("", "")
    assert [warning.message for warning in recwarn] == []
