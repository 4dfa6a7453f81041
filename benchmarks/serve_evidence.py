"""A champion on real images over REST: as `evaluate` found it, image by image, and what it abstains from.

    python -m benchmarks.serve_evidence --model models:/dermonas-isic2019@champion --data data/ham224
        --others ../shared/data/cifar10_5k ../shared/data/imagenette_900 [--images 200] [--out outputs/serve-evidence]

The model must have been trained on `--data` and evaluated; `--images` of its test images, drawn by seed 0, are asked
one by one. Their labels must be evaluate's, and their probabilities within 1e-5. Asked (issue 8): it abstains from at
most 10 % of them and from at least 80 % of as many images of each other folder. Answers are kept in `--out`: the same
command goes on where it was stopped. Logs the curve of accuracy by coverage to MLflow, over all test images.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.tracking import MlflowClient
from numpy.typing import NDArray

from benchmarks.measure import Report, options
from benchmarks.serve import ask, free_port, served
from benchmarks.serving import TOLERANCE
from dermonas.data.manifest import read_manifest
from dermonas.data.sources.listing import files_below
from dermonas.evaluation.predictions import Predictions
from dermonas.seeding import numpy_generator
from dermonas.serving.rest.release import Release
from dermonas.serving.served import Served
from dermonas.tracking import registry
from dermonas.tracking.runs import download, tracked
from dermonas.tracking.store import connected
from pipelines.command import quiet
from pipelines.models import EVALUATED_BY, PREDICTIONS
from pipelines.serve import Registered

REFUSED, CAUGHT = 0.10, 0.80
"""Share of test images that may be abstained from, and of other images that must be. Source: issue 8."""


def answers(port: int, files: Sequence[Path], state: Path) -> list[dict[str, Any]]:
    """Ask about each file; what a state file holds already is not asked again."""
    known: dict[str, dict[str, Any]] = {}
    if state.is_file():
        known = {one["file"]: one for one in map(json.loads, state.read_text().splitlines())}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with state.open("a") as kept:
        for path in files:
            if str(path) in known:
                continue
            text = base64.b64encode(path.read_bytes()).decode("ascii")
            body = json.dumps({"inputs": {"image": [text]}, "params": {"top_k": 1000}}).encode()
            (answer,) = json.loads(ask(connection, body))["predictions"]
            known[str(path)] = {"file": str(path), **answer}
            kept.write(json.dumps(known[str(path)]) + "\n")
            kept.flush()
    connection.close()
    return [known[str(path)] for path in files]


def drawn(files: Sequence[Path], count: int) -> list[Path]:
    """Draw so many files, in order."""
    chosen = numpy_generator(0, "serve-evidence").choice(len(files), min(count, len(files)), replace=False)
    return [files[index] for index in sorted(chosen)]


def evaluated(client: MlflowClient, uri: str, scratch: Path) -> Predictions:
    """Return what evaluate found for the run that a version was registered from."""
    trained = client.get_run(str(registry.version_at(client, uri).run_id))
    return Predictions.read(download(trained.data.tags[EVALUATED_BY], PREDICTIONS, scratch))


def scores(model: Served, files: Sequence[Path]) -> dict[str, NDArray[np.float64]]:
    """Return by rule how much an image is doubted: 1 - largest probability, and the distance."""
    outputs = list(model.outputs(path.read_bytes() for path in files))
    sure = np.concatenate([model.probabilities(output.logits).max(axis=1) for output in outputs])
    found = {"probability": 1 - sure}
    if model.distance is not None:
        found["distance"] = np.concatenate([output.distances for output in outputs if output.distances is not None])
    return found


def auroc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """Return the probability that an image of another kind is doubted more than a test image; equal ones count half."""
    more = (outside[:, None] > inside).mean() + 0.5 * (outside[:, None] == inside).mean()
    return float(more)


def main() -> None:
    """Ask, compare, report."""
    parser = options(__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--others", type=Path, nargs="*", default=[])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("outputs/serve-evidence"))
    chosen = parser.parse_args()
    quiet()
    client = connected()
    source = Registered(client, chosen.model)
    wanted = source.wanted()
    manifest = read_manifest(chosen.data)
    rows = manifest.split_frame("test")
    folder = chosen.out / f"{wanted.digest[:12]}-{chosen.images}"
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    words = ("pipelines.serve", "--model", chosen.model, "--port", str(port))
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/mlflow.db")  # the server starts elsewhere
    sets = {"test": drawn(manifest.paths(rows), chosen.images)}
    for other in chosen.others:
        sets[other.name] = drawn([other / name for name in files_below(other)[0]], chosen.images)
    with tempfile.TemporaryDirectory() as scratch:
        with served(words, port, Path(scratch)):
            said = {name: answers(port, files, folder / f"{name}.jsonl") for name, files in sets.items()}
        found = evaluated(client, chosen.model, Path(scratch))
    model = Release.of(source, wanted).served
    doubts = {name: scores(model, files) for name, files in sets.items()}
    names = [str(path.relative_to(manifest.root)) for path in sets["test"]]
    report = Report("serve_evidence", {"model": chosen.model, "version": wanted.version, "images": chosen.images})
    compare(report, said["test"], found, names)
    for name, answered in said.items():
        share = float(np.mean([answer["abstain"] for answer in answered]))
        report.facts[f"abstained, {name}"] = share
        if name == "test":
            report.checks["abstained, test"] = (share, REFUSED)
        else:
            report.checks[f"answered, {name}"] = (1 - share, 1 - CAUGHT)
            for rule, values in doubts[name].items():
                report.facts[f"AUROC by {rule}, test against {name}"] = auroc(doubts["test"][rule], values)
    if chosen.log:
        curve(found, manifest.dataset)
    report.publish(chosen.log)


def compare(report: Report, said: Sequence[dict[str, Any]], found: Predictions, names: Sequence[str]) -> None:
    """Hold answers to evaluate's predictions of the same images."""
    frame = found.frame.set_index("image").loc[list(names)]
    wanted = frame[[f"p_{label}" for label in found.classes]].to_numpy()
    listed = [{one["label"]: one["probability"] for one in answer["probabilities"]} for answer in said]
    served_ = np.array([[row[label] for label in found.classes] for row in listed])
    best = frame["predicted"].to_numpy()
    own = np.array([answer["label"] for answer in said])
    report.facts["accuracy over REST"] = float((own == frame["label"]).mean())
    report.facts["accuracy by evaluate"] = float((best == frame["label"]).mean())
    kept = np.array([not answer["abstain"] for answer in said])
    report.facts["accuracy over REST, of those answered"] = float((own == frame["label"])[kept].mean())
    report.checks["images whose label is not evaluate's"] = (float((own != best).sum()), 0)
    report.checks["largest difference of a probability from evaluate's"] = (
        float(np.abs(served_ - wanted).max()), TOLERANCE,
    )  # fmt: skip


def curve(found: Predictions, dataset: str) -> None:
    """Log accuracy by coverage: over all test images, the least sure left out first; step is the share answered, %."""
    wanted = found.frame[[f"p_{label}" for label in found.classes]].to_numpy()
    right = (found.frame["predicted"] == found.frame["label"]).to_numpy()
    order = np.argsort(-wanted.max(axis=1), kind="stable")
    with tracked(f"dermonas/{dataset}", "evaluate", "accuracy-coverage", {}, adopt=False) as run:
        for percent in range(10, 101, 5):
            answered = order[: max(1, round(len(order) * percent / 100))]
            run.metrics({"coverage/accuracy": float(right[answered].mean())}, step=percent)


if __name__ == "__main__":
    main()
