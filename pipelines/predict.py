"""`mlflow run . -e predict`: a registered model's answers about many images, as a CSV or Parquet file."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
import torch
from tqdm import tqdm

from dermonas.errors import ConfigError, StorageError
from dermonas.serving.files import answer_files
from dermonas.serving.rest.release import Release
from dermonas.tracking.lookup import INPUTS, inputs_digest, supersede
from dermonas.tracking.runs import STAGE, tracked
from dermonas.tracking.store import connected
from pipelines.command import command
from pipelines.locks import alone
from pipelines.predict_config import PredictConfig
from pipelines.predict_files import Listed, listed
from pipelines.recipe import Recipe, plain, read_config
from pipelines.serve import Registered, uri_of

_STATE = "state.json"
_BAD = 10  # bad files that are named; all are in the output


def run(config: PredictConfig, recipe: Recipe) -> str:
    """Predict as a tracked run; return its id.

    Raises:
        ConfigError: The model is not in the registry, there is no image, or parts of another prediction lie there.
        StorageError: The model's files are not those that were registered, or the disk refuses.
    """
    threads = config.threads or os.cpu_count() or 1
    torch.set_num_threads(max(1, threads // 2))
    images = listed(config.images, config.split)
    source = Registered(connected(), uri_of(config.model, recipe))
    release = Release.of(source, source.wanted())
    about = release.served.description
    tags = {"dermonas.served": f"{about.registered}/{release.version}", "dermonas.synthetic": about.synthetic}
    name = f"predict-{about.registered}-{release.version}"
    parts = config.out.with_name(f".{config.out.name}.parts")
    state = {"images": images.digest(), "model": release.digest, "part": config.part, "tta": config.tta}
    inputs = inputs_digest("predict", {**state, "out": str(config.out.resolve())})
    with alone(config.out.with_name(f".{config.out.name}.lock"), f"predicts into {config.out}"):
        _settle(parts, state)
        with tracked(f"dermonas/{about.dataset}", "predict", name, {**tags, INPUTS: inputs}) as tracker:
            supersede(tracker, {STAGE: "predict", INPUTS: inputs})
            tracker.params({**plain(config), "recipe": recipe.name})
            began, rows = time.monotonic(), len(images.names)
            with ThreadPoolExecutor(threads) as pool:
                files = list(_parts(config, images, release, parts, pool))
            figures = _merge(files, config.out)
            shutil.rmtree(parts)
            seconds = time.monotonic() - began
            tracker.metrics({"predict/images": rows, "predict/seconds": seconds, **figures})
            bad, unsure = (int(figures[f"predict/{key}"]) for key in ("bad", "abstained"))
            print(f"{rows} images in {config.out}: {bad} bad, {unsure} abstained ({seconds:.0f} s)")
            return tracker.id


def _settle(parts: Path, state: dict[str, Any]) -> None:
    """Go on with the parts of an earlier run of the same prediction, or begin."""
    file = parts / _STATE
    if file.is_file():
        if json.loads(file.read_text("utf-8")) != state:
            raise ConfigError(
                f"{parts} holds parts of a prediction of other images or by another model: remove it, or choose "
                "another --out"
            )
        return
    try:
        parts.mkdir(parents=True, exist_ok=True)
        _whole(file, lambda fresh: fresh.write_text(json.dumps(state), "utf-8"))
    except OSError as error:
        raise StorageError(f"cannot write {parts}: {error.strerror or error}") from error


def _parts(
    config: PredictConfig, images: Listed, release: Release, folder: Path, pool: ThreadPoolExecutor
) -> Iterator[Path]:
    """Yield the files of all parts, in order; those that are there are left as they are."""
    starts = range(0, len(images.names), config.part)
    paths = [folder / f"{number:06d}.parquet" for number in range(len(starts))]
    done = sum(path.is_file() for path in paths)
    if done:
        print(f"going on behind {min(done * config.part, len(images.names))} images", file=sys.stderr)
    before = time.monotonic()
    bar = tqdm(total=len(images.names), unit="image", disable=not sys.stderr.isatty(), file=sys.stderr)
    bad = 0
    for start, path in zip(starts, paths, strict=True):
        names = images.names[start : start + config.part]
        if not path.is_file():
            table = _table(config, images.root, names, release, pool)
            for name, error in zip(table["path"], table["error"], strict=True):
                bad += bool(error)
                if error and bad <= _BAD:
                    print(f"{name}: {error}", file=sys.stderr)
            try:
                _whole(path, lambda fresh, table=table: table.to_parquet(fresh, index=False))
            except OSError as failure:
                raise StorageError(f"cannot write {path}: {failure.strerror or failure}") from failure
            if bar.disable:
                rate = (start + len(names)) / max(time.monotonic() - before, 1e-9)
                told = f"[{start + len(names)}/{len(images.names)}] {bad} bad"
                print(told if done else f"{told}, {rate:.1f} images/s", file=sys.stderr, flush=True)
        bar.update(len(names))
        yield path
    bar.close()


def _table(
    config: PredictConfig, root: Path, names: Sequence[str], release: Release, pool: ThreadPoolExecutor
) -> pd.DataFrame:
    classes, rows = release.served.description.classes, []
    files = [root / name for name in names]
    answers = answer_files(release.served, files, pool, tta=config.tta, max_pixels=config.pixels)
    for name, answer in zip(names, answers, strict=True):
        listed_ = answer.pop("probabilities", [None] * len(classes))
        whole = {"label": None, "probability": None, "abstain": None, "reason": None, **answer}
        own = {f"probability/{label}": value for label, value in zip(classes, listed_, strict=True)}
        rows.append({"path": name, **whole, **own, "version": release.version, "digest": release.digest})
    table = pd.DataFrame(rows)
    numbers = dict.fromkeys(["probability", *(f"probability/{label}" for label in classes)], "float64")
    return table.astype({**numbers, "abstain": "boolean", "label": "string", "reason": "string"})


def _merge(files: Sequence[Path], out: Path) -> dict[str, float]:
    """Write one file of all parts, whole or not at all; return how many images were bad and abstained on."""
    bad = abstained = 0
    try:
        schema = parquet.read_schema(files[0])
        fresh = out.with_name(f".{out.name}.partial")
        kind = arrow_csv.CSVWriter if out.suffix.lower() == ".csv" else parquet.ParquetWriter
        with kind(fresh, schema) as writer:
            for file in files:
                table = parquet.read_table(file, schema=schema)
                bad += sum(bool(error) for error in table["error"].to_pylist())
                abstained += sum(bool(value) for value in table["abstain"].to_pylist())
                writer.write_table(table)
        fresh.replace(out)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"cannot write {out}: {' '.join(str(error).split())[:200]}") from error
    return {"predict/bad": float(bad), "predict/abstained": float(abstained)}


def _whole(path: Path, write: Any) -> None:
    """Write a file, whole or not at all."""
    fresh = path.with_name(f".{path.name}.partial")
    write(fresh)
    fresh.replace(path)


def main(argv: Sequence[str]) -> None:
    """Read the configuration, predict, and print how many and the run."""
    config, recipe = read_config("predict", argv)
    print(f"run {run(config, recipe)}")


if __name__ == "__main__":
    sys.exit(command("predict", main))
