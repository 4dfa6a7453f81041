"""Trainings in processes of their own: one that is killed, and two that share an epoch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dermonas.events import Silent
from dermonas.training.checkpoints import BEST, LAST, read_history
from dermonas.training.fit import fit

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = f"""
import importlib.util, os, signal, sys
import torch
torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("pieces", {str(Path(__file__).with_name("conftest.py"))!r})
pieces = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pieces)
from pathlib import Path
from dermonas.events import Silent
from dermonas.training.fit import fit
from dermonas.training.hardware import Hardware
from dermonas.data.augmentation import Augment
folder, devices, die_in = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

class Deadly(Augment):
    calls = 0
    def __call__(self, image, epoch, index):
        self.calls += epoch == die_in
        if self.calls == 12:  # in the middle of the epoch's second batch
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(image, epoch, index)

hardware = Hardware(accelerator="cpu", devices=devices)
data = pieces.data(train=Deadly(pieces.AUGMENT, 0))
fit(pieces.network(), data, pieces.settings(), folder, Silent(), hardware=hardware)
"""


def _train(tmp_path: Path, devices: int, die_in: int = -1) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "train.py"  # a file: Lightning starts its further processes with the same command
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{SCRIPT}")
    arguments = [sys.executable, str(script), str(tmp_path / "run"), str(devices), str(die_in)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)


def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(make, tmp_path):
    done = _train(tmp_path, devices=1, die_in=2)
    assert done.returncode == -9, done.stderr
    killed, whole = make.network(), make.network()
    settings, started = make.settings(), []

    class Starts(Silent):
        def started(self, stage, total, info):
            started.append(info["first_epoch"])

    resumed = fit(killed, make.data(), settings, tmp_path / "run", Starts())
    expected = fit(whole, make.data(), settings, tmp_path / "whole", Silent())
    assert started == [2]
    assert resumed.history == expected.history
    assert all(
        torch.equal(a, b) for a, b in zip(killed.state_dict().values(), whole.state_dict().values(), strict=True)
    )


def test_two_processes_share_an_epoch(make, tmp_path):
    done = _train(tmp_path, devices=2)
    assert done.returncode == 0, done.stderr
    stored = torch.load(tmp_path / "run" / LAST, weights_only=True)["dermonas"]
    history = read_history(tmp_path / "run", stored["identity"])
    assert len(history) == 3
    # Nine validation images, five and four: their figures are ninths, so each was counted once.
    assert all(
        (metrics["validation/accuracy"] * 9) == pytest.approx(round(metrics["validation/accuracy"] * 9))
        for metrics in history
    )
    state = torch.load(tmp_path / "run" / BEST, weights_only=True)
    make.network().load_state_dict(state)
    assert all(value.isfinite().all() for value in state.values())
