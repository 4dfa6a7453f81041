"""`make bench` runs every benchmark and fails where one does."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, main

MISSING = {"none_such_a": "", "none_such_b": ""}


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_the_options_are_the_benchmarks_own(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, *BENCHMARKS[name].split(), "--not-its-own"])
    with pytest.raises(SystemExit):
        importlib.import_module(f"benchmarks.{name}").main()
    assert capsys.readouterr().err.endswith("error: unrecognized arguments: --not-its-own\n")


def test_all_run_and_those_that_failed_are_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    monkeypatch.chdir(Path(__file__).resolve().parents[3])
    with pytest.raises(SystemExit, match="failed: none_such_a, none_such_b"):
        main(MISSING)
    assert "No module named benchmarks.none_such_b" in capfd.readouterr().err


def test_an_unknown_name_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "search_step", "speed"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert "speed is no benchmark" in printed.err
    assert "==" not in printed.out
