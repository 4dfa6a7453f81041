"""What a server answers: ours against MLflow's own, on one registered model, over the socket.

    python -m benchmarks.serve [--genotype DermoCSNAS_4] [--channels 16] [--layers 8] [--resolution 224] [--side 600]
        [--batches 1 16] [--clients 8] [--requests 64] [--rounds 5] [--no-log]

`python -m pipelines.serve` and `mlflow models serve --env-manager local` answer the same version, each a process of its
own with all cores; while one is asked the other rests. `--clients` callers keep a connection each and ask again as soon
as they are answered: `--requests` a round at one image a request, half of them at more. Images are JPEG files of
synthetic phantoms, `--side` x 3/4 `--side` pixels. Weights are random. Answers must agree to 1e-5. On a crowded machine
the clock favours the side with more threads that want to run: the servers' own CPU seconds stand beside it.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from mlflow.tracking import MlflowClient

from benchmarks.input import phantoms
from benchmarks.measure import Report, alternate, options, ratio
from benchmarks.serving import TOLERANCE, network_of, packaged, plain_view
from dermonas.data.phantom import CLASSES
from dermonas.serving.digest import files_digest
from dermonas.tracking import registry
from dermonas.tracking.runs import Run
from pipelines.command import quiet

FASTER = 1.5
"""Times MLflow's requests a second that ours should answer. Source: issue 8."""
NAME = "dermonas-phantom"
_PATIENCE = 180.0  # seconds for a server to come up, and for an answer


def register(package: Path, folder: Path) -> None:
    """Register a package in a store of its own, which becomes this process's and its children's."""
    uri = f"sqlite:///{folder}/mlflow.db"
    os.environ["MLFLOW_TRACKING_URI"] = uri
    client = MlflowClient(uri)
    experiment = client.create_experiment("dermonas/phantom", str(folder / "mlruns"))
    run = Run(client, client.create_run(experiment).info.run_id, experiment)
    digest = files_digest(package)
    with registry.logged(run, NAME, package, {}) as model:
        pass
    registry.register(run, NAME, model, run.id, {registry.FILES: digest}, "")


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    process: psutil.Process

    def cpu(self) -> float:
        """Return the CPU seconds that it and its children have used."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(times.user + times.system for times in (one.cpu_times() for one in family))


@contextlib.contextmanager
def served(words: Sequence[str], port: int, folder: Path) -> Iterator[Server]:
    """Run a server until the block ends."""
    log = folder / f"{port}.log"
    with log.open("wb") as file:
        root = str(Path(__file__).resolve().parents[1])
        environment = {**os.environ, "PYTHONPATH": root, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
        process = subprocess.Popen([sys.executable, "-m", *words], stdout=file, stderr=file, env=environment, cwd=root)
    try:
        end = time.monotonic() + _PATIENCE
        while not healthy(port):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"no server from {' '.join(words)}: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)
        yield Server(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def healthy(port: int) -> bool:
    """Tell whether a server answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def ask(connection: http.client.HTTPConnection, body: bytes) -> bytes:
    """Ask once.

    Raises:
        SystemExit: The answer is no answer.
    """
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise SystemExit(f"status {response.status}: {content[:300]!r}")
    return content


def load(server: Server, bodies: Sequence[bytes], clients: int, seconds: list[float], cpu: list[float]) -> None:
    """Ask about each body, shared out among so many clients; note how long each answer took, and the server's CPU."""
    port, before = server.port, server.cpu()

    def client(own: Sequence[bytes]) -> list[float]:
        connection, found = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE), []
        for body in own:
            began = time.perf_counter()
            ask(connection, body)
            found.append(time.perf_counter() - began)
        connection.close()
        return found

    with ThreadPoolExecutor(clients) as pool:
        for found in pool.map(client, [bodies[number::clients] for number in range(clients)]):
            seconds += found
    cpu.append(server.cpu() - before)


