"""Draw what `benchmarks.found_against_random` reported: paired differences, a panel a report.

    python -m benchmarks.found_figure REPORT.json [REPORT.json ...] --out docs/images/found-against-random.png

Every seed is a point: balanced test accuracy of the network that TPE found, less that of another of the same seed;
beside them the mean with its 95 % interval. At nought the search has gained nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.found_against_random import ARMS
from dermonas.audit.robustness_figures import seed_points
from dermonas.comparison.canvas import COLOURS
from dermonas.comparison.controller.style import label, panels
from dermonas.explain.figures import save

_OTHERS = {name: name.replace("found by ", "found by\n").replace(", ", ",\n") for name in ARMS[1:]}


def main() -> None:
    """Read reports, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("found-against-random.png"))
    chosen = parser.parse_args()
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in chosen.reports]
    seeds = {len(report["rows"][0]["samples"]) for report in reports}
    names = [report["name"].removeprefix("found-").rsplit("-", 1)[0] for report in reports]
    title = f"Network found by TPE less another one, trained alike ({' and '.join(map(str, sorted(seeds)))} seeds)"
    figure, drawn = panels(names, title, columns=len(reports), legend=False)
    for axes, report in zip(drawn, reports, strict=True):
        rows = {row["side"]: row["samples"] for row in report["rows"] if row["unit"].startswith("%")}
        axes.axhline(0, color=COLOURS["muted"], linewidth=0.8)
        for place, other in enumerate(_OTHERS):
            seed_points(axes, place, np.subtract(rows[ARMS[0]], rows[other]).tolist(), place)
        axes.set_xticks(range(len(_OTHERS)), _OTHERS.values())
        axes.set_xlim(-0.5, len(_OTHERS) - 0.5)
        axes.grid(False, axis="x")
        label(axes, "", "balanced accuracy, points")
    print(save(figure, chosen.out))


if __name__ == "__main__":
    main()
