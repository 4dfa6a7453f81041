"""Who becomes champion, on what grounds, and what the registry keeps of it; and the card."""

from __future__ import annotations

import dataclasses
import json
import shutil

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from dermonas.data.augmentation import AugmentSettings
from dermonas.data.manifest import Manifest
from dermonas.errors import ConfigError, DataError, StorageError
from dermonas.metrics.scores import balanced_accuracy
from dermonas.nn.specification import NetworkSpec
from dermonas.space import zoo
from dermonas.tracking import registry
from dermonas.tracking.card import FOLDER, Facts, card
from dermonas.tracking.champion import Decision, check_same_split, decide, unopposed
from dermonas.tracking.runs import tracked
from dermonas.training.record import ModelRecord

CLASSES = ("dark", "middle", "light")
COUNT = 90


@pytest.fixture
def client(tmp_path, run_tables, monkeypatch):
    shutil.copy(run_tables, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return MlflowClient()


def manifest(**changes):
    splits = ["train"] * 5 + ["validation"] * 4 + ["test"] * 3
    values = {
        "path": [f"{number}.png" for number in range(12)],
        "label": [CLASSES[number % 3] for number in range(12)],
        "group": [f"lesion {number // 2}" for number in range(12)],
        "split": splits,
        "search": False,
        "sha256": [f"{number:064d}" for number in range(12)],
        "phash": "0" * 16,
        "width": 8,
        "height": 8,
    }
    return Manifest(pd.DataFrame({**values, **changes}), FOLDER, CLASSES, "phantom", "phantom", synthetic=True)


LABELS = np.arange(COUNT) % 3
GROUPS = [f"lesion {number // 2}" for number in range(COUNT)]


def right_on(rows):
    """Probabilities of a model that has these rows right and calls the next class in all others."""
    called = (LABELS + 1) % 3
    called[list(rows)] = LABELS[list(rows)]
    return np.eye(3)[called] * 0.7 + 0.1


def test_a_clearly_better_model_becomes_champion():
    found = decide(LABELS, right_on(range(80)), right_on(range(40)), GROUPS, against="3")
    assert found.champion
    assert not found.forced
    assert found.against == "3"
    assert found.images == COUNT
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy(LABELS, right_on(range(80))))
    assert found.champion_balanced_accuracy == pytest.approx(balanced_accuracy(LABELS, right_on(range(40))))
    assert found.difference == pytest.approx(found.balanced_accuracy - found.champion_balanced_accuracy)
    assert 0 < found.difference_lo < found.difference < found.difference_hi
    assert found.probability_better >= 0.9
    assert "probability of improvement" in found.reason


def test_a_difference_that_may_be_chance_is_not_enough():
    found = decide(LABELS, right_on(range(30, 90)), right_on(range(59)), GROUPS, against="1")
    assert found.balanced_accuracy > found.champion_balanced_accuracy
    assert found.probability_better < 0.9
    assert not found.champion
    assert "the difference may be chance" in found.reason


@pytest.mark.parametrize("rows", [range(70), range(60)])
def test_an_equal_or_worse_model_is_not(rows):
    found = decide(LABELS, right_on(rows), right_on(range(70)), GROUPS, against="1")
    assert not found.champion
    assert found.reason.endswith("not higher")
    assert found.probability_better <= 0.5


def test_force_needs_no_figures_but_they_are_kept():
    found = decide(LABELS, right_on(range(20)), right_on(range(70)), GROUPS, against="1", force="a fault in version 1")
    assert found.champion
    assert found.forced
    assert found.reason.startswith("forced: a fault in version 1 (balanced accuracy 0.2222, version 1 has 0.7")
    assert found.difference < 0
    won = decide(LABELS, right_on(range(80)), right_on(range(40)), GROUPS, against="1", force="anyway")
    assert won.champion
    assert not won.forced


def test_one_lesion_proves_nothing():
    found = decide(LABELS, right_on(range(80)), right_on(range(40)), ["the same"] * COUNT, against="1")
    assert not found.champion
    assert found.probability_better is None
    assert "too few lesions of some class" in found.reason
    json.loads(found.to_json())


