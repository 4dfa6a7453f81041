"""`describe`: one JSON object on standard output, whatever a genotype is named by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workplace import ROOT

KEYS = {"parameters", "dead_parameters", "multiply_adds", "latency_ms", "genotype", "digest"}


def test_dermocsnas_5_as_the_command_line_prints_it(place):
    done = place.run(
        "describe", "--genotype", "DermoCSNAS_5", "--layers", "18", "--channels", "48", "--classes", "8",
        "--stem", "imagenet",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out.count("\n") == 1
    found = json.loads(done.out)
    assert found.keys() >= KEYS
    assert found["parameters"] == 4151648
    assert found["dead_parameters"] > 0  # the reduction cell's node 0
    assert found["latency_ms"] > 0
    drawings = [place.folder / path for path in found["drawings"]]
    assert len(drawings) == 4
    assert all(path.stat().st_size > 1000 for path in drawings)
    assert {path.suffix for path in drawings} == {".svg", ".png"}


def test_darts_v2_on_cifar(place):
    done = place.run(
        "describe", "--genotype", "DARTS_V2", "--stem", "cifar", "--layers", "20", "--channels", "36",
        "--classes", "10", "--latency", "false", "--out", "drawings",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out.count("\n") == 1
    found = json.loads(done.out)
    assert found.keys() >= KEYS
    assert found["parameters"] == 3349342
    assert found["dead_parameters"] == 0
    assert found["latency_ms"] is None
    assert all((place.folder / path).is_file() for path in found["drawings"])
    assert {Path(path).parent for path in found["drawings"]} == {Path("drawings")}


def test_a_genotype_file_is_its_name(place):
    arguments = ("--layers", "3", "--channels", "4", "--resolution", "64", "--latency", "false")
    file = str(ROOT / "models" / "genotypes" / "DARTS_V2.json")
    by_file, by_name = (place.run("describe", "--genotype", name, *arguments) for name in (file, "DARTS_V2"))
    assert by_file.code == 0, by_file.err
    assert by_file.out == by_name.out


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("DermoCSNAS_6", "DermoCSNAS_5"),
        ("CSNAS_CIFAR_N4", "drawing"),
        ("no/such/file.json", "no/such/file.json"),
        ("0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef"),
    ],
)
def test_what_names_no_genotype_is_told_in_one_line(name, says, place):
    done = place.run("describe", "--genotype", name)
    assert done.code != 0
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: ")
    assert says in done.err
    assert not (place.folder / "outputs").exists()
