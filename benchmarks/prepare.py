"""What the table part of `prepare` costs by the number of images: seconds by phase, peak memory, and the exponent.

    python -m benchmarks.prepare [--rows 10000 100000 1000000 1300000] [--peer 10000] [--folder FOLDER] [--no-log]

Every size runs in a fresh process (`benchmarks.generated`): real (empty) files in 1,000 class folders are listed, then
everything after the inspection runs as it is, down to the manifest on disk. What an inspection would find is
generated: coefficients of low frequencies, hashed as `data.hashing` does, from which thumbnails are drawn when they
are asked for. Their bits are biased so that two rows agree on a key of the index as often as two photographs of
Imagenette do (2^-19.3, against 2^-20.8 without bias). Planted: 1 % copies of a file, 1 % turned copies with noise, 1 %
in crowds of a hundred that show one picture with noise; with `--crowd K`, every K-th row shows one picture. Seconds
are of the CPU, the drawing of thumbnails left out. `--peer` times the index and comparing all hashes with all in turn.
1,000,000 rows take about three minutes of one core.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.generated import PHASES, Generated, Pictures
from benchmarks.measure import Report, alternate, options, ratio
from benchmarks.scaling import exponent
from dermonas.data import hash_index
from dermonas.data.journal import Journal
from dermonas.data.leakage import Pairs, near_duplicates

EXPONENT = 1.1
"""Of the seconds between 10^5 and 1.3 x 10^6 rows, at most."""
MEMORY = 1.5
"""GB of a process that prepares `ROWS` images, less than this."""
ROWS = 1_300_000
"""Images of ImageNet, about."""
_LARGE = 100_000  # rows from which the exponent is fitted: below, fixed costs show
_ROUNDS = 5


def one_size(count: int, folder: Path, crowd: int) -> dict[str, Any]:
    """Prepare `count` generated images in a process of its own; see `generated.one_size`."""
    command = [sys.executable, "-m", "benchmarks.generated", str(count), str(folder), str(crowd)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def sizes(report: Report, results: Sequence[dict[str, Any]]) -> None:
    """Report what `one_size` found of several sizes."""
    report.settings = {**report.settings, "digests": {found["rows"]: found["digest"] for found in results}}
    for found in results:
        size = f"{found['rows']} rows"
        for phase in (*PHASES.values(), "rest"):  # the rest: the digest, columns and counts
            report.rows[f"{size}, {phase}", "CPU s"] = (found["seconds"][phase],)
        report.rows[f"{size}, whole", "CPU s"] = (found["whole"],)
        report.facts[f"{size}, us a row"] = found["whole"] / found["rows"] * 1e6
        report.facts[f"{size}, peak GB"] = found["memory_gb"]
        for count in ("pairs", "near_duplicate_images", "groups"):
            report.facts[f"{size}, {count.replace('_', ' ')}"] = found[count]
    asked = [found for found in results if found["rows"] <= ROWS]
    if asked:
        largest = max(asked, key=lambda found: int(found["rows"]))
        report.checks[f"peak GB of {largest['rows']} rows (asked at {ROWS})"] = (largest["memory_gb"], MEMORY)
    large = [found for found in results if found["rows"] >= _LARGE]
    if len(large) > 1:
        rows, seconds = [found["rows"] for found in large], [found["whole"] for found in large]
        report.checks[f"exponent from {min(rows)} to {max(rows)} rows"] = (exponent(rows, seconds), EXPONENT)


def peer(report: Report, count: int) -> None:
    """Time the index and comparing all with all in turn; both must give the same pairs."""
    pictures = Pictures(count)
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder), {}) as journal:
        prints = Generated(pictures, journal, {}).prints
    thumbs = pictures.thumbnails(np.arange(count))
    found: dict[int, Pairs] = {}

    def pairs(small: int) -> None:
        before, hash_index._SMALL = hash_index._SMALL, small
        found[small] = near_duplicates(prints, lambda rows: thumbs[rows])
        hash_index._SMALL = before

    samples = alternate({"index": lambda: pairs(0), "all with all": lambda: pairs(count)}, _ROUNDS)
    ours, plain = ({*zip(one.i.tolist(), one.j.tolist(), strict=True)} for one in (found[0], found[count]))
    for name, side in samples.items():
        report.rows[f"{count} rows, {name}", "CPU s"] = side.cpu
    report.ratios[f"all with all / index, CPU seconds, {count} rows"] = ratio(
        samples["all with all"].cpu, samples["index"].cpu
    )
    report.facts[f"{count} rows, pairs by the index"] = len(ours)
    report.checks[f"pairs that one side alone finds, {count} rows"] = (len(ours ^ plain), 0)


def main() -> None:
    """Run each size in a process of its own, then the peer."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000, ROWS])
    parser.add_argument("--peer", type=int, nargs="*", default=[10_000])
    parser.add_argument("--crowd", type=int, default=0, help="one row in so many shows one and the same picture")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    chosen = parser.parse_args()
    report = Report("prepare", {"rows": chosen.rows, "peer": chosen.peer, "crowd": chosen.crowd})
    results = []
    for count in chosen.rows:
        folder = Path(tempfile.mkdtemp(dir=chosen.folder))
        try:
            results.append(one_size(count, folder, chosen.crowd))
        finally:
            shutil.rmtree(folder)
        print(json.dumps(results[-1]), flush=True)
    sizes(report, results)
    for count in chosen.peer:
        peer(report, count)
    report.publish(chosen.log)


if __name__ == "__main__":
    main()
