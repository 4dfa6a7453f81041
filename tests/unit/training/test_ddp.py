"""Two processes under DDP (gloo, CPU) equal one that accumulates the same half-batches, also after both are killed."""

import copy
import json
import math
import os
import signal
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score
from workplace import PATIENCE, as_torchrun, free_port

from dermonas.data.samples import Key, KeyedSampler
from dermonas.seeding import numpy_generator, torch_generator
from dermonas.training.checkpoints import BEST, LAST
from dermonas.training.loaders import Loaders
from dermonas.training.mixing import mix

PLAIN = {"epochs": 2, "drop_path": 0.0, "auxiliary": 0.0, "mixup": 0.0, "cutmix": 0.0, "ema_decay": 0.0}
CASES = {
    "plain, the last batch of one left out": (17, PLAIN),
    "everything, an odd image": (21, {"epochs": 2}),
}
SCRIPT = f"""
import importlib.util, json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("pieces", {str(Path(__file__).with_name("conftest.py"))!r})
pieces = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pieces)
from dermonas.data.augmentation import Augment
from dermonas.errors import DataError, DermonasError
from dermonas.events import Silent
from dermonas.training.fit import fit
from dermonas.training.hardware import Hardware
rank, case = int(os.environ["RANK"]), json.loads(os.environ["CASE"])
drawn, events, written = [], [], []

class Told(Augment):
    def __call__(self, image, epoch, index):
        drawn.append((epoch, index))
        if epoch == 1 and case["halt"]:
            Path(f"halted-{{rank}}").touch()
            signal.pause()
        if epoch == 1 and rank == case.get("fails"):
            if case["how"] == "error":
                raise DataError("image 3 is broken")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(image, epoch, index)

class Listener(Silent):
    def started(self, stage, total, info): events.append(["started", info["first_epoch"]])
    def epoch(self, number, epoch, metrics): events.append(["epoch", epoch])
    def artifact(self, path, folder=""): events.append(["artifact", path.name])
    def finished(self, stage, metrics): events.append(["finished", metrics["best_epoch"]])

def audit(event, arguments):
    if event == "os.rename" or (event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wxa"):
        written.append(os.path.basename(os.fspath(arguments[event == "os.rename"])))

network = pieces.network(case["settings"].get("auxiliary") != 0)
data = pieces.data(case["count"], train=Told(pieces.AUGMENT, 0))
sys.addaudithook(audit)
try:
    hardware = Hardware("cpu", devices=2)
    trained = fit(network, data, pieces.settings(**case["settings"]), Path("run"), Listener(), hardware=hardware)
except DermonasError as error:
    print(f"error: {{error}}", file=sys.stderr, flush=True)
    os._exit(1)
told = {{"history": list(trained.history), "drawn": drawn, "events": events, "written": written.copy()}}
Path(f"rank-{{rank}}.json").write_text(json.dumps(told))
torch.save(network.state_dict(), f"rank-{{rank}}.pt")
"""


def start(place, count, settings, halt=False, **fault):
    case, port = json.dumps({"count": count, "settings": settings, "halt": halt, **fault}), free_port()
    return [place.start("", patch=SCRIPT, environment={**as_torchrun(rank, port), "CASE": case}) for rank in range(2)]


def results(place, processes):
    """What each process told, and its weights."""
    for process in processes:
        done = process.wait()
        assert (done.code, done.out, done.err) == (0, "", "")
    return [
        (json.loads((place.folder / f"rank-{rank}.json").read_text()), torch.load(place.folder / f"rank-{rank}.pt"))
        for rank in range(2)
    ]


def accumulate(make, settings, data):
    """Return rank 0's state, the evaluated states and the figures by epoch of a plain loop over both halves.

    In channels-last memory too: another order of sums would turn a ReLU over here and there, which a few steps enlarge
    to 1e-3 (in float64 both orders end within 1e-13).
    """
    network = make.network(settings.auxiliary > 0).train().to(memory_format=torch.channels_last)
    average, updates = copy.deepcopy(network), 0
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, momentum=settings.momentum, weight_decay=settings.weight_decay)
    running = [{name: value.clone() for name, value in network.named_buffers()} for _ in range(2)]
    states, history = [], []
    for epoch in range(settings.epochs):
        optimizer.param_groups[0]["lr"] = rate = (
            settings.learning_rate * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
        )
        sampler = KeyedSampler(data.train.labels, settings.seed)
        sampler.set_epoch(epoch)
        keys = list(sampler)
        if len(keys) % 2:
            keys.append(Key(epoch, keys[0].sample, 1))
        total = seen = 0.0
        for step in range(math.ceil(len(keys) / settings.batch_size)):
            place = slice(step * settings.batch_size // 2, (step + 1) * settings.batch_size // 2)
            halves = [keys[rank::2][place] for rank in range(2)]
            if len(halves[0]) == 1:
                continue
            optimizer.zero_grad()
            for rank, half in enumerate(halves):
                _load(network, running[rank])
                loss = _loss(network, settings, [data.train[key] for key in half], epoch, 2 * step + rank)
                (loss / 2).backward()
                running[rank] = {name: value.clone() for name, value in network.named_buffers()}
                total, seen = total + loss.item() * len(half), seen + len(half)
            torch.nn.utils.clip_grad_norm_(trained, settings.clip_norm)
            optimizer.step()
            _load(network, running[0])
            updates += 1
            decay = min(settings.ema_decay, (1 + updates) / (10 + updates))
            _average(average, network, decay)
        states.append({name: value.clone() for name, value in average.state_dict().items()})
        figures = {"train/loss": total / seen, "learning_rate": rate, "drop_path": settings.drop_path * epoch / 2}
        history.append({**figures, **_judge(average, data.validation)})
    return network.state_dict(), states, history


def _load(network, buffers):
    for name, value in network.named_buffers():
        value.copy_(buffers[name])


def _loss(network, settings, samples, epoch, step):
    images, labels = torch.stack([sample[0] for sample in samples]), torch.tensor([sample[1] for sample in samples])
    targets = labels
    if settings.mixup:
        targets = torch.eye(3)[labels]
        generator = numpy_generator(settings.seed, "mix", epoch, step)
        images, targets = mix(images, targets, generator, mixup=settings.mixup, cutmix=settings.cutmix)
    if settings.drop_path:
        generator = torch_generator(settings.seed, "drop path", epoch, step)
        network.set_drop_path(settings.drop_path * epoch / settings.epochs, generator)
    outputs = network(images.contiguous(memory_format=torch.channels_last))
    losses = [
        F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing)
        for logits in (outputs if isinstance(outputs, tuple) else (outputs,))
    ]
    return losses[0] if len(losses) == 1 else losses[0] + settings.auxiliary * losses[1]


