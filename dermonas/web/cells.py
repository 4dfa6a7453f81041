"""Drawings of the cells of a version's network, from the genotype that its training kept."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

from dermonas.space import zoo
from dermonas.space.drawing import draw
from dermonas.space.genotype import Cell
from dermonas.tracking.runs import download
from dermonas.tracking.store import store_errors

_GENOTYPE = "genotype.json"
_INPUTS = ("the input before last", "the last input")


def cells(client: MlflowClient, name: str, version: str) -> dict[str, Any]:
    """Return drawings of a version's cells, or why there are none.

    Args:
        client: Of the tracking store.
        name: Registered model.
        version: Its version.

    Returns:
        JSON-able: version, why (in words; "" where there are cells), and cells, each with title, svg and text, which
        says what the drawing shows.

    Raises:
        StorageError: The store cannot be read.
        GenotypeError: What it holds is no genotype.
    """
    with store_errors():
        run = client.get_model_version(name, version).run_id or ""
        names = {item.path for item in client.list_artifacts(run)} if run else set()
    if _GENOTYPE not in names:
        return {"version": version, "why": "This network is not built of searched cells.", "cells": []}
    with tempfile.TemporaryDirectory(prefix="dermonas-cells-") as scratch:
        folder = Path(scratch)
        genotype = zoo.load(download(run, _GENOTYPE, folder))
        draw(genotype, folder)
        drawn = [
            {
                "title": f"{kind.capitalize()} cell",
                "svg": (folder / f"{kind}.svg").read_text("utf-8"),
                "text": said(cell),
            }
            for kind, cell in (("normal", genotype.normal), ("reduction", genotype.reduce))
        ]
    return {"version": version, "why": "", "cells": drawn}


def said(cell: Cell) -> str:
    """Return what a drawing of a cell shows, in words."""
    lines = []
    for number, edges in enumerate(cell.nodes):
        parts = " plus ".join(f"{operation} of {_state(source)}" for operation, source in edges)
        dead = "" if number in cell.live_nodes else " (dead: it does not reach the output)"
        lines.append(f"Node {number}: {parts}{dead}.")
    joined = ", ".join(str(state - 2) for state in cell.concat)
    return " ".join([*lines, f"The output joins nodes {joined}."])


def _state(state: int) -> str:
    return _INPUTS[state] if state < 2 else f"node {state - 2}"
