"""Images/s of the real `prepare` and the real cache on generated JPEGs, and both killed half-way and gone on with.

    python -m benchmarks.prepare_images [--images 20000] [--side 192] [--resolution 96] [--folder FOLDER] [--no-log]

The files are synthetic random textures in 100 class folders, drawn first. Each of the four runs (prepare, prepare
killed with kill -9 and started again, the cache, the cache killed and started again) is a process of its own with all
cores (`benchmarks.stage`); the second of each must read only what the first had not and end with the same digest or
pixels. One run each: images/s are of this machine's clock and disk.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.measure import Report, options
from dermonas.data.cache import _CORES
from dermonas.data.journal import RECORD
from dermonas.seeding import numpy_generator

CLASSES = 100
QUALITY = 90  # JPEG
SHARES = {"prepare": 0.5, "cache": 0.3}
"""Of the journal and of the shards: how much is there when the process is killed."""


def draw(root: Path, count: int, side: int) -> None:
    """Write random textures, smooth and with noise, as JPEG."""
    for number in range(count):
        rng = numpy_generator(0, "texture", number)
        smooth = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((side, side))
        pixels = np.asarray(smooth, dtype=np.int16) + rng.integers(-20, 21, (side, side, 3), dtype=np.int16)
        folder = root / f"class{number % CLASSES:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"t{number:07d}.jpg", quality=QUALITY)


def run(name: str, folder: Path, out: Path, resolution: int, kill_at: int = 0) -> dict[str, Any]:
    """Run a stage in a process of its own; with `kill_at`, kill it once so many bytes are written."""
    command = [sys.executable, "-m", "benchmarks.stage", name, str(folder), str(out), str(resolution)]
    # A group of its own, so that the helpers die with it.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    while kill_at and process.poll() is None:
        if written(name, out) >= kill_at:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return {"written": written(name, out)}
        time.sleep(0.02)
    answer, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}")
    if kill_at:
        raise SystemExit(f"{name} ended before it was killed: give more --images")
    found: dict[str, Any] = json.loads(answer)
    return found


def written(name: str, out: Path) -> int:
    """Return the bytes of what a stage has done."""
    done = out.glob(".prepare/inspected.bin" if name == "prepare" else "cache/*/*.npy")
    return sum(path.stat().st_size for path in done)


def add(report: Report, name: str, found: dict[str, Any], images: int) -> None:
    """Report one run."""
    report.rows[name, "images/s"] = (images / found["wall"],)
    report.rows[name, "s"] = (found["wall"],)
    report.rows[name, "CPU s"] = (found["cpu"],)
    own, helper = found["memory_gb"]
    report.facts[f"{name}, peak GB of itself"] = own
    report.facts[f"{name}, peak GB of its largest helper"] = helper


def main() -> None:
    """Draw, run all four, and report."""
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=192, help="of a file, pixels")
    parser.add_argument("--resolution", type=int, default=96, help="of the cache, pixels")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    chosen = parser.parse_args()
    images, resolution = chosen.images, chosen.resolution
    settings = {key: getattr(chosen, key) for key in ("images", "side", "resolution")}
    report = Report("prepare_images", {**settings, "processes": _CORES})
    folder = Path(tempfile.mkdtemp(dir=chosen.folder))
    try:
        began = time.perf_counter()
        draw(folder / "images", images, chosen.side)
        report.facts["drawing the files, s"] = time.perf_counter() - began
        for name, size in {"prepare": images * RECORD.itemsize, "cache": images * resolution**2 * 3}.items():
            whole = run(name, folder, folder / "whole", resolution)
            add(report, name, whole, images)
            if name == "cache":
                for table in ("manifest.json", "manifest.parquet"):
                    shutil.copy(folder / "whole" / table, folder / "killed")
            killed = run(name, folder, folder / "killed", resolution, kill_at=int(size * SHARES[name]))
            again = run(name, folder, folder / "killed", resolution)
            left = images - int(killed["written"] * images / size)
            add(report, f"{name} gone on with", again, left)
            report.facts[f"{name} gone on with, images left"] = left
            report.checks[f"{name}, came to something else after a kill"] = (int(again["answer"] != whole["answer"]), 0)
    finally:
        shutil.rmtree(folder)
    report.publish(chosen.log)


if __name__ == "__main__":
    main()
