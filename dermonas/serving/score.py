"""Probabilities of image files by a packaged model with its own code, in a process of its own.

A registered model is compared as it would be served: by the code in its package, which may be older than ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermonas.errors import DermonasError, ImageError, StorageError
from dermonas.serving.served import Served

_ENTRY = "dermonas.serving.score"  # a package made today must answer to it in years


def score_packaged(folder: Path, files: Sequence[Path]) -> NDArray[np.float64]:
    """Return temperature-scaled probabilities (n, classes) of image files by a packaged model.

    Args:
        folder: Of the package; see `dermonas.serving.digest.verify`.
        files: Encoded images.

    Raises:
        StorageError: The package fails; holds its last line.
    """
    code = folder / "code"
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        "PYTHONPATH": str(code.resolve()),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    with tempfile.TemporaryDirectory() as scratch:
        listing, out = Path(scratch) / "images.json", Path(scratch) / "probabilities.npy"
        listing.write_text(json.dumps([str(path.resolve()) for path in files]))
        # -P: the working folder, which may hold another dermonas, is not searched.
        words = [sys.executable, "-P", "-m", _ENTRY, str(folder / "artifacts"), str(listing), str(out)]
        done = subprocess.run(words, env=environment, cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise StorageError(f"the packaged model in {folder} fails: {lines[-1][:300]}; register it again")
        return np.asarray(np.load(out, allow_pickle=False), dtype=np.float64)


def read_images(files: Sequence[Path]) -> Iterator[bytes]:
    """Yield the bytes of image files.

    Raises:
        ImageError: A file that cannot be read.
    """
    for path in files:
        try:
            yield path.read_bytes()
        except OSError as error:
            raise ImageError(f"{path}: unreadable ({error.strerror or error}); run prepare again") from error


def main(artifacts: str, listing: str, out: str) -> None:
    """Score the images of a JSON list of paths with a package's artifacts, into a NumPy file."""
    files = [Path(name) for name in json.loads(Path(listing).read_text())]
    np.save(out, Served.load(Path(artifacts)).predict(read_images(files)), allow_pickle=False)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except DermonasError as failure:
        sys.exit(str(failure))
