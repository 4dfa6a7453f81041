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
from dermonas.comparison.canvas import COLOURS
from dermonas.comparison.controller.style import label, line, panels
from dermonas.explain.figures import save
from dermonas.metrics.seeds import half_width

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
            apart = np.subtract(rows[ARMS[0]], rows[other])
            colour, mean = line(place)["color"], apart.mean()
            half = half_width(apart.std(ddof=1), len(apart))
            axes.plot([place - 0.08] * len(apart), apart, "o", color=colour, markersize=4, alpha=0.75)
            axes.plot([place + 0.08], [mean], "_", color=colour, markersize=11, markeredgewidth=1.8)
            axes.vlines(place + 0.08, mean - half, mean + half, color=colour, linewidth=1.2)
        axes.set_xticks(range(len(_OTHERS)), _OTHERS.values())
        axes.set_xlim(-0.5, len(_OTHERS) - 0.5)
        axes.grid(False, axis="x")
        label(axes, "", "balanced accuracy, points")
    print(save(figure, chosen.out))


if __name__ == "__main__":
    main()
