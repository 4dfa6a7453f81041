"""Packs a program, its description, its code and its card into one MLflow model without pickle.

The package carries the few files of dermonas that serving needs, so it is loaded without the project, and without
timm, lightning or scikit-learn: torch, numpy, pandas, pillow and mlflow are all, in the versions that packed it.
"""

from __future__ import annotations

import base64
import io
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import save_model
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Object, Property
from PIL import Image
from torch import nn

import dermonas
from dermonas.errors import StorageError
from dermonas.serving.description import CARD, DESCRIPTION, HEAD, PROGRAM, Description
from dermonas.serving.distance import DISTANCE, Distance

CODE = (
    "__init__.py",
    "errors.py",
    "explain/__init__.py",
    "explain/cam.py",
    "imaging/__init__.py",
    "imaging/decode.py",
    "imaging/dicom.py",
    "imaging/normalise.py",
    "imaging/polyglot.py",
    "imaging/resize.py",
    "serving/__init__.py",
    "serving/description.py",
    "serving/digest.py",
    "serving/distance.py",
    "serving/look.py",
    "serving/program.py",
    "serving/request.py",
    "serving/score.py",
    "serving/served.py",
)
"""Files of dermonas in a package; serving/model.py lies beside MLmodel."""

REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "torch")
"""Packages that a packaged model needs, pinned to what it was packed with."""

_EXACT = 1e-4  # absolute and relative; what separates a pool + linear head from any other is far more


def head_of(network: nn.Module, size: int) -> np.ndarray | None:
    """Return the weight of the linear layer behind global average pooling, float32 (classes, features).

    Args:
        network: Has `logits_and_map` and `classifier`, in evaluation mode.
        size: Side of its input in pixels.

    Returns:
        None where the network has no such layer, or where its logits are not pool + linear of its map: a map from
        that weight would then explain another network.
    """
    layer = getattr(network, "classifier", None)
    if not isinstance(layer, nn.Linear):
        return None
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits, features = network.logits_and_map(images)  # type: ignore[operator]
        if features.ndim != 4 or features.shape[1] != layer.in_features:
            return None
        again = layer(features.mean(dim=(2, 3)))
    if not torch.allclose(logits, again, rtol=_EXACT, atol=_EXACT):
        return None
    return np.asarray(layer.weight.detach().float().cpu().numpy())


def write_artifacts(
    folder: Path, description: Description, head: np.ndarray | None, card: str, distance: Distance | None = None
) -> None:
    """Write what stands beside the program: model.json, card.md, and where there are such head.npy and distance.npz.

    Raises:
        StorageError: The disk refuses.
    """
    description.write(folder)
    try:
        (folder / CARD).write_text(card, "utf-8")
        if head is not None:
            np.save(folder / HEAD, head, allow_pickle=False)
        if distance is not None:
            distance.write(folder)
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from error


def package(artifacts: Path, folder: Path, model: Model | None = None, metadata: dict[str, Any] | None = None) -> None:
    """Write the MLflow model.

    Args:
        artifacts: Holds program.pt2, model.json, card.md and perhaps head.npy and distance.npz.
        folder: Of the package; must not exist.
        model: MLflow's entity to complete; a new one by default.
        metadata: JSON-able facts for the MLmodel file.

    Raises:
        StorageError: The disk refuses.
    """
    description = Description.read(artifacts)
    source = Path(dermonas.__file__).parent
    names = {"program": PROGRAM, "description": DESCRIPTION, "card": CARD, "head": HEAD, "distance": DISTANCE}
    held = {key: str(artifacts / name) for key, name in names.items() if (artifacts / name).exists()}
    try:
        with tempfile.TemporaryDirectory() as scratch:
            code = Path(scratch) / "dermonas"
            for name in CODE:
                (code / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, code / name)
            save_model(
                str(folder),
                python_model=str(source / "serving" / "model.py"),
                artifacts=held,
                code_paths=[str(code)],
                signature=signature(),
                input_example=(example(description), {"top_k": 3, "cam": False, "tta": False}),
                pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
                mlflow_model=model,
                metadata=metadata,
            )
        for compiled in list(folder.rglob("__pycache__")):
            shutil.rmtree(compiled)
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error.strerror or error}") from error


def signature() -> ModelSignature:
    """Return the contract: columns of a request and of an answer, and parameters with their defaults."""
    text, number = DataType.string, DataType.double
    listed = Array(Object([Property("label", text), Property("probability", number)]))
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(text, "image"),
                ColSpec(number, "age", required=False),
                ColSpec(text, "sex", required=False),
                ColSpec(text, "site", required=False),
            ]
        ),
        outputs=Schema(
            [
                ColSpec(text, "label"),
                ColSpec(number, "probability"),
                ColSpec(listed, "probabilities"),
                ColSpec(DataType.boolean, "abstain"),
                ColSpec(text, "reason"),
                ColSpec(text, "cam", required=False),
                *(ColSpec(text, name) for name in ("model", "version", "digest", "notice")),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("top_k", DataType.long, 3),
                ParamSpec("cam", DataType.boolean, False),
                ParamSpec("tta", DataType.boolean, False),
            ]
        ),
    )


def example(description: Description) -> pd.DataFrame:
    """Return an input example: one PNG of a colour gradient, made here and of no patient."""
    side = description.stored
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (side, 1)), np.tile(ramp[:, None], (1, side)), np.full((side, side), 128)], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="PNG")
    return pd.DataFrame({"image": [base64.b64encode(buffer.getvalue()).decode("ascii")]})