@torch.no_grad()
def _average(average, network, decay):
    for mine, theirs in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        mine.copy_(decay * mine + (1 - decay) * theirs if mine.is_floating_point() else theirs)


def _judge(network, samples):
    network.eval()
    views = torch.stack([samples[index][0] for index in range(len(samples))])
    with torch.no_grad():
        logits = network(views)
    labels, predicted = samples.labels, logits.argmax(dim=1).numpy()
    return {
        "validation/accuracy": (labels == predicted).mean(),
        "validation/balanced_accuracy": balanced_accuracy_score(labels, predicted),
        "validation/loss": float(F.cross_entropy(logits, torch.from_numpy(labels))),
    }


def one_process_draws(make, settings, count):
    """(epoch, index) of each view in the order of one process."""
    drawn, view = [], make.data(count).train.transform

    def told(image, epoch, index):
        drawn.append([epoch, index])
        return view(image, epoch, index)

    loader = Loaders(make.data(count, train=told), settings).train_dataloader()
    for epoch in range(settings.epochs):
        loader.sampler.set_epoch(epoch)
        assert all(len(batch[1]) > 1 for batch in loader)
    return drawn


def close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_that_accumulates(make, make_place, case):
    count, changes = CASES[case]
    settings, place = make.settings(**changes), make_place()
    (first, state), (other, others) = results(place, start(place, count, changes))
    expected, states, history = accumulate(make, settings, make.data(count))
    close(state, expected)
    assert first["history"] == other["history"] == [pytest.approx(figures, rel=1e-4) for figures in history]
    assert all(torch.equal(state[name], others[name]) for name in state)
    best = max(range(2), key=lambda epoch: (history[epoch]["validation/balanced_accuracy"], -epoch))
    close(torch.load(place.folder / "run" / BEST), states[best])
    _check_shares(first["drawn"], other["drawn"], one_process_draws(make, settings, count))
    names = [event[0] for event in first["events"]]
    assert (names, other["events"]) == (["started", "epoch", "epoch", "artifact", "finished"], [])
    assert {BEST, LAST} <= set(first["written"])
    assert other["written"] == []
    assert sorted(path.name for path in (place.folder / "run").iterdir()) == [BEST, LAST]


def _check_shares(first, other, alone):
    assert not {tuple(key) for key in first} & {tuple(key) for key in other}
    for epoch in range(2):
        one, two = ([key for key in keys if key[0] == epoch] for keys in (first, other))
        together = [key for pair in zip(one, two, strict=True) for key in pair]
        expected = [key for key in alone if key[0] == epoch]
        assert together[: len(expected)] == expected
        assert len(together) == len(expected) + len(expected) % 2


def test_both_killed_behind_an_epoch_go_on_to_the_same(make_place):
    count, changes = CASES["everything, an odd image"]
    whole, place = make_place("whole"), make_place("killed")
    expected = results(whole, start(whole, count, changes))
    halted = start(place, count, changes, halt=True)
    end = time.monotonic() + PATIENCE
    while len(list(place.folder.glob("halted-*"))) < 2:
        assert time.monotonic() < end, [process.err.read_text() for process in halted]
        time.sleep(0.01)
    for process in halted:
        os.kill(process.pid, signal.SIGKILL)
    assert [process.wait().code for process in halted] == [-signal.SIGKILL] * 2
    found = results(place, start(place, count, changes))
    for (told, state), (expected_told, expected_state) in zip(found, expected, strict=True):
        assert told["history"] == expected_told["history"]
        assert all(torch.equal(state[name], expected_state[name]) for name in expected_state)
    assert [event[1] for event in found[0][0]["events"][:2]] == [1, 1]
    best = [torch.load(one.folder / "run" / BEST) for one in (whole, place)]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


@pytest.mark.parametrize(("fails", "how"), [(0, "error"), (1, "error"), (1, "kill")])
def test_a_process_that_fails_ends_the_other(make_place, fails, how):
    place = make_place()
    done = [process.wait() for process in start(place, 20, {"epochs": 2}, fails=fails, how=how)]
    failed, other = done[fails], done[1 - fails]
    if how == "error":
        assert (failed.code, failed.err) == (1, "error: image 3 is broken\n")
    else:
        assert (failed.code, failed.err) == (-signal.SIGKILL, "")
    assert other.code == 1
    (line,) = other.err.strip().splitlines()
    assert line.startswith("error: another process of this training ended: its own message says why; the same command")
