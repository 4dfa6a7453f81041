"""Networks, budgets, records and columns of an audit."""

from __future__ import annotations

import gzip
import json

import pytest

from dermonas.audit.budgets import Budget, check_budgets
from dermonas.audit.columns import table_of
from dermonas.audit.journal import Journal
from dermonas.audit.networks import Known, listed, sampled
from dermonas.errors import ConfigError, DataError, StorageError
from dermonas.space import zoo
from dermonas.space.darts import DartsSpace


def rows(count=3):
    genotype = zoo.load("DARTS_V2").to_dict()
    cells = {key: genotype[key] for key in ("normal", "reduce")}
    return [{**cells, "concat": [2, 3, 4, 5], "final_test_accuracy": 90.0 + place} for place in range(count)]


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_a_list_is_read_with_accuracies_as_shares(tmp_path):
    found = listed(write(tmp_path / "known.json", rows()), "cifar10", 0, 0)
    assert [one.accuracy for one in found] == pytest.approx([0.90, 0.91, 0.92])
    assert found[0].architecture.digest == zoo.load("DARTS_V2").digest
    assert len({one.name for one in found}) == 3


def test_a_draw_is_by_seed_and_in_order(tmp_path):
    path = write(tmp_path / "known.json", rows(9))
    first, again, other = (listed(path, "cifar10", 4, seed) for seed in (0, 0, 1))
    assert first == again
    assert [one.name for one in first] == sorted(one.name for one in first)
    assert first != other
    with pytest.raises(ConfigError, match="has 9"):
        listed(path, "cifar10", 10, 0)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"a": 1}, "not a list"),
        ([], "not a list"),
        ([{**rows(1)[0], "final_test_accuracy": 130}], "network 0: final_test_accuracy 130"),
        ([{**rows(1)[0], "normal": [["conv", 0], ["conv", 1]]}], "network 0: normal"),
        ([{key: value for key, value in rows(1)[0].items() if key != "final_test_accuracy"}], "no accuracy"),
    ],
)
def test_bad_lists_name_the_network(tmp_path, content, word):
    with pytest.raises(DataError, match=word):
        listed(write(tmp_path / "known.json", content), "cifar10", 0, 0)


def test_a_file_that_is_no_json(tmp_path):
    path = tmp_path / "known.json"
    path.write_text("{")
    with pytest.raises(DataError, match=r"known\.json"):
        listed(path, "cifar10", 0, 0)


def test_an_unknown_dataset_of_the_table(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"index,arch\n"))
    with pytest.raises(ConfigError, match="cifar100"):
        listed(path, "mnist", 0, 0)


def test_drawn_networks_differ_in_function():
    found = sampled(DartsSpace(nodes=4, encoding="pairs"), 30, 0)
    assert len({one.architecture.digest for one in found}) == 30
    assert all(one.accuracy is None for one in found)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "a", "kind": "labels"}, "kind"),
        ({"name": "a", "images": 3}, "images"),
        ({"name": "a", "channels": 3}, "budget a: channels"),
        ({"name": "a", "kind": "untrained", "epochs": 2}, "set epochs to 1"),
    ],
)
def test_impossible_budgets_are_refused(values, word):
    with pytest.raises(ConfigError, match=word):
        Budget(**values)


def test_lists_of_budgets_need_the_papers_and_names_of_their_own():
    with pytest.raises(ConfigError, match="paper"):
        check_budgets([Budget("fast")])
    with pytest.raises(ConfigError, match="twice"):
        check_budgets([Budget("paper"), Budget("paper")])


def test_a_journal_goes_on_after_a_torn_line(tmp_path):
    path = tmp_path / "audit.jsonl"
    journal = Journal(path, {"data": "x"})
    journal.append({"network": "a"})
    journal.append({"network": "b"})
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    again = Journal(path, {"data": "x"})
    assert again.records == [{"network": "a"}]
    again.append({"network": "b"})
    again.close()
    assert path.read_bytes() == whole


def test_a_journal_of_another_audit_is_refused_and_kept(tmp_path):
    path = tmp_path / "audit.jsonl"
    Journal(path, {"data": "x"}).close()
    content = path.read_bytes()
    with pytest.raises(StorageError, match="another audit"):
        Journal(path, {"data": "y"})
    assert path.read_bytes() == content


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "audit.jsonl"
    journal = Journal(path, {})
    journal.append({"network": "a"})
    journal.close()
    path.write_bytes(path.read_bytes() + b"{broken\n")
    with pytest.raises(StorageError, match="damaged"):
        Journal(path, {})


def known(count):
    return [Known(str(place), zoo.load("DARTS_V2"), place / 10) for place in range(count)]


def records(count, **failed):
    for place in range(count):
        one = {"network": str(place), "budget": "paper"}
        scores = [{"train_loss": 4.0 - place / 10 - epoch, "relative_loss": 1.0 + place} for epoch in range(2)]
        yield {**one, "failed": "nan"} if str(place) in failed.values() else {
            **one, "epochs": scores, "seconds": [1.0, 3.0],
        }  # fmt: skip
        yield {"network": str(place), "budget": "counts", "scores": {"parameters": place, "normal_pools": place}}


def test_columns_are_turned_so_that_higher_is_better():
    made = table_of(known(4), records(4, one="2"), [Budget("paper", epochs=2)])
    loss = made.columns["paper/train_loss@2"]
    assert loss.values[[0, 1, 3]] == pytest.approx([-3.0, -2.9, -2.7])
    assert str(loss.values[2]) == "nan"
    assert loss.seconds == 3.0
    assert made.paper is loss
    assert made.columns["parameters"].values.tolist() == [0, 1, 2, 3]
    assert made.columns["fewer normal_pools"].values.tolist() == [0, -1, -2, -3]
    assert "paper/relative_loss@1" not in made.columns  # 1 for all
    assert "paper/relative_loss@2" in made.columns


def test_a_missing_scoring_is_named():
    with pytest.raises(DataError, match="network 3 at paper"):
        table_of(known(4), records(3), [Budget("paper", epochs=2)])
