"""Record files: checksums against published values and a bitwise reference, and what damage does."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from record_files import bitwise, framed

from dermonas.data.benchmarks.tfrecord import crc32c, masked, read_records
from dermonas.errors import DataError


# RFC 3720, B.4, and the usual check string.
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"123456789", 0xE3069283),
        (b"\0" * 32, 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_published_checksums(data, expected):
    assert crc32c([data]).tolist() == [expected]


def test_checksums_of_many_lengths_at_once_equal_the_bitwise_ones():
    rng = np.random.default_rng(0)
    chunks = [rng.bytes(int(size)) for size in rng.integers(0, 90, size=60)]
    assert crc32c(chunks).tolist() == [bitwise(chunk) for chunk in chunks]
    assert len(crc32c([])) == 0


def test_the_mask_is_tensorflows():
    # The first record that a TensorFlow writer makes of b"" has this length checksum: masked crc32c of eight zeros.
    assert struct.pack("<I", int(masked(crc32c([b"\0" * 8]))[0])) == bytes.fromhex("29039807")


def test_records_come_back_with_their_offsets(tmp_path):
    rng = np.random.default_rng(1)
    data = [rng.bytes(int(size)) for size in rng.integers(0, 40, size=5000)]
    path = tmp_path / "file"
    path.write_bytes(b"".join(map(framed, data)))
    records = list(read_records(path))
    assert [record for _, record in records] == data
    whole = path.read_bytes()
    assert all(whole[offset + 12 : offset + 12 + len(record)] == record for offset, record in records)
    (tmp_path / "empty").write_bytes(b"")
    assert list(read_records(tmp_path / "empty")) == []


DATA = [b"first", b"second record", b"third"]
SECOND = len(framed(DATA[0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda raw: raw[:SECOND] + bytes([raw[SECOND] ^ 1]) + raw[SECOND + 1 :],
            f"length of the record at byte {SECOND}",
        ),
        (lambda raw: raw[: SECOND + 7] + b"\x70" + raw[SECOND + 8 :], f"length of the record at byte {SECOND}"),
        (lambda raw: raw[: SECOND + 9] + b"\0" + raw[SECOND + 10 :], f"length of the record at byte {SECOND}"),
        (lambda raw: raw[: SECOND + 15] + b"?" + raw[SECOND + 16 :], f"data of the record at byte {SECOND}"),
        (lambda raw: raw[: SECOND + 26] + b"?" + raw[SECOND + 27 :], f"data of the record at byte {SECOND}"),
        (lambda raw: raw[: SECOND + 20], f"record at byte {SECOND} is cut short"),
        (lambda raw: raw[: SECOND + 5], f"record at byte {SECOND} is cut short"),
        (lambda raw: raw[:-1], "is cut short"),
    ],
)
def test_damage_is_found_and_its_offset_named(tmp_path, change, message):
    path = tmp_path / "file"
    path.write_bytes(change(b"".join(map(framed, DATA))))
    with pytest.raises(DataError, match=message):
        list(read_records(path))


def test_an_early_damage_is_named_before_a_later_one(tmp_path):
    raw = bytearray(b"".join(map(framed, DATA)))
    raw[14] ^= 1
    path = tmp_path / "file"
    path.write_bytes(bytes(raw[:-3]))
    with pytest.raises(DataError, match="data of the record at byte 0 are damaged"):
        list(read_records(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.tfrecord cannot be read"):
        list(read_records(tmp_path / "none.tfrecord"))
