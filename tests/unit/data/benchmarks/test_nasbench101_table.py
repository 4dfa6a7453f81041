"""NAS-Bench-101's tables: a small official file written with protobuf's own library, and the real subset."""

from __future__ import annotations

import base64
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from record_files import framed

from dermonas.data.benchmarks.nasbench101 import read_nasbench101, read_subset, read_subset_cells, read_trainings
from dermonas.data.benchmarks.protobuf import fields
from dermonas.errors import DataError
from dermonas.space.modelspec import OPERATIONS, ModelSpec
from dermonas.space.nasbench101 import NasBench101Space
from dermonas.space.nasbench101_graphs import every_graph

SPACE = NasBench101Space()
SUBSET = Path(os.environ.get("DERMONAS_SHARED_DATA", Path(__file__).parents[5] / "shared" / "data")) / "nb101_subset"


def messages():
    """The benchmark's two messages, as its .proto declares them."""
    file = descriptor_pb2.FileDescriptorProto(name="m.proto", package="nasbench", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    evaluation = file.message_type.add(name="EvaluationData")
    names = ("current_epoch", "training_time", "train_accuracy", "validation_accuracy", "test_accuracy")
    for number, name in enumerate(names, start=1):
        evaluation.field.add(name=name, number=number, type=kinds.TYPE_DOUBLE, label=kinds.LABEL_OPTIONAL)
    evaluation.field.add(name="checkpoint_path", number=6, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    metrics = file.message_type.add(name="ModelMetrics")
    metrics.field.add(
        name="evaluation_data", number=1, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_REPEATED,
        type_name=".nasbench.EvaluationData",
    )  # fmt: skip
    metrics.field.add(name="trainable_parameters", number=2, type=kinds.TYPE_INT32, label=kinds.LABEL_OPTIONAL)
    metrics.field.add(name="total_time", number=3, type=kinds.TYPE_DOUBLE, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("nasbench.ModelMetrics"))


METRICS = messages()


def row(
    spec: ModelSpec, accuracies: list[tuple[float, float]], epochs: int = 108, parameters: int = 8_555_530
) -> bytes:
    message = METRICS(trainable_parameters=parameters, total_time=99.5)
    for step, (validation, test) in enumerate(accuracies):
        message.evaluation_data.add(
            current_epoch=step * 54.0, training_time=1000.25 * step, train_accuracy=0.5, validation_accuracy=validation,
            test_accuracy=test, checkpoint_path="/a/ü" if step == 1 else "",
        )  # fmt: skip
    encoded = base64.b64encode(message.SerializeToString()).decode()
    adjacency = "".join(str(cell) for line in spec.matrix for cell in line)
    return json.dumps([spec.digest, epochs, adjacency, ",".join(spec.operations), encoded]).encode()


@pytest.fixture(scope="module")
def cells() -> list[ModelSpec]:
    rng = np.random.default_rng(0)
    thetas = [SPACE.sample(rng) for _ in range(20)]
    return [spec.pruned for spec in map(SPACE.spec, thetas) if spec.pruned]


def accuracies(cell: int, repeat: int) -> list[tuple[float, float]]:
    return [(0.1, 0.1), (0.6, 0.5), (0.9 + cell / 1000 + repeat / 10000, 0.8 + cell / 1000 - repeat / 10000)]


def test_a_file_in_the_official_format_is_read(cells, tmp_path):
    rows = [
        row(spec, accuracies(cell, repeat), epochs, parameters=100 + cell)
        for repeat in range(3)
        for cell, spec in enumerate(cells)
        for epochs in (12, 108)
    ]
    path = tmp_path / "small.tfrecord"
    path.write_bytes(b"".join(map(framed, rows)))
    trainings = list(read_trainings(path))
    assert len(trainings) == len(rows)
    assert [t.spec for t in trainings[: 2 * len(cells) : 2]] == cells
    assert all(t.spec.digest == t.digest for t in trainings)
    table = read_nasbench101(path)
    assert table.repeats == 3
    assert len(table.rows) == len({spec.digest for spec in cells}) == 20
    for cell, spec in enumerate(cells):
        theta = SPACE.theta(spec)
        expected = [accuracies(cell, repeat)[2] for repeat in range(3)]
        assert [table.validation(theta, repeat) for repeat in range(3)] == [validation for validation, _ in expected]
        assert table.test(theta) == pytest.approx(np.mean([test for _, test in expected]), abs=1e-15)
        assert table.parameters[table.rows[spec.digest]] == 100 + cell
        assert table.seconds[table.rows[spec.digest]].tolist() == [2000.5] * 3


def test_what_the_table_does_not_know_is_said(cells, tmp_path):
    path = tmp_path / "small.tfrecord"
    path.write_bytes(framed(row(cells[0], accuracies(0, 0))))
    table = read_nasbench101(path)
    invalid = (0,) * 26
    assert table.validation(invalid) == table.test(invalid) == 0.0
    with pytest.raises(DataError, match=cells[1].digest):
        table.validation(SPACE.theta(cells[1]))
    with pytest.raises(DataError, match="no training of 36 epochs"):
        read_nasbench101(path, epochs=36)
    path.write_bytes(b"".join(framed(row(cells[k], accuracies(0, 0))) for k in (0, 0, 1)))
    with pytest.raises(DataError, match=f"{cells[1].digest} has 1 repeats, the first 2"):
        read_nasbench101(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "no NAS-Bench-101 training"),
        (b"[1, 2]", "not enough values"),
        (json.dumps(["h", 108, "011", "input,output", ""]).encode(), "3 matrix cells are no square"),
        (json.dumps(["h", 108, "0120", "input,output", ""]).encode(), "list index"),
        (json.dumps(["h", 108, "0100", "input,output", "!"]).encode(), "base64"),
        (json.dumps(["h", 108, "0100", "input,output", "Cg=="]).encode(), "varint"),
    ],
)
def test_a_record_that_is_no_training_names_its_offset(cells, tmp_path, data, reason):
    good = framed(row(cells[0], accuracies(0, 0)))
    path = tmp_path / "bad.tfrecord"
    path.write_bytes(good + framed(data))
    with pytest.raises(DataError, match=f"record at byte {len(good)} is no") as caught:
        read_nasbench101(path)
    assert reason in str(caught.value)


