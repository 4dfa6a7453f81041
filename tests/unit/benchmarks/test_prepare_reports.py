"""What the benchmarks of prepare hold their figures to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import prepare
from benchmarks.generated import PHASES, Generated, Pictures
from benchmarks.measure import Report
from benchmarks.prepare import peer, sizes
from dermonas.data import hash_index
from dermonas.data.hashing import fingerprints
from dermonas.data.journal import Journal


def found(rows: int, whole: float, memory: float) -> dict[str, Any]:
    seconds = dict.fromkeys((*PHASES.values(), "rest"), whole / 8)
    counts = {"pairs": 3, "near_duplicate_images": 5, "groups": rows - 4}
    return {"rows": rows, "seconds": seconds, "whole": whole, "memory_gb": memory, "digest": "ab", **counts}


def checks(*results: dict[str, Any]) -> dict[str, tuple[float, float]]:
    report = Report("prepare", {})
    sizes(report, results)
    assert report.settings["digests"] == {result["rows"]: "ab" for result in results}
    return report.checks


def test_the_exponent_leaves_small_sizes_out_where_fixed_costs_show() -> None:
    quadratic = checks(found(1000, 1.0, 0.2), found(100_000, 1.0, 0.4), found(1_000_000, 100.0, 1.0))
    assert quadratic["exponent from 100000 to 1000000 rows"] == (pytest.approx(2.0), 1.1)
    assert set(checks(found(1000, 1.0, 0.2), found(100_000, 1.0, 0.4))) == {"peak GB of 100000 rows (asked at 1300000)"}


def test_the_peak_is_that_of_the_largest_size_up_to_the_one_asked() -> None:
    found_checks = checks(found(1_300_000, 1.0, 1.6), found(10_000, 1.0, 1.7), found(2_000_000, 1.0, 2.0))
    assert found_checks["peak GB of 1300000 rows (asked at 1300000)"] == (1.6, 1.5)


def test_generated_hashes_are_those_of_the_thumbnails(tmp_path: Any) -> None:
    pictures = Pictures(100)
    with Journal(tmp_path, {}) as journal:
        prints = Generated(pictures, journal, {}).prints
    drawn = fingerprints(pictures.thumbnails(np.arange(100)))
    differing = np.bitwise_count(prints.hashes ^ drawn.hashes)
    assert differing.mean() < 1.5  # of 64: pixels are whole numbers in 0..255
    assert np.array_equal(prints.clear, drawn.clear)


def test_the_peer_finds_the_same_pairs_and_leaves_the_index_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hash_index._SMALL
    monkeypatch.setattr(prepare, "_ROUNDS", 1)
    report = Report("prepare", {})
    peer(report, 200)
    assert report.checks == {"pairs that one side alone finds, 200 rows": (0, 0)}
    assert report.facts["200 rows, pairs by the index"] >= 2  # two blocks of planted copies
    assert len(report.rows["200 rows, index", "CPU s"]) == 1
    assert before == hash_index._SMALL