def test_the_same_seed_gives_the_same_decision_and_rows_must_fit():
    arguments = (LABELS, right_on(range(62)), right_on(range(4, 62)), GROUPS)
    first = decide(*arguments, against="1", seed=1)
    assert first == decide(*arguments, against="1", seed=1)
    assert first.probability_better != decide(*arguments, against="1", seed=2).probability_better
    with pytest.raises(DataError):
        decide(LABELS, right_on(range(62)), right_on(range(62))[1:], GROUPS, against="1")


def test_the_validation_digest_is_of_what_a_comparison_depends_on():
    base = registry.validation_digest(manifest())
    same = manifest(width=9, phash="1" * 16)  # and whatever happens to train rows
    same.frame.loc[0, "label"] = "light"
    assert registry.validation_digest(same) == base
    for column, value in (("label", "light"), ("group", "x"), ("sha256", "1" * 64)):
        other = manifest()
        (row,) = other.frame.index[other.frame["split"] == "validation"][:1]
        unlike = "dark" if other.frame.loc[row, column] == value else value
        other.frame.loc[row, column] = unlike
        assert registry.validation_digest(other) != base, column
    renamed = dataclasses.replace(manifest(), classes=("dark", "light", "middle"))
    assert registry.validation_digest(renamed) != base


def test_a_champion_of_another_split_is_an_error_that_names_both_and_the_mend():
    check_same_split("a" * 64, "a" * 64, "m version 2", "run")
    with pytest.raises(ConfigError) as caught:
        check_same_split("a" * 64, "b" * 64, "dermonas-x version 2", "5" * 32)
    message = str(caught.value)
    for part in ("dermonas-x version 2", "a" * 12, "b" * 12, f"--run {'5' * 32}", "--force true --reason WHY"):
        assert part in message


@pytest.mark.parametrize("name", ["a/b", "a b", "", "@x", "x:1", "a" * 300])
def test_a_name_that_no_uri_could_hold_is_refused(name):
    if name:
        with pytest.raises(ConfigError, match="no name of a registered model"):
            registry.model_name("isic2019", name)
    assert registry.model_name("isic2019") == "dermonas-isic2019"


def put(run, folder, text, decision, name="dermonas-x"):
    folder.mkdir()
    with registry.logged(run, name, folder, {"kind": "test"}) as model:
        (folder / "content").write_text(text)
        model.save(str(folder / "MLmodel"))
    version = registry.register(run, name, model, run.id, {registry.FILES: "f", registry.VALIDATION: "v"}, "# Card\n")
    registry.settle(run.client, version, decision)
    return version


def test_the_alias_moves_only_with_a_decision_and_leaves_a_trail(client, tmp_path):
    first = Decision(True, "the first version", balanced_accuracy=0.5, images=3)
    assert registry.champion_of(client, "dermonas-x") is None
    assert not registry.has_versions(client, "dermonas-x")
    with tracked("dermonas/x", "register", "name", {}) as run:
        one = put(run, tmp_path / "one", "one", first)
        assert registry.champion_of(client, "dermonas-x").version == one.version
        loser = dataclasses.replace(first, champion=False, reason="not higher", against="1")
        two = put(run, tmp_path / "two", "two", loser)
        assert registry.champion_of(client, "dermonas-x").version == one.version
        three = put(run, tmp_path / "three", "three", dataclasses.replace(first, reason="better", against="1"))
    assert mlflow.active_run() is None
    found = registry.champion_of(client, "dermonas-x")
    assert found.version == three.version
    assert found.run_id == run.id
    assert json.loads(found.tags[registry.DECISION])["reason"] == found.tags["dermonas.reason"] == "better"
    assert found.description == "# Card\n"
    old, lost = (client.get_model_version("dermonas-x", str(one.version)) for one in (one, two))
    assert old.tags[registry.SUCCESSOR] == "3"
    assert lost.tags["dermonas.reason"] == "not higher"
    assert lost.aliases == []
    fetched = registry.fetch(found, tmp_path / "fetched")
    assert (fetched / "content").read_text() == "three"
    assert "model_version: 3" in (fetched / "registered_model_meta").read_text().replace("'", "")
    outputs = client.get_run(run.id).outputs.model_outputs
    assert [client.get_logged_model(output.model_id).status for output in outputs] == ["READY"] * 3


