"""A folder to run entry points in, as real processes that a zygote forks."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "pipelines" / "recipes" / "tiny.yaml"
# Two seeds of a small found network, one baseline; a search of one trial.
ROAD = (
    "--config", str(TINY), "--register", "none", "--search.trials", "1", "--search.images", "8",
    "--search.batch_size", "4", "--search.channels", "2", "--search.width", "8", "--train.runs", "2",
    "--benchmark.size", "48", "--benchmark.weights", "none",
)  # fmt: skip
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
PATIENCE = 90.0  # seconds that any one process may take on a busy machine


def once(shared: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Make a file or folder in the first worker that asks."""
    with FileLock(shared / f"{name}.lock"):
        target = shared / name
        if not target.exists():
            fresh = shared / f"{name}.making"
            make(fresh)
            fresh.rename(target)
    return target


def clean_environment() -> dict[str, str]:
    """This process's environment without what would send a run elsewhere."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTEST_"))}
    return {**kept, **ENVIRONMENT}


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def as_torchrun(rank: int, port: int) -> dict[str, str]:
    """What torchrun puts into the environment of one of two processes on one machine."""
    return {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"},
        **{"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
    }


class Zygote:
    """The process in zygote.py."""

    def __init__(self) -> None:
        script = ROOT / "tests" / "zygote.py"
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=clean_environment(), cwd=ROOT,
        )  # fmt: skip

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.kill()  # an orderly exit would take it seconds to forget all it imported
        self.process.wait()


@dataclass
class Done:
    """A process that ended."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on standard error."""
        return self.err.strip().splitlines()[-1]

    @property
    def run_id(self) -> str:
        """The run that a search's last line names."""
        words = self.out.strip().splitlines()[-1].split()
        assert words[0::2] == ["run", "genotype"], self.out
        return words[1]


@dataclass
class Process:
    """An entry point that runs."""

    zygote: Zygote
    pid: int
    out: Path
    err: Path
    code: int | None = None

    def wait(self, seconds: float = PATIENCE) -> Done:
        if self.code is None:
            self.code = self.zygote.ask(wait=self.pid, seconds=seconds)["code"]
        assert self.code is not None, f"still running after {seconds} s: {self.err.read_text()[-2000:]}"
        return Done(self.code, self.out.read_text(), self.err.read_text())

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.code is None:
            self.code = self.zygote.ask(wait=self.pid, seconds=0)["code"]
        return self.code

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self) -> None:
        if self.poll() is None:
            self.send(signal.SIGKILL)
            self.wait()


@dataclass
class Place:
    """A working folder with its own tracking store and studies."""

    folder: Path
    data: Path
    zygote: Zygote
    log: Path
    processes: list[Process] = field(default_factory=list)
    storage: str = ""
    tracking: str = ""

    def __post_init__(self) -> None:
        self.storage = self.storage or f"sqlite:///{self.folder}/studies.db"
        self.tracking = self.tracking or f"sqlite:///{self.folder}/mlflow.db"

    def small(self, *arguments: str) -> list[str]:
        """Arguments of a search that takes a second or two: 3 trials of 2 epochs on 8 phantoms."""
        return [
            *("--config", str(TINY), "--data", str(self.data), "--images", "8", "--batch_size", "4"),
            *("--channels", "2", "--width", "8", *arguments),
        ]

    def start(
        self, module: str, *arguments: str, patch: str = "", environment: dict[str, str] | None = None
    ) -> Process:
        """Start `python -m pipelines.<module>`, after running `patch` (Python) in it; without a module that is all."""
        count = len(self.processes)
        out, err = self.log / f"{count}.out", self.log / f"{count}.err"
        order = {
            "module": module and f"pipelines.{module}", "arguments": arguments, "folder": str(self.folder),
            "patch": patch, "environment": environment or {}, "stdout": str(out), "stderr": str(err),
        }  # fmt: skip
        process = Process(self.zygote, self.zygote.ask(start=order)["pid"], out, err)
        self.processes.append(process)
        return process

    def run(self, module: str, *arguments: str, patch: str = "", environment: dict[str, str] | None = None) -> Done:
        """Run `python -m pipelines.<module>` to its end."""
        return self.start(module, *arguments, patch=patch, environment=environment).wait()

    def search(self, *arguments: str, patch: str = "", environment: dict[str, str] | None = None) -> Done:
        """Run a small search to its end."""
        return self.run("search", *self.small(*arguments), patch=patch, environment=environment)

    @property
    def client(self) -> Any:
        from mlflow.tracking import MlflowClient

        return MlflowClient(self.tracking)

    def runs(self, stage: str) -> list[Any]:
        """The runs of a stage, oldest first."""
        client = self.client
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        found = client.search_runs(experiments, f"tags.`dermonas.stage` = '{stage}'", max_results=1000)
        return sorted(found, key=lambda run: run.info.start_time)

    def run_of(self, done: Done) -> Any:
        """The run that the last line of `run <id>` on standard output names."""
        word, run_id = done.out.strip().splitlines()[-1].split()
        assert word == "run", done.out
        return self.client.get_run(run_id)

    def artifacts(self, run: Any) -> Path:
        """The folder of a run's artifacts."""
        return Path(run.info.artifact_uri.removeprefix("file://"))

    def curve(self, run: Any, metric: str) -> list[tuple[int, float]]:
        """All that was logged of a metric, as (step, value)."""
        return [(one.step, one.value) for one in self.client.get_metric_history(run.info.run_id, metric)]

    def study(self, without: str = "") -> Any:
        """The one study of this place, but for a study named `without`."""
        import optuna

        (name,) = {*optuna.get_all_study_names(self.storage)} - {without}
        return optuna.load_study(study_name=name, storage=self.storage)

    def trials(self, without: str = "") -> list[dict[str, Any]]:
        """What a restart must reproduce of each trial."""
        return [
            {
                "number": trial.number,
                "state": trial.state.name,
                "theta": trial.user_attrs.get("theta"),
                "value": trial.value,
                "epochs": [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)],
                "told": trial.user_attrs.get("result", {}).get("epochs"),
                "digest": trial.user_attrs.get("result", {}).get("digest"),
                "duplicate": trial.user_attrs.get("duplicate", False),
            }
            for trial in self.study(without).get_trials(deepcopy=False)
        ]

    def running_epochs(self) -> tuple[int, int] | None:
        """Number and reported epochs of the running trial, if any; None while the database is busy."""
        query = """
            select t.number, count(v.trial_intermediate_value_id) from trials t
            left join trial_intermediate_values v on v.trial_id = t.trial_id
            where t.state = 'RUNNING' group by t.trial_id order by t.number
        """
        try:
            with closing(sqlite3.connect(f"file:{self.folder}/studies.db?mode=ro", uri=True, timeout=0.02)) as database:
                return database.execute(query).fetchone()
        except sqlite3.OperationalError:  # no file or table yet, or being written
            return None

    def stop_mid_trial(self, process: Process, number: int) -> None:
        """Stop a process (SIGSTOP) while trial `number` runs and has reported an epoch."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = self.running_epochs()
            if found is not None and found[0] == number and found[1]:
                process.send(signal.SIGSTOP)
                if self.running_epochs() == found:
                    return
                process.send(signal.SIGCONT)
            time.sleep(0.005)
        pytest.fail(f"trial {number} never reported an epoch: {process.err.read_text()}")
