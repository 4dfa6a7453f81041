"""What every benchmark shares: sides measured in turn, ratios with intervals, one report.

Figures of a crowded machine mislead; ratios of sides that were measured alternately in one run do so less. A report
says what machine it was, is printed, written to benchmarks/out/NAME.json, and logged to MLflow (--no-log leaves that
out). `chrt -f 50 python -m benchmarks.NAME`, as root, pushes the machine's other processes aside.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from dermonas.seeding import numpy_generator

OUT = Path(__file__).parent / "out"
EXPERIMENT = "dermonas/benchmarks"
_RESAMPLES = 2000


@dataclass(frozen=True)
class Samples:
    """One side's measurements, a pair a round.

    Attributes:
        wall: Seconds by the clock.
        cpu: Seconds of this process on all its cores.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]


def alternate(
    sides: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 1, wait: Callable[[], object] = lambda: None
) -> dict[str, Samples]:
    """Call the sides in turn, in an order that turns round each time.

    Args:
        sides: What to measure, by name.
        rounds: Calls of each that count, >= 1.
        warmup: Calls of each before, for caches and compilation.
        wait: Called before each reading of the clock, e.g. `torch.cuda.synchronize`.
    """
    wall: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-warmup, rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            wait()
            start, used = time.perf_counter(), time.process_time()
            sides[name]()
            wait()
            if turn >= 0:
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - used)
    return {name: Samples(tuple(wall[name]), tuple(cpu[name])) for name in sides}


@dataclass(frozen=True)
class Ratio:
    """How many times the one side's measure is the other's: median of the rounds' ratios, 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """Return `over` / `under`, paired by round; both positive, of equal length."""
    pairs = np.array([a / b for a, b in zip(over, under, strict=True)])
    drawn = numpy_generator(0, "ratio").choice(pairs, (_RESAMPLES, len(pairs)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return Ratio(float(np.median(pairs)), float(low), float(high))


@dataclass
class Report:
    """What a benchmark found.

    Attributes:
        name: The benchmark's.
        settings: What was measured.
        rows: By side and unit, e.g. ("ours", "images/s"): its samples.
        ratios: By what they say.
        checks: By what they say: value, bound; a value beyond its bound fails the benchmark.
        facts: Further figures.
    """

    name: str
    settings: Mapping[str, Any]
    rows: dict[tuple[str, str], tuple[float, ...]] = field(default_factory=dict)
    ratios: dict[str, Ratio] = field(default_factory=dict)
    checks: dict[str, tuple[float, float]] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)

    def table(self) -> str:
        """Return the report as lines of text."""
        width = max((len(f"{side}, {unit}") for side, unit in self.rows), default=0)
        lines = [f"{self.name}: " + ", ".join(f"{key} {value}" for key, value in self.settings.items())]
        for (side, unit), values in self.rows.items():
            low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
            label = f"{side}, {unit}"
            lines.append(
                f"  {label:<{width}}  {middle:10.4g} [{low:.4g}, {high:.4g}] (median, quartiles of {len(values)})"
            )
        lines += [f"  {what}: {value} (95 % interval)" for what, value in self.ratios.items()]
        lines += [f"  {what}: {value:.4g}" for what, value in self.facts.items()]
        for what, (value, bound) in self.checks.items():
            lines.append(f"  {what}: {value:.3g}, bound {bound:g}: {'holds' if value <= bound else 'FAILS'}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, the machine included."""
        return {
            "name": self.name,
            "settings": dict(self.settings),
            "rows": [{"side": side, "unit": unit, "samples": list(v)} for (side, unit), v in self.rows.items()],
            "ratios": {what: [r.value, r.low, r.high] for what, r in self.ratios.items()},
            "checks": {what: {"value": value, "bound": bound} for what, (value, bound) in self.checks.items()},
            "facts": self.facts,
            "machine": machine(),
        }

    def publish(self, log: bool = True, out: Path = OUT) -> None:
        """Print the table, write the JSON file, log to MLflow.

        Raises:
            SystemExit: a check failed; all is written before.
        """
        print(self.table())
        out.mkdir(parents=True, exist_ok=True)
        file = out / f"{self.name}.json"
        fresh = file.with_suffix(".tmp")
        fresh.write_text(json.dumps(self.as_dict(), indent=2, default=str) + "\n")
        fresh.replace(file)
        if log:
            self._log(file)
        # Not "value > bound": a NaN must fail.
        failed = [what for what, (value, bound) in self.checks.items() if not value <= bound]
        if failed:
            raise SystemExit(f"{self.name}: {'; '.join(failed)}: beyond the bound")

    def _log(self, file: Path) -> None:
        from dermonas.tracking.runs import tracked

        with tracked(EXPERIMENT, "speed", self.name, {}, adopt=False) as run:
            run.params({**self.settings, "cpu": machine()["cpu"], "threads": torch.get_num_threads()})
            medians = {_key(f"{side}/{unit}"): float(np.median(v)) for (side, unit), v in self.rows.items()}
            ratios = {_key(f"ratio/{what}"): r.value for what, r in self.ratios.items()}
            facts = {**self.facts, **{f"check/{what}": value for what, (value, _) in self.checks.items()}}
            run.metrics({**medians, **ratios, **{_key(what): value for what, value in facts.items()}})
            run.artifact(file)


def _key(text: str) -> str:
    """Return a name that MLflow takes for a metric."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in text)


def options(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows what every benchmark takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-log", dest="log", action="store_false", help="do not log to MLflow")
    return parser


def machine() -> dict[str, Any]:
    """Say what this measurement ran on."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "cpu": names[0].split(":", 1)[1].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load": round(psutil.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def bandwidth(megabytes: int = 256, rounds: int = 7) -> float:
    """Measure this machine's memory bandwidth: a + s b into c, bytes/s, three arrays far larger than a cache."""
    a, b, c = (torch.rand(megabytes * 2**20 // 4) for _ in range(3))
    samples = alternate({"triad": lambda: torch.add(a, b, alpha=2.0, out=c)}, rounds)["triad"]
    return 3 * a.numel() * 4 / min(samples.wall)


def peak(side: int = 2048, rounds: int = 5) -> float:
    """Measure this machine's float32 peak: multiply-adds/s of a square matrix product."""
    a, b = (torch.rand(side, side) for _ in range(2))
    samples = alternate({"product": lambda: a @ b}, rounds)["product"]
    return math.pow(side, 3) / min(samples.wall)