def test_a_champion_that_changed_meanwhile_is_not_overwritten(client, tmp_path):
    first = Decision(True, "the first version")
    with tracked("dermonas/x", "register", "name", {}) as run:
        put(run, tmp_path / "one", "one", first)
        with pytest.raises(StorageError, match="became version 1 while version 2 was compared with none; repeat"):
            put(run, tmp_path / "two", "two", first)
    assert registry.champion_of(client, "dermonas-x").version == 1


def test_a_package_that_fails_is_marked_and_never_registered(client, tmp_path):
    def work(run):
        with registry.logged(run, "dermonas-x", tmp_path, {}) as model:
            made.append(model.model_id)
            raise StorageError("no space")

    made: list[str] = []
    with tracked("dermonas/x", "register", "name", {}) as run, pytest.raises(StorageError, match="no space"):
        work(run)
    assert client.get_logged_model(made[0]).status == "FAILED"
    assert not registry.has_versions(client, "dermonas-x")


def test_a_first_version_is_measured_too():
    found = unopposed("the first version", LABELS, right_on(range(45)))
    assert found.champion
    assert found.balanced_accuracy == pytest.approx(0.5)
    assert json.loads(found.to_json())["champion_balanced_accuracy"] is None


def facts(**changes):
    record = ModelRecord(
        name="DARTS_V2",
        network=NetworkSpec(
            kind="cells",
            name="DARTS_V2",
            classes=3,
            resolution=8,
            genotype=zoo.load("DARTS_V2").to_dict(),
            stem="cifar",
            channels=4,
            layers=3,
        ),
        classes=CLASSES,
        view=AugmentSettings(size=8),
        dataset="phantom",
        dataset_digest="0" * 64,
        synthetic=True,
        seed=4,
        label_fraction=0.25,
    )
    values = {
        "registered": "dermonas-phantom",
        "record": record,
        "manifest": manifest(),
        "metrics": {"test/balanced_accuracy": 0.81, "test/balanced_accuracy/lo": 0.7, "test/balanced_accuracy/hi": 0.9},
        "temperature": 1.25,
        "abstention": "The model abstains below 0.5.",
        "recipe": {"epochs": 3},
        "run": "5" * 32,
    }
    return Facts(**{**values, **changes})


def test_the_card_tells_data_figures_recipe_limits_and_that_it_is_no_device():
    text = card(facts(subgroups=[["column", "value"], ["sex", "female"]]))
    for part in (
        "# dermonas-phantom: DARTS_V2",
        "not a medical device",
        "**Synthetic.**",
        manifest().digest,
        "| train | 5 | 3 |",
        "| validation | 4 | 3 |",
        "| test | 3 | 2 |",
        "| balanced accuracy | 0.810 | 0.700 to 0.900 |",
        "divided by 1.250",
        "The model abstains below 0.5.",
        "| sex | female |",
        "from random weights",
        "25% of the train labels",
        "epochs 3",
        "## Intended use",
        "## Limits",
        "licence",
    ):
        assert part in text, part


def test_a_card_says_what_was_not_measured_and_which_family_is_unknown():
    assert "not evaluated on test" in card(facts(metrics={}))
    real = dataclasses.replace(
        manifest(), source="isic", synthetic=False, tags={"ungrouped": True, "transductive": True}
    )
    text = card(facts(manifest=real, record=dataclasses.replace(facts().record, synthetic=False)))
    assert "Synthetic" not in text
    assert "CC BY-NC 4.0" in text
    assert "Ungrouped split" in text
    assert "Transductive" in text
    with pytest.raises(ConfigError, match=r"nothing\.md: no card"):
        card(facts(manifest=dataclasses.replace(manifest(), source="nothing")))


def test_every_source_of_data_has_a_card():
    assert {path.stem for path in FOLDER.glob("*.md")} == {"README", "isic", "cifar", "folder", "phantom"}
    for path in FOLDER.glob("*.md"):
        if path.stem != "README":
            assert "not a medical device" in " ".join(path.read_text().split())
