"""The arithmetic and the honesty of benchmark reports."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from benchmarks.measure import EXPERIMENT, Ratio, Report, alternate, ratio


def test_sides_are_called_in_turn_and_in_both_orders() -> None:
    calls: list[str] = []
    samples = alternate({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=4, warmup=1)
    assert "".join(calls) == "ba" + "ab" + "ba" + "ab" + "ba"
    assert [len(side.wall) for side in samples.values()] == [4, 4]
    assert all(seconds >= 0 for side in samples.values() for seconds in (*side.wall, *side.cpu))


def test_a_ratio_is_paired_by_round_so_that_a_slow_minute_of_the_machine_cancels() -> None:
    under = [1.0, 10.0, 1.0, 10.0, 3.0]
    found = ratio([2 * seconds for seconds in under], under)
    assert found == Ratio(2.0, 2.0, 2.0)


def test_the_interval_of_a_ratio_holds_its_median_and_lies_within_the_rounds() -> None:
    over, under = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [1.0] * 7
    found = ratio(over, under)
    assert found.value == 4.0
    assert 1.0 <= found.low < 4.0 < found.high <= 7.0


def report() -> Report:
    return Report(
        "toy",
        {"steps": 3},
        rows={("ours", "ms"): (1.0, 2.0, 3.0)},
        ratios={"plain / ours": Ratio(2.0, 1.5, 2.5)},
        checks={"largest loss difference": (1e-5, 1e-4)},
    )


def test_a_report_is_written_whole_and_names_the_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report().publish(log=False, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["toy.json"]
    written = json.loads((tmp_path / "toy.json").read_text())
    assert written["rows"] == [{"side": "ours", "unit": "ms", "samples": [1.0, 2.0, 3.0]}]
    assert written["ratios"] == {"plain / ours": [2.0, 1.5, 2.5]}
    assert written["machine"]["cores"] >= 1
    printed = capsys.readouterr().out
    assert "2 [1.5, 2.5] (median, quartiles of 3)" in printed
    assert "2.00 [1.50, 2.50]" in printed
    assert "holds" in printed


@pytest.mark.parametrize("value", [2e-4, math.nan])
def test_a_check_beyond_its_bound_fails_after_all_is_written(value: float, tmp_path: Path) -> None:
    failing = report()
    failing.checks["largest loss difference"] = (value, 1e-4)
    with pytest.raises(SystemExit, match="toy: largest loss difference"):
        failing.publish(log=False, out=tmp_path)
    assert (tmp_path / "toy.json").exists()


def test_a_failing_report_is_logged_with_its_check(
    tmp_path: Path, run_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(run_tables, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    failing = report()
    failing.checks["largest loss difference"] = (2e-4, 1e-4)
    with pytest.raises(SystemExit):
        failing.publish(out=tmp_path)
    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert run.info.run_name == "toy"
    assert run.data.metrics == {"ours/ms": 2.0, "ratio/plain / ours": 2.0, "check/largest loss difference": 2e-4}
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["toy.json"]