def test_messages_are_parsed_as_protobuf_does():
    message = METRICS(trainable_parameters=2**31 - 1, total_time=-0.125)
    message.evaluation_data.add(test_accuracy=1 / 3, checkpoint_path="x" * 300)
    raw = message.SerializeToString()
    assert [number for number, _ in fields(raw)] == [1, 2, 3]
    parsed = dict(fields(raw))
    assert (parsed[2], parsed[3]) == (2**31 - 1, -0.125)
    assert dict(fields(parsed[1])) == {5: 1 / 3, 6: b"x" * 300}
    assert list(fields(b"\x0d\x00\x00\x80\x3f")) == [(1, 1.0)]
    for end in range(1, len(raw)):
        # Cut anywhere, it is an error or a whole number of fields.
        try:
            found = list(fields(raw[:end]))
        except ValueError:
            continue
        assert found == list(fields(raw))[: len(found)]
    with pytest.raises(ValueError, match="wire type 3"):
        list(fields(b"\x0b"))
    with pytest.raises(ValueError, match="too long"):
        list(fields(b"\xff" * 12))


def test_a_small_subset_is_read(cells, tmp_path):
    columns = [
        *(f"{e}_final_validation_accuracy" for e in (4, 12, 36, 108)),
        "final_training_time",
        "trainable_parameters",
    ]
    values = [0.1, 0.2, 0.3, 0.9, 1000.5, 12345]
    padded = [[*line, 0] for line in cells[0].matrix] + [[0] * (len(cells[0].matrix) + 1)]
    labels = [-1, *(OPERATIONS.index(op) for op in cells[0].operations[1:-1]), -2, -3]
    entry = dict(zip(columns, values, strict=True)) | {
        "operations": labels,
        "adjacency": padded,
        "key": cells[0].digest,
    }
    (tmp_path / "nb101_1k.json").write_text(json.dumps([entry]))
    text = (
        ",".join([*columns, "key", "file"])
        + "\n"
        + ",".join(map(str, [*values[:3], 0.8, *values[4:], cells[1].digest, "f"]))
    )
    (tmp_path / "nb101_30k_by_hash.csv.gz").write_bytes(gzip.compress(text.encode()))
    table = read_subset(tmp_path)
    assert table.rows.keys() == {cells[0].digest, cells[1].digest}
    assert [table.validation(SPACE.theta(cells[k])) for k in (0, 1)] == [0.9, 0.8]
    assert read_subset(tmp_path, epochs=12).validation(SPACE.theta(cells[0])) == 0.2
    with pytest.raises(DataError, match="no test accuracies"):
        table.test(SPACE.theta(cells[0]))
    assert read_subset_cells(tmp_path / "nb101_1k.json") == [(cells[0].digest, cells[0])]
    with pytest.raises(DataError, match="13_final"):
        read_subset(tmp_path, epochs=13)
    entry["operations"][1] = 7
    (tmp_path / "nb101_1k.json").write_text(json.dumps([entry]))
    with pytest.raises(DataError, match=cells[0].digest):
        read_subset_cells(tmp_path / "nb101_1k.json")


def test_the_published_cells_have_their_published_hashes():
    if not SUBSET.is_dir():
        pytest.skip(f"{SUBSET} is not on this machine")
    cells = read_subset_cells(SUBSET / "nb101_1k.json")
    assert len(cells) == 1000
    assert all(spec.valid and spec.digest == key for key, spec in cells)
    table = read_subset(SUBSET)
    assert table.rows.keys() >= {key for key, _ in cells}
    small = {SPACE.digest(tuple(theta.tolist())) for theta in every_graph(5)}
    assert len(small & table.rows.keys()) > 100