def probabilities(port: int, body: bytes) -> np.ndarray:
    """Return (images, classes) by class name."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    answers = json.loads(ask(connection, body))["predictions"]
    connection.close()
    ordered = [sorted(answer["probabilities"], key=lambda one: one["label"]) for answer in answers]
    return np.array([[one["probability"] for one in row] for row in ordered])


def body_of(images: Sequence[str], top_k: int) -> bytes:
    """Return a request about base64 texts."""
    return json.dumps({"inputs": {"image": list(images)}, "params": {"top_k": top_k}}).encode()


def measure(
    report: Report, servers: dict[str, Server], images: list[str], count: int, classes: int, chosen: Any
) -> None:
    """Measure requests of so many images, and compare the answers."""
    requests = chosen.requests if count == 1 else max(chosen.requests // 2, chosen.clients)
    bodies = [body_of([images[(start + k) % len(images)] for k in range(count)], 1) for start in range(requests)]
    clients = min(chosen.clients, requests)
    seconds: dict[str, list[float]] = {name: [] for name in servers}
    cpu: dict[str, list[float]] = {name: [] for name in servers}
    sides = {name: partial(load, one, bodies, clients, seconds[name], cpu[name]) for name, one in servers.items()}
    samples = alternate(sides, chosen.rounds, warmup=1)
    label = f"{count} image{'s' if count > 1 else ''} a request"
    for name, measured in samples.items():
        report.rows[f"{name}, {label}", "requests/s"] = tuple(requests / one for one in measured.wall)
        report.rows[f"{name}, {label}", "requests/CPU s"] = tuple(requests / one for one in cpu[name][1:])
        counted = seconds[name][requests:]  # but for the warm-up
        report.rows[f"{name}, {label}", "ms"] = tuple(1e3 * one for one in counted)
        report.facts[f"p50 ms, {name}, {label}"] = 1e3 * float(np.quantile(counted, 0.5))
        report.facts[f"p95 ms, {name}, {label}"] = 1e3 * float(np.quantile(counted, 0.95))
    ours, theirs = samples.values()
    faster = ratio(theirs.wall, ours.wall)
    report.ratios[f"ours / MLflow's, requests/s, {label}"] = faster
    used = ratio(cpu["MLflow's"][1:], cpu["ours"][1:])
    report.ratios[f"ours / MLflow's, requests/CPU s, {label}"] = used
    report.checks[f"MLflow's requests/s as a share of ours, {label}"] = (1 / faster.value, 1 / FASTER)
    whole = body_of(images[:count], classes)
    found, wanted = (probabilities(one.port, whole) for one in servers.values())
    report.checks[f"largest difference of a probability, {label}"] = (float(np.abs(found - wanted).max()), TOLERANCE)


def main() -> None:
    """Measure both servers at each batch size, and compare their answers."""
    parser = options(__doc__)
    parser.add_argument("--genotype", default="DermoCSNAS_4")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--side", type=int, default=600, help="longer side of a file in pixels")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="images a request")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=64, help="a round, at one image each")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    quiet()
    tracking = os.environ.get("MLFLOW_TRACKING_URI")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        files = phantoms(folder, max(16, *chosen.batches), chosen.side)
        images = [base64.b64encode(path.read_bytes()).decode("ascii") for path in files]
        views = torch.stack([plain_view(image, chosen.resolution) for image in images])
        network = network_of(chosen.genotype, chosen.channels, chosen.layers, views)
        packaged(network, chosen.resolution, folder)
        register(folder / "package", folder)
        model, ports = f"models:/{NAME}/1", (free_port(), free_port())
        words = {
            "ours": ("pipelines.serve", "--model", model, "--port", str(ports[0])),
            "MLflow's": ("mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-p", str(ports[1])),
        }
        servers = {
            name: stack.enter_context(served(own, port, folder))
            for (name, own), port in zip(words.items(), ports, strict=True)
        }
        report = Report(
            "serve",
            {
                **{key: getattr(chosen, key) for key in ("genotype", "channels", "layers", "resolution", "side")},
                "clients": chosen.clients,
            },
        )
        for count in chosen.batches:
            measure(report, servers, images, count, len(CLASSES), chosen)
        if tracking is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = tracking
    report.publish(chosen.log)


if __name__ == "__main__":
    main()
