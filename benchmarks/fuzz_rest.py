"""Coverage-guided fuzz of the server's request path (atheris): whatever is sent is answered by 200 or by one line.

    pip install atheris
    python -m benchmarks.fuzz_rest --package FOLDER [--corpus outputs/fuzz-rest] [--seconds 600]

FOLDER is the folder of a registered version's files (it holds MLmodel). A finding stops the run with its request in a
file crash-*; what the fuzz learned stays in the corpus, from which the same command goes on.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["dermonas.serving", "dermonas.imaging", "PIL"]):
    import numpy as np
    from PIL import Image
    from starlette.testclient import TestClient

    from dermonas.serving.digest import files_digest
    from dermonas.serving.rest.door import Door
    from dermonas.serving.rest.limits import Limits
    from dermonas.serving.rest.metrics import Metrics
    from dermonas.serving.rest.release import Release, Wanted
    from dermonas.serving.rest.routes import Api
    from dermonas.serving.rest.service import Service

_ANSWERS = (200, 400, 413, 415)
_JSON, _IMAGE, _ROWS = range(3)  # what a request's first byte chooses, modulo 3
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")


def body_of(data: bytes) -> bytes:
    """Turn the fuzz's bytes into a body: as they are, as an image, or as rows and columns around an image."""
    kind, rest = data[0] % 3, data[1:]
    if kind == _JSON:
        return rest
    image = base64.b64encode(rest).decode()
    content: dict[str, Any] = {"inputs": [{"image": image}], "params": {"cam": True}}
    if kind == _ROWS:
        content = {"dataframe_split": {"columns": ["image"], "data": [[image], [image[::-1]]]}}
    return json.dumps(content).encode()


def seeds(folder: Path) -> None:
    """Write what the fuzz starts from: an image of each format, and bodies of each form."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    for kind in _FORMATS:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        for first in (_IMAGE, _ROWS):
            (folder / f"{kind}-{first}").write_bytes(bytes([first]) + buffer.getvalue())
        if kind == "PNG":
            text = base64.b64encode(buffer.getvalue()).decode()
            for name, table in (
                ("inputs", [{"image": text}]),
                ("inputs", {"image": [text]}),
                ("instances", [{"image": text}]),
                ("dataframe_records", [{"image": text}]),
                ("dataframe_split", {"columns": ["image"], "data": [[text]], "index": [0]}),
            ):
                body = json.dumps({name: table, "params": {"cam": False}}).encode()
                (folder / f"{name}-{type(table).__name__}").write_bytes(bytes([_JSON]) + body)


def main() -> None:
    """Fuzz until the time is over or a request breaks the promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, default=Path("outputs/fuzz-rest"))
    parser.add_argument("--seconds", type=int, default=600)
    chosen = parser.parse_args()
    chosen.corpus.mkdir(parents=True, exist_ok=True)
    if not any(chosen.corpus.iterdir()):
        seeds(chosen.corpus)
    release = Release.load(Wanted("1", files_digest(chosen.package)), chosen.package)
    service = Service(release, Limits(rows=4, pixels=200_000, body_mib=1), 1, Metrics())
    statuses: dict[int, int] = {}
    client = TestClient(Door(Api(service).routes(), service.metrics))

    def one(data: bytes) -> None:
        if not data:
            return
        response = client.post("/invocations", content=body_of(data), headers={"Content-Type": "application/json"})
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        if not sum(statuses.values()) % 1000:
            print(f"{sum(statuses.values())} requests: {dict(sorted(statuses.items()))}", flush=True)
        if response.status_code not in _ANSWERS:
            raise AssertionError(f"status {response.status_code}: {response.text}")
        if response.status_code != 200:
            message = response.json()["message"]
            if "\n" in message or len(message) >= 200:
                raise AssertionError(f"not one short line: {message!r}")

    words = [sys.argv[0], str(chosen.corpus), f"-max_total_time={chosen.seconds}", "-max_len=6000", "-timeout=60"]
    atheris.Setup(words, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
