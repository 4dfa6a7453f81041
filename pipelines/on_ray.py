"""`python -m pipelines.on_ray --workers 4 ...`: the workers of a search placed on a Ray cluster (`dermonas[ray]`).

Ray only starts processes and restarts none: each is the `search` command, and joins the study on its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dermonas.errors import ConfigError, SearchError
from dermonas.search.config import SearchConfig
from dermonas.search.storage import database_file
from pipelines.command import command
from pipelines.models import device_named
from pipelines.recipe import read_config
from pipelines.search_task import share_of

_KEPT = ("MLFLOW_", "PG", "PYTHONPATH")  # of this process's environment: where runs go, how the server is reached


def search(argv: Sequence[str], folder: str, environment: dict[str, str]) -> int:
    """Run one `search` command in a folder; return its exit code. Ray's task."""
    words = [sys.executable, "-m", "pipelines.search", *argv]
    process = subprocess.Popen(words, cwd=folder, env={**os.environ, **environment})
    try:
        return process.wait()
    finally:
        process.terminate()


def main(argv: Sequence[str]) -> None:
    """Place `workers` search commands on the cluster that RAY_ADDRESS names, or on this machine, and wait for them.

    Raises:
        ConfigError: Ray is not installed, or several machines could not share the study.
        SearchError: A command failed.
    """
    config: SearchConfig
    config, _ = read_config("search", argv)
    if config.workers > 1 and database_file(config.storage) is not None:
        raise ConfigError(f"storage is {config.storage!r}: workers on a cluster need a server, as postgresql://...")
    try:
        import ray
    except ImportError as error:
        raise ConfigError('Ray is not installed: pip install "dermonas[ray]"') from error
    ray.init(log_to_driver=True, include_dashboard=False)
    try:
        cards = 1 if device_named(config.device).type == "cuda" else 0
        task = ray.remote(num_cpus=share_of(config.threads, config.workers), num_gpus=cards, max_retries=0)(search)
        kept = {key: value for key, value in os.environ.items() if key.startswith(_KEPT)}
        own = [*argv, "--workers", "1"]
        codes = ray.get([task.remote(own, str(Path.cwd()), kept) for _ in range(config.workers)])
    finally:
        ray.shutdown()
    if any(codes):
        raise SearchError(f"{sum(map(bool, codes))} of {len(codes)} workers failed; what they printed stands above")


if __name__ == "__main__":
    sys.exit(command("search", main))
