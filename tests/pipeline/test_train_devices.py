"""`train` on several devices, by each launcher that README names: one tracked run, and no hang where a process fails.

Synthetic phantoms, gloo on the CPU.
"""

from __future__ import annotations

import os
import signal

import pytest
import torch
from workplace import TINY, as_torchrun, free_port

DEVICES = ("--accelerator", "cpu", "--devices", "2")


def small(place, *arguments):
    own = ("--genotype", "DARTS_V2", "--epochs", "1", "--size", "16", "--channels", "2", "--threads", "1")
    return ["--config", str(TINY), "--data", str(place.data), *own, *arguments]


def check_two_seeds(place, done):
    """Check that one run with a child a seed came of it."""
    parent = place.run_of(done)
    assert done.out.count("run ") == 1
    children = [run for run in place.runs("train") if run.info.run_id != parent.info.run_id]
    assert sorted(child.data.tags["dermonas.seed"] for child in children) == ["0", "1"]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    for child in children:
        assert len(place.curve(child, "train/loss")) == 1
        weights = torch.load(place.artifacts(child) / "model" / "best.pt", weights_only=True)
        assert all(value.isfinite().all() for value in weights.values())


# Lightning starts `python -m pipelines.train` with the same words and marks in the environment; here that process is
# forked, which spares it ten seconds of imports.
FORKED = """
import os, subprocess as real, sys, time
import lightning.pytorch.strategies.launchers.subprocess_script as launchers
from pipelines import train

def begin(): pass

class Forked:
    def __init__(self, command, env, cwd):
        assert command[1:] == ["-m", "pipelines.train", *sys.argv[1:]], command
        self.returncode, self.pid = None, os.fork()
        if not self.pid:
            os.environ.clear()
            os.environ.update(env)
            begin()
            open(f"further-{os.getpid()}", "w").close()
            code = train.command("train", train.main)
            sys.stdout.flush()
            os._exit(code)

    def poll(self):
        if self.returncode is None and (done := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.returncode = os.waitstatus_to_exitcode(done[1])
        return self.returncode

    def wait(self, timeout=None):
        end = time.monotonic() + (60 if timeout is None else timeout)
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        if self.returncode is None:
            raise real.TimeoutExpired("forked", timeout)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

class subprocess:
    Popen = Forked

launchers.subprocess = subprocess
"""


def test_two_devices_make_one_run_a_seed(place):
    done = place.run("train", *small(place, "--runs", "2", *DEVICES), patch=FORKED)
    assert done.code == 0, done.err
    assert len(list(place.folder.glob("further-*"))) == 2  # one a training
    check_two_seeds(place, done)


def as_slurm(rank, port):
    return {
        **{"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_JOB_NAME": "train"},
        **{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0", "SLURM_JOB_ID": "17"},
        **{"SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": str(port)},
    }


def as_two_machines(rank, port):
    return {"NODE_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


@pytest.mark.parametrize(
    ("launcher", "devices"),
    [(as_torchrun, "--devices=2"), (as_slurm, "--devices=2"), (as_two_machines, "--num_nodes=2")],
)
def test_processes_that_others_start_make_one_run_a_seed(place, launcher, devices):
    arguments, port = small(place, "--runs", "2", "--accelerator", "cpu", devices), free_port()
    processes = [place.start("train", *arguments, environment=launcher(rank, port)) for rank in range(2)]
    done, further = (process.wait() for process in processes)
    assert (done.code, further.code) == (0, 0), done.err + further.err
    assert further.out == ""
    check_two_seeds(place, done)


FAULTS = {
    "an error": ("raise DataError('image 3 is broken')", "with code 1", "error: image 3 is broken"),
    "a kill": ("os.kill(os.getpid(), 9)", "by signal 9", None),
}
BROKEN = """
from dermonas.data.augmentation import Augment
from dermonas.errors import DataError
def begin():
    def view(self, image, epoch, index):
        {}
    Augment.__call__ = view
"""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_further_process_that_fails_ends_the_run_in_one_line(place, fault):
    text, how, told = FAULTS[fault]
    done = place.run("train", *small(place, *DEVICES), patch=FORKED + BROKEN.format(text))
    assert (done.code, done.out) == (1, ""), done.err
    assert "Traceback" not in done.err
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    last = f"error: another process of this training ended {how}: its own message says why; "
    last += "the same command goes on behind the last finished epoch"
    assert errors == ([told] if told else []) + [last]
    (run,) = place.runs("train")
    assert run.info.status == "FAILED"
    assert run.data.tags["dermonas.error"] == last.removeprefix("error: ")


FULL = """
from dermonas.errors import StorageError
from dermonas.tracking.training import TrainTracker
def epoch(self, number, at, metrics):
    if at == 1: raise StorageError("the disk is full")
TrainTracker.epoch = epoch
"""


def test_the_first_process_ends_the_others_and_only_a_shared_folder_goes_on(place):
    arguments = small(place, *DEVICES, "--epochs", "2")
    done = place.run("train", *arguments, "--out", "here", patch=FORKED + FULL)
    assert (done.code, done.last) == (1, "error: the disk is full")
    assert done.err.count("error: ") == 1
    (further,) = place.folder.glob("further-*")
    with pytest.raises(ProcessLookupError):
        os.kill(int(further.name.removeprefix("further-")), 0)

    port = free_port()
    processes = [
        place.start("train", *arguments, "--out", out, environment=as_torchrun(rank, port))
        for rank, out in enumerate(("here", "there"))
    ]
    for done in [process.wait() for process in processes]:
        assert done.code == 2, done.err
        assert "Traceback" not in done.err
        assert done.last.endswith(
            "holds 0 epochs for one process and 1 for another: choose a folder that all machines share"
        )


@pytest.mark.parametrize("code", [0, 3])
def test_a_further_process_that_never_joins_is_not_waited_for(place, code):
    early = f"import dermonas.training.hardware as hardware\nhardware.GRACE = 0.1\ndef begin(): os._exit({code})\n"
    done = place.run("train", *small(place, *DEVICES), patch=FORKED + early)
    assert done.code == -signal.SIGKILL
    assert done.last == f"ERROR a further process ended with code {code}; this one waits for it in vain and ends"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--batch_size", "3"), "batch_size 3 must be a multiple of 2 devices, 2 each at least"),
        (("--devices", "999", "--batch_size", "1998"), "images for 999 devices; batch norm needs 2 on each"),
        (("--sync_batchnorm", "true"), "sync_batchnorm true needs CUDA; leave it out"),
    ],
)
def test_what_cannot_be_shared_is_told_before_a_process_is_started(place, arguments, says):
    words = small(place, *DEVICES, *arguments)
    done = place.run("train", *words, patch="import torch; torch.cuda.is_available = lambda: False\n" + FORKED)
    assert (done.code, done.out) == (2, ""), done.err
    assert done.last.startswith("error: ")
    assert done.last.endswith(says)
    assert not list(place.folder.glob("further-*"))
