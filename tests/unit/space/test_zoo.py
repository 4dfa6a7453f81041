"""The zoo: every published genotype, its theta, and the errors."""

import json
from pathlib import Path

import pytest

from dermonas.errors import GenotypeError
from dermonas.space import zoo
from dermonas.space.darts import DartsSpace
from dermonas.space.genotype import Genotype

DRAWN = {"CSNAS_CIFAR_N4": "Fig. 4", "CSNAS_CIFAR_N5": "Fig. 4", "CSNAS_ImageNet_N5": "Fig. 5"}
PUBLISHED = (
    *("AmoebaNet", "BayesNAS", "DARTS_V1", "DARTS_V2", "DermoCSNAS_4", "DermoCSNAS_4_figure", "DermoCSNAS_5"),
    *("NASNet", "PC_DARTS_cifar", "PC_DARTS_image", "PDARTS"),
)
WITHOUT_THETA = {"NASNet", "AmoebaNet"}


def test_names_hold_everything_published() -> None:
    assert {*PUBLISHED, *DRAWN} <= set(zoo.names())
    assert list(zoo.names()) == sorted(zoo.names())


@pytest.mark.parametrize("name", PUBLISHED)
def test_load_by_name_and_by_path(name: str, tmp_path: Path) -> None:
    genotype = zoo.load(name)
    entry = zoo.entry(name)
    assert entry.genotype == genotype
    assert entry.name == name
    assert entry.source
    copy = tmp_path / "genotype.json"
    copy.write_text(genotype.to_json())
    assert zoo.load(copy) == zoo.load(str(copy)) == genotype
    assert zoo.load(zoo.FOLDER / f"{name}.json") == genotype


@pytest.mark.parametrize("name", PUBLISHED)
def test_thetas_are_those_of_the_spec(name: str) -> None:
    entry, genotype = zoo.entry(name), zoo.load(name)
    space = DartsSpace(genotype.nodes, "first2")
    if name in WITHOUT_THETA:
        assert entry.theta is None
        with pytest.raises(GenotypeError, match="normal: "):
            space.theta(genotype)
        return
    assert entry.theta is not None
    # The spec writes down what was built: its theta gives the same structure, dead nodes included ...
    assert space.genotype(entry.theta).structural_digest == genotype.structural_digest
    assert space.genotype(entry.theta).digest == genotype.digest
    # ... while ours is canonical, so the two differ in the positions of dead nodes and nowhere else.
    theta = space.theta(genotype)
    assert theta == space.canonical(entry.theta)
    differ = [position for position, pair in enumerate(zip(theta, entry.theta, strict=True)) if pair[0] != pair[1]]
    dead = [20] if name == "DermoCSNAS_5" else []  # reduction node 0: (dil_conv_5x5, max_pool) -> (max_pool, max_pool)
    assert differ == dead
    assert space.genotype(theta).digest == genotype.digest
    for encoding in ("all", "pairs"):
        other = DartsSpace(genotype.nodes, encoding)
        assert other.digest(other.theta(genotype)) == genotype.digest


def test_published_dead_nodes() -> None:
    dead = {
        (name, kind): sorted(set(range(zoo.load(name).nodes)) - getattr(zoo.load(name), kind).live_nodes)
        for name in PUBLISHED
        for kind in ("normal", "reduce")
    }
    assert {key: nodes for key, nodes in dead.items() if nodes} == {("DermoCSNAS_5", "reduce"): [0]}


def test_digests_are_all_different() -> None:
    assert len({zoo.load(name).digest for name in PUBLISHED}) == len(PUBLISHED)


@pytest.mark.parametrize("name", DRAWN)
def test_drawings_answer_so(name: str) -> None:
    assert zoo.entry(name).genotype is None
    with pytest.raises(GenotypeError, match="published only as a drawing") as caught:
        zoo.load(name)
    message = str(caught.value)
    assert DRAWN[name] in message
    assert "DermoCSNAS_" in message
    assert "\n" not in message


def test_unknown_names_list_close_ones_and_all() -> None:
    for use in (zoo.load, zoo.entry):
        with pytest.raises(GenotypeError, match="did you mean DermoCSNAS_5") as caught:
            use("dermocsnas-5")
        assert all(name in str(caught.value) for name in PUBLISHED)
    with pytest.raises(GenotypeError) as caught:
        zoo.load("zzzz")
    assert "did you mean" not in str(caught.value)


def test_files_that_are_no_genotype(tmp_path: Path) -> None:
    cases = {"a.json": "{", "b.json": "[]", "c.json": '{"normal": []}', "d.json": "\x00"}
    for name, text in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(GenotypeError, match=name):
            zoo.load(tmp_path / name)
    (tmp_path / "e.json").write_bytes(b"\xff\xfe\xff")
    for path in (tmp_path / "e.json", tmp_path / "missing.json", tmp_path, "no/such/file"):
        with pytest.raises(GenotypeError, match="cannot read the genotype"):
            zoo.load(path)


def test_zoo_files_are_as_to_json_writes_them() -> None:
    for name in PUBLISHED:
        data = json.loads((zoo.FOLDER / f"{name}.json").read_text())
        assert data["name"] == name
        assert data["normal"] == Genotype.from_dict(data).to_dict()["normal"]
