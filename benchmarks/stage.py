"""One stage of `benchmarks.prepare_images` in this process: `prepare`, or the cache of what it prepared.

    python -m benchmarks.stage prepare|cache FOLDER OUT RESOLUTION

Prints JSON: what it came to, wall and CPU seconds, and the peak memory of this process and of its largest helper. It
imports no torch: helpers import this module again, and that would be most of their memory.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.generated import peak_memory
from dermonas.data.cache import _CORES, decoded_cache
from dermonas.data.config import PrepareConfig
from dermonas.data.manifest import read_manifest
from dermonas.data.prepare import prepare
from dermonas.events import Silent


def stage(name: str, folder: Path, out: Path, resolution: int) -> dict[str, Any]:
    """Prepare or decode.

    Args:
        name: "prepare" or "cache".
        folder: Holds images/.
        out: Where prepare writes.
        resolution: Of the cache, pixels.

    Returns:
        "answer" (the digest, or the sum of all pixels), "wall" and "cpu" seconds, "memory_gb" (this process, largest
        helper).
    """
    began = time.perf_counter()
    if name == "prepare":
        config = PrepareConfig("textures", "folder", folder / "images", out, workers=_CORES)
        answer = prepare(config, Silent()).digest
    else:
        pixels = decoded_cache(read_manifest(out), out, resolution)
        sums = (int(pixels[start : start + 1000].sum(dtype="int64")) for start in range(0, len(pixels), 1000))
        answer = str(sum(sums))
    wall = time.perf_counter() - began
    own, helpers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "answer": answer,
        "wall": wall,
        "cpu": sum(used.ru_utime + used.ru_stime for used in (own, helpers)),
        # A helper begins with what this process had when it was started, about 0.15 GB.
        "memory_gb": [peak_memory(), helpers.ru_maxrss * 1024 / 1e9],
    }


if __name__ == "__main__":
    print(json.dumps(stage(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))))
