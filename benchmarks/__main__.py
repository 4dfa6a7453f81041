"""All benchmarks, one after the other, at sizes of a few minutes: what `make bench` runs.

    python -m benchmarks [NAME ...]

Every one runs, whether or not the one before it failed; any that failed makes the exit code 1. What a benchmark takes
at its full size says its own page (`python -m benchmarks.NAME --help`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

BENCHMARKS: dict[str, str] = {
    "search_step": "",
    "roofline": "",
    "search": "--genotypes 6 --images 300 --channels 8 --layers 4 --resolution 16",
    "tpe_ask": "",
    "workers": "--trials 4 --epochs 1 --rounds 1",
    "controller_pretrain": "",
    "train_step": "",
    "input": "",
    "prepare": "--rows 10000 100000 1000000",
    "prepare_images": "--images 3000 --resolution 160",
    "serving": "",
    "serve": "--requests 32 --rounds 3",
    "scaling": "",
}
"""Each with its options here. Pruning is left out: it needs prepared data sets and an hour, and fewer seeds, candidates
or epochs say nothing (docs/results/pruning.md)."""


def main(benchmarks: dict[str, str] = BENCHMARKS) -> None:
    """Run those that are named, or all.

    Raises:
        SystemExit: names those that failed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(benchmarks))
    chosen = parser.parse_args().names or list(benchmarks)
    unknown = [name for name in chosen if name not in benchmarks]
    if unknown:
        parser.error(f"{unknown[0]} is no benchmark; there are {', '.join(benchmarks)}")
    failed = []
    for name in chosen:
        print(f"== {name} {benchmarks[name]}", flush=True)
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *benchmarks[name].split()], check=False)
        print(f"== {name}: {time.perf_counter() - began:.0f} s", flush=True)
        if done.returncode:
            failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
