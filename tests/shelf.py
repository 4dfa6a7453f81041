"""A registry with two versions of a small network, for the page: one that answers noise, one that abstains from it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.tracking import MlflowClient
from packed import pack

from dermonas.serving.digest import files_digest
from dermonas.space import zoo
from dermonas.tracking import registry
from dermonas.tracking.champion import Decision
from dermonas.tracking.runs import Run

NAME = "dermonas-noise"
HOSTILE = '<img src="/version" onerror="window.hurt=1"><script>window.hurt=1</script>'
CARD = f"""# dermonas-noise: tiny

> **Synthetic.** Made of noise.

## Figures

| Figure | Value |
| --- | --- |
| a \\| b | `0.5` |

- One thing
  that goes on
- {HOSTILE}

[a link](https://example.org) stays text.
"""


@contextmanager
def tracked_in(uri: str) -> Iterator[None]:
    """Have MLflow use a store."""
    fresh = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    before = {key: os.environ.get(key) for key in fresh}
    os.environ.update(fresh)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


def shelve(folder: Path, run_tables: Path) -> MlflowClient:
    """Fill a registry in a folder: version 1, the champion, whose training kept a genotype; version 2, without one."""
    shutil.copy(run_tables, folder / "mlflow.db")
    uri = f"sqlite:///{folder}/mlflow.db"
    with tracked_in(uri):
        client = MlflowClient(uri)
        experiment = client.create_experiment("dermonas/noise", str(folder / "mlruns"))
        for number, seed in enumerate((5, 2)):
            run = Run(client, client.create_run(experiment).info.run_id, experiment)
            made = folder / f"made-{number}"
            made.mkdir()
            packed = pack("tiny", made, seed, NAME, CARD)
            with registry.logged(run, NAME, packed.folder, {}) as model:
                pass
            tags = {
                registry.FILES: files_digest(packed.folder),
                "dermonas.model": f"tiny{number} <b>",
                "dermonas.synthetic": "True",
                "dermonas.dataset_digest": "0" * 64 if number == 0 else "1" * 64,
            }
            version = registry.register(run, NAME, model, run.id, tags, "")
            _figures(run, number)
            decision = Decision(number == 0, f"the reason {HOSTILE}", balanced_accuracy=0.5, images=12)
            registry.settle(client, version, decision)
    return client


def _figures(run: Run, number: int) -> None:
    if number == 0:
        run.document("genotype.json", zoo.load("DARTS_V2").to_dict())
        figures = {"accuracy": 0.75, "accuracy/lo": 0.5, "accuracy/hi": 0.9, "macro_f1": float("nan")}
        run.metrics({f"test/{key}": value for key, value in figures.items()} | {"model/params_m": 0.0012})
