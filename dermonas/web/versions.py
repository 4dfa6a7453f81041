"""The registered versions of a model as rows of a table: what they are, and the figures of their trainings.

What a registry holds may be written by others: a value that is not of the form that we write is left out, and all of it
is text for the page to show.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from dermonas.tracking.lookup import DIGEST
from dermonas.tracking.registry import CHAMPION, DECISION
from dermonas.tracking.store import store_errors

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc_macro", "ece")
"""Of the test images, by their MLflow names without "test/"."""
COST = ("params_m", "macs_g", "latency_ms")
"""Of the network, without "model/"."""

Row = dict[str, Any]


def rows(client: MlflowClient, name: str, most: int) -> list[Row]:
    """Return the newest versions of a registered model, newest first.

    Args:
        client: Of the tracking store.
        name: Registered model.
        most: Rows.

    Returns:
        JSON-able: version, champion, registered (ISO 8601), network, dataset_digest, synthetic, reason, validation
        (balanced accuracy) and images, figures (each value, lo, hi) and cost; None for what is not known.

    Raises:
        StorageError: The registry cannot be read.
    """
    with store_errors():
        found = client.search_model_versions(f"name = '{name}'", max_results=most, order_by=["version_number DESC"])
        champion = client.get_registered_model(name).aliases.get(CHAMPION)
    return [_row(version, str(version.version) == str(champion), _metrics(client, version)) for version in found]


def _row(version: ModelVersion, champion: bool, metrics: dict[str, float]) -> Row:
    tags, decision = version.tags, _object(version.tags.get(DECISION, ""))
    figures = {
        name: {
            "value": _number(metrics.get(f"test/{name}")),
            "lo": _number(metrics.get(f"test/{name}/lo")),
            "hi": _number(metrics.get(f"test/{name}/hi")),
        }
        for name in FIGURES
        if _number(metrics.get(f"test/{name}")) is not None
    }
    return {
        "version": str(version.version),
        "champion": champion,
        "registered": datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        "network": tags.get("dermonas.model"),
        "dataset_digest": tags.get(DIGEST),
        "synthetic": tags.get("dermonas.synthetic") == "True",
        "reason": tags.get("dermonas.reason"),
        "validation": _number(decision.get("balanced_accuracy")),
        "images": _number(decision.get("images")),
        "figures": figures,
        "cost": {name: _number(metrics.get(f"model/{name}")) for name in COST},
    }


def _metrics(client: MlflowClient, version: ModelVersion) -> dict[str, float]:
    """Return the metrics of the training that a version came from; none where that is gone."""
    if not version.run_id:
        return {}
    with store_errors():
        try:
            return dict(client.get_run(version.run_id).data.metrics)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    """Return a finite number, or None."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and abs(value) < 1e300 and math.isfinite(value) else None
