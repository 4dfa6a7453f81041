"""Records on disk are those that were told, but for the last."""

from __future__ import annotations

from tables import SPACE

from dermonas.search.tabular import record_of
from dermonas.search.tabular_log import RecordLog


def test_what_is_read_is_what_was_told_but_for_the_last(tmp_path):
    path = tmp_path / "made" / "log.jsonl"
    log = RecordLog(path, SPACE)
    assert log.records == []
    assert not path.parent.exists()
    theta, other = (0, 2, 0, 0, 0, 3), (0, 3, 0, 0, 0, 3)
    records = []
    for number, (one, value) in enumerate([(theta, 0.1 + 0.2), ((1,) * 6, 1 / 3), (theta, 0.1 + 0.2), (other, 0.5)]):
        digest = SPACE.digest(one)
        records.append(record_of(number, one, value, digest, digest in {before.digest for before in records}))
        log.append(records[-1])
    assert [record.duplicate for record in records[:3]] == [False, False, True]
    again = RecordLog(path, SPACE)
    assert again.records == records[:3]
    again.append(records[3])
    assert RecordLog(path, SPACE).records == records[:3]
    path.write_bytes(path.read_bytes() + b'{"theta": [0,')
    assert RecordLog(path, SPACE).records == records[:3]
    assert again.seconds >= 0
