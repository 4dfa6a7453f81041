"""What the table part of `prepare` costs by the number of images: seconds by phase, peak memory, and the exponent.

    python -m benchmarks.prepare [--rows 10000 100000 1000000 1300000] [--peer 10000] [--folder FOLDER]

Every size runs in a fresh process: real (empty) files in 1,000 class folders are listed, then everything after the
inspection runs as it is, down to the manifest on disk. What an inspection would find is generated: coefficients of
low frequencies, hashed as `data.hashing` does, from which thumbnails are drawn when they are asked for. Their bits are
biased so that two rows agree on a key of the index as often as two photographs of Imagenette do (2^-19.3, against
2^-20.8 without bias). Planted: 1 % copies of a file, 1 % turned copies with noise, 1 % in crowds of a hundred that
show one picture with noise; with `--crowd K`, every K-th row shows one picture. Seconds are of the CPU, the drawing of
thumbnails left out. `--peer` times the index and comparing all hashes with all in turn.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermonas.data import hash_index
from dermonas.data import prepare as prepare_module
from dermonas.data.config import PrepareConfig
from dermonas.data.hashing import ORIENTATIONS, SIDE, _pack, low_frequencies, orient_frequencies
from dermonas.data.inspection import Inspection
from dermonas.data.journal import FACTS, Journal
from dermonas.data.leakage import near_duplicates
from dermonas.data.manifest import Manifest
from dermonas.events import Silent
from dermonas.seeding import numpy_generator

CLASSES = 1000
BLOCK = 100  # rows of one generator: copies lie within a block
SMALL_CROWD = 10_000  # rows of which one in a hundred shows one picture
BIAS = 0.29  # shift of a coefficient in standard deviations: makes keys collide as Imagenette's do
NOISE = 0.02  # of a near-duplicate's coefficients, in standard deviations
ROUNDS = 5
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
        low = low_frequencies(np.eye(SIDE * SIDE, dtype=np.uint8).reshape(-1, SIDE, SIDE))
        self._waves = low.reshape(SIDE * SIDE, 64)

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


class _Generated(Inspection):
    def __init__(self, pictures: Pictures, journal: Journal) -> None:
        super().__init__(pictures.count, journal)
        self._pictures = pictures
        self.drawing = 0.0
        for start in range(0, pictures.count, 40 * BLOCK):
            rows = np.arange(start, min(start + 40 * BLOCK, pictures.count))
            self.fill(rows, pictures.facts(start, int(rows[-1]) + 1), rows)

    def thumbnails(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        began = time.process_time()
        found = self._pictures.thumbnails(rows)
        self.drawing += time.process_time() - began
        return found


def one_size(count: int, folder: Path, crowd: int) -> dict[str, Any]:
    """Prepare `count` generated images; return seconds by phase and the peak memory of this process."""
    root = folder / "images"
    for number in range(count):
        place = root / "train" / f"n{number % CLASSES:08d}"
        if number < CLASSES:
            place.mkdir(parents=True)
        (place / f"n{number % CLASSES:08d}_{number}.JPEG").touch()
    seconds: dict[str, float] = {}
    made: list[_Generated] = []

    def generated(_: Path, paths: list[str], journal: Journal, **__: Any) -> Inspection:
        began = time.process_time()
        made.append(_Generated(Pictures(len(paths), crowd), journal))
        seconds["generated"] = time.process_time() - began
        return made[0]

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
    seconds["near-duplicates"] -= made[0].drawing
    seconds["rest"] = whole - made[0].drawing - sum(seconds.values())
    audit = json.loads((folder / "out" / "audit.json").read_text())
    return {
        "rows": count,
        "seconds": seconds,
        "whole": whole - made[0].drawing,
        "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "pairs": audit["near_duplicate_pairs"],
        "near_duplicate_images": audit["near_duplicate_images"],
        "groups": audit["groups"],
        "digest": manifest.digest[:16],
    }


def peer(count: int) -> None:
    """Time the index and comparing all with all in turn; both give the same pairs."""
    pictures = Pictures(count)
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder), {}) as journal:
        found = _Generated(pictures, journal)
    thumbs = pictures.thumbnails(np.arange(count))
    times: dict[str, list[float]] = {"index": [], "all with all": []}
    known = None
    for number in range(ROUNDS):
        for name in list(times) if number % 2 else list(times)[::-1]:
            hash_index._SMALL = 0 if name == "index" else count
            began = time.process_time()
            pairs = near_duplicates(found.prints, lambda rows: thumbs[rows])
            times[name].append(time.process_time() - began)
            listed = np.stack([pairs.i, pairs.j])
            if known is not None and not np.array_equal(known, listed):
                raise SystemExit("the index and comparing all with all give other pairs")
            known = listed
    assert known is not None
    ratio = sorted(b / a for a, b in zip(times["index"], times["all with all"], strict=True))
    print(f"{count} rows, {known.shape[1]} pairs on both sides; CPU seconds, median of {ROUNDS}:")
    print("; ".join(f"{name} {statistics.median(values):.2f}" for name, values in times.items()), end="; ")
    print(f"ratio {statistics.median(ratio):.2f} [{ratio[0]:.2f}, {ratio[-1]:.2f}]")


def main() -> None:
    """Run each size in a process of its own, print the table and the exponent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000, 1_300_000])
    parser.add_argument("--peer", type=int, nargs="*", default=[10_000])
    parser.add_argument("--crowd", type=int, default=0, help="one row in so many shows one and the same picture")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_size(options.one, options.folder, options.crowd)))
        return
    results = []
    for count in options.rows:
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        command = [sys.executable, "-m", "benchmarks.prepare", "--one", str(count), "--folder", str(folder)]
        command += ["--crowd", str(options.crowd)]
        try:
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        finally:
            shutil.rmtree(folder)
        results.append(json.loads(done.stdout))
        print(done.stdout, end="", flush=True)
    names = [*PHASES.values(), "rest"]  # the digest, columns and counts
    print("| rows | " + " | ".join(names) + " | whole, s | us a row | peak, GB |")
    for found in results:
        parts = " | ".join(f"{found['seconds'][name]:.2f}" for name in names)
        each = found["whole"] / found["rows"] * 1e6
        print(f"| {found['rows']} | {parts} | {found['whole']:.1f} | {each:.0f} | {found['memory_gb']:.2f} |")
    large = [found for found in results if found["rows"] >= 100_000]
    if len(large) > 1:
        slope = np.polyfit([np.log(found["rows"]) for found in large], [np.log(found["whole"]) for found in large], 1)
        print(f"exponent from {large[0]['rows']} to {large[-1]['rows']} rows: {slope[0]:.3f}")
    for count in options.peer:
        peer(count)


if __name__ == "__main__":
    main()
