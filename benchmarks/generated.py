"""Generated pictures, and one prepare of them in this process: seconds by phase and peak memory.

    python -m benchmarks.generated COUNT FOLDER CROWD

What `benchmarks.prepare` runs in a fresh process a size. It imports no torch, nor does `prepare`: that would be most
of the memory of a small data set.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermonas.data import prepare as prepare_module
from dermonas.data.config import PrepareConfig
from dermonas.data.hashing import ORIENTATIONS, SIDE, _pack, low_frequencies, orient_frequencies
from dermonas.data.inspection import Inspection
from dermonas.data.journal import FACTS, Journal
from dermonas.data.manifest import Manifest
from dermonas.events import Silent
from dermonas.seeding import numpy_generator

CLASSES = 1000
BLOCK = 100  # rows of one generator: copies lie within a block
SMALL_CROWD = 10_000  # rows of which one in a hundred shows one picture
BIAS = 0.29  # shift of a coefficient in standard deviations: makes keys collide as Imagenette's do
NOISE = 0.02  # of a near-duplicate's coefficients, in standard deviations
PHASES = {
    "list_source": "list", "near_duplicates": "near-duplicates", "merge_groups": "groups", "assign_splits": "splits",
    "select_search_rows": "search set", "audit_leakage": "audit", "write_manifest": "write",
}  # fmt: skip


class Pictures:
    """Rows of generated pictures: coefficients of 8 x 8 frequencies, thumbnails and hashes, all keyed by row."""

    def __init__(self, count: int, crowd: int = 0) -> None:
        self.count, self.crowd = count, crowd
        steps = np.arange(8)
        self._scale = 300.0 / (1.0 + np.add.outer(steps, steps))
        self._shift = BIAS * np.sign(numpy_generator(0, "bias").normal(size=(8, 8)))
        # Of one lit pixel each; a row of pixels a time, or these would be the peak memory of a small data set.
        lit = np.eye(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE, SIDE, SIDE)
        self._waves = np.concatenate([low_frequencies(row).reshape(SIDE, 64) for row in lit])

    def coefficients(self, block: int) -> NDArray[np.float64]:
        """Return (BLOCK, 8, 8) of a block of rows."""
        rng = numpy_generator(0, "block", block)
        low = rng.normal(size=(BLOCK, 8, 8)) + self._shift
        noise = NOISE * rng.normal(size=low.shape)
        low[2] = low[1]  # the same file
        low[4] = orient_frequencies(low[3], int(rng.integers(ORIENTATIONS))) + noise[4]
        low[5] = numpy_generator(0, "few", block * BLOCK // SMALL_CROWD).normal(size=(8, 8)) + noise[5]
        if self.crowd:
            alike = (block * BLOCK + np.arange(BLOCK)) % self.crowd == 0
            low[alike] = numpy_generator(0, "many").normal(size=(8, 8)) + noise[alike]
        low *= self._scale
        low[:, 0, 0] = 128.0 * SIDE
        return low

    def facts(self, start: int, stop: int) -> NDArray[np.void]:
        """Return what an inspection finds of rows; `start` begins a block."""
        low = np.concatenate([self.coefficients(block) for block in range(start // BLOCK, -(-stop // BLOCK))])
        low = low[: stop - start]
        facts = np.zeros(len(low), FACTS)
        facts["hashes"] = np.stack([_pack(orient_frequencies(low, k)) for k in range(ORIENTATIONS)], axis=1)
        facts["clear"], facts["width"], facts["height"] = True, 500, 375
        digests = [hashlib.sha256(row.tobytes()).digest() for row in low]
        facts["sha256"] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
        return facts

    def thumbnails(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Draw thumbnails."""
        found = np.empty((len(rows), SIDE, SIDE), np.uint8)
        for block in np.unique(rows // BLOCK).tolist():
            at = np.flatnonzero(rows // BLOCK == block)
            low = self.coefficients(block)[rows[at] % BLOCK].reshape(-1, 64)
            found[at] = np.clip(low @ self._waves.T, 0, 255).reshape(-1, SIDE, SIDE)
        return found


class Generated(Inspection):
    """An inspection of generated pictures.

    Args:
        pictures: All of them.
        journal: Unused; an inspection has one.
        seconds: By what: CPU seconds of drawing thumbnails are added to those of "drawing".
    """

    def __init__(self, pictures: Pictures, journal: Journal, seconds: dict[str, float]) -> None:
        super().__init__(pictures.count, journal)
        self._pictures, self._seconds = pictures, seconds
        for start in range(0, pictures.count, 40 * BLOCK):
            rows = np.arange(start, min(start + 40 * BLOCK, pictures.count))
            self.fill(rows, pictures.facts(start, int(rows[-1]) + 1), rows)

    def thumbnails(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Draw the thumbnails of rows, uint8 (k, 64, 64)."""
        began = time.process_time()
        found = self._pictures.thumbnails(rows)
        self._seconds["drawing"] = self._seconds.get("drawing", 0.0) + time.process_time() - began
        return found


def peak_memory() -> float:
    """Return the peak of this process's resident memory so far, GB.

    Not `ru_maxrss`: a process that was started by a larger one begins with the larger one's.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e9


def one_size(count: int, folder: Path, crowd: int) -> dict[str, Any]:
    """Prepare `count` generated images.

    Args:
        count: Images.
        folder: An empty one.
        crowd: One image in so many shows one and the same picture; 0: none.

    Returns:
        "rows", "seconds" by phase and as a "whole", "memory_gb" (the peak of this process), "digest" of the manifest,
        and of the audit: "pairs", "near_duplicate_images", "groups".
    """
    root = folder / "images"
    for number in range(count):
        place = root / "train" / f"n{number % CLASSES:08d}"
        if number < CLASSES:
            place.mkdir(parents=True)
        (place / f"n{number % CLASSES:08d}_{number}.JPEG").touch()
    seconds: dict[str, float] = {"drawing": 0.0}

    def generated(_: Path, paths: list[str], journal: Journal, **__: Any) -> Inspection:
        # Not kept here: prepare lets go of an inspection before it ends.
        began = time.process_time()
        made = Generated(Pictures(len(paths), crowd), journal, seconds)
        seconds["generated"] = time.process_time() - began
        return made

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **more: Any) -> Any:
            began = time.process_time()
            result = function(*values, **more)
            seconds[name] = time.process_time() - began
            return result

        return call

    for name, phase in PHASES.items():
        setattr(prepare_module, name, timed(phase, getattr(prepare_module, name)))
    prepare_module.inspect_files = generated  # type: ignore[assignment]
    config = PrepareConfig("imagenet", "folder", root, folder / "out")
    began = time.process_time()
    manifest: Manifest = prepare_module.prepare(config, Silent())
    whole = time.process_time() - began - seconds.pop("generated")
    drawing = seconds.pop("drawing")
    seconds["near-duplicates"] -= drawing
    seconds["rest"] = whole - drawing - sum(seconds.values())
    audit = json.loads((folder / "out" / "audit.json").read_text())
    return {
        "rows": count,
        "seconds": seconds,
        "whole": whole - drawing,
        "memory_gb": peak_memory(),
        "pairs": audit["near_duplicate_pairs"],
        "near_duplicate_images": audit["near_duplicate_images"],
        "groups": audit["groups"],
        "digest": manifest.digest[:16],
    }


if __name__ == "__main__":
    print(json.dumps(one_size(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
