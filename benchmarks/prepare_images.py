"""Images/s of the real `prepare` and the real cache on generated JPEGs, and both killed half-way and gone on with.

    python -m benchmarks.prepare_images [--images 20000] [--side 192] [--resolution 96] [--folder FOLDER]

The files are synthetic random textures in 100 class folders, drawn first. Each of the four runs (prepare, prepare
killed with kill -9 and started again, the cache, the cache killed and started again) is a process of its own with all
cores; the second of each must read only what the first had not and end with the same digest or pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
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

from dermonas.data.cache import _CORES, decoded_cache
from dermonas.data.config import PrepareConfig
from dermonas.data.journal import RECORD
from dermonas.data.manifest import read_manifest
from dermonas.data.prepare import prepare
from dermonas.events import Silent
from dermonas.seeding import numpy_generator

CLASSES = 100
QUALITY = 90  # JPEG
SHARES = (0.5, 0.3)  # of the journal and of the shards: how much is there when the process is killed


def draw(root: Path, count: int, side: int) -> None:
    """Write random textures, smooth and with noise, as JPEG."""
    for number in range(count):
        rng = numpy_generator(0, "texture", number)
        smooth = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((side, side))
        pixels = np.asarray(smooth, dtype=np.int16) + rng.integers(-20, 21, (side, side, 3), dtype=np.int16)
        folder = root / f"class{number % CLASSES:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"t{number:07d}.jpg", quality=QUALITY)


def stage(name: str, folder: Path, out: Path, resolution: int) -> dict[str, Any]:
    """Prepare or decode; return what it came to, its seconds and the peak memory of it and of its largest helper."""
    began = time.perf_counter()
    if name == "prepare":
        config = PrepareConfig("textures", "folder", folder / "images", out, workers=_CORES)
        answer = prepare(config, Silent()).digest
    else:
        pixels = decoded_cache(read_manifest(out), out, resolution)
        sums = (int(pixels[start : start + 1000].sum(dtype=np.int64)) for start in range(0, len(pixels), 1000))
        answer = str(sum(sums))
    wall = time.perf_counter() - began
    peaks = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "answer": answer,
        "wall": wall,
        "cpu": sum(peak.ru_utime + peak.ru_stime for peak in peaks),
        "memory_gb": [peak.ru_maxrss * 1024 / 1e9 for peak in peaks],
    }


def run(name: str, folder: Path, out: Path, resolution: int, kill_at: int = 0) -> dict[str, Any]:
    """Run a stage in a process of its own; with `kill_at`, kill it once so many bytes are written."""
    command = [sys.executable, "-m", "benchmarks.prepare_images", "--folder", str(folder), "--stage", name, str(out)]
    command += ["--resolution", str(resolution)]
    # A group of its own, so that the helpers die with it.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    while kill_at and process.poll() is None:
        written = sum(path.stat().st_size for path in finished(name, out))
        if written >= kill_at:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return {"written": sum(path.stat().st_size for path in finished(name, out))}
        time.sleep(0.02)
    answer, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}")
    return json.loads(answer)


def finished(name: str, out: Path) -> list[Path]:
    """Return the files that hold what a stage has done."""
    return list(out.glob(".prepare/inspected.bin" if name == "prepare" else "cache/*/*.npy"))


def main() -> None:
    """Draw, run all four, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=192, help="of a file, pixels")
    parser.add_argument("--resolution", type=int, default=96, help="of the cache, pixels")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--stage", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        name, out = options.stage
        print(json.dumps(stage(name, options.folder, Path(out), options.resolution)))
        return
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        draw(folder / "images", options.images, options.side)
        print(f"{options.images} synthetic JPEGs of {options.side} px, {_CORES} processes")
        print("| | seconds | images/s | CPU s | peak GB, itself | peak GB, largest helper |")
        sizes = (options.images * RECORD.itemsize, options.images * options.resolution**2 * 3)
        for name, size, share in zip(("prepare", "cache"), sizes, SHARES, strict=True):
            whole = run(name, folder, folder / "whole", options.resolution)
            row(name, whole, options.images)
            if name == "cache":
                shutil.copy(folder / "whole" / "manifest.json", folder / "killed")
                shutil.copy(folder / "whole" / "manifest.parquet", folder / "killed")
            killed = run(name, folder, folder / "killed", options.resolution, kill_at=int(size * share))
            again = run(name, folder, folder / "killed", options.resolution)
            if again["answer"] != whole["answer"]:
                raise SystemExit(f"{name} came to something else after it was killed")
            left = options.images - int(killed["written"] * options.images / size)
            row(f"{name}, gone on with {left} images left", again, left)
    finally:
        shutil.rmtree(folder)


def row(name: str, found: dict[str, Any], images: int) -> None:
    """Print a line of the table."""
    own, helper = found["memory_gb"]
    speed = images / found["wall"]
    print(f"| {name} | {found['wall']:.1f} | {speed:.0f} | {found['cpu']:.1f} | {own:.2f} | {helper:.2f} |", flush=True)


if __name__ == "__main__":
    main()
