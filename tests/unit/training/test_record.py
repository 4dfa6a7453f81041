"""A trained model in a folder: written, read back equal, and refused in one line when it is damaged."""

import json

import pytest
import torch

from dermonas.data.augmentation import AugmentSettings
from dermonas.errors import ConfigError, StorageError
from dermonas.nn.specification import NetworkSpec
from dermonas.space import zoo
from dermonas.training.record import RECORD, WEIGHTS, ModelRecord, load_model, read_record, write_record


def record(**changes):
    network = NetworkSpec(
        kind="cells",
        name="DARTS_V2",
        classes=3,
        resolution=8,
        genotype=zoo.load("DARTS_V2").to_dict(),
        stem="cifar",
        channels=4,
        layers=3,
    )
    values = {
        "name": "DARTS_V2",
        "network": network,
        "classes": ("dark", "middle", "light"),
        "view": AugmentSettings(size=8, crop="pad", padding=1, cutout=2, jitter=(0.1, 0.1, 0.1, 0.05)),
        "dataset": "phantom",
        "dataset_digest": "0" * 64,
        "synthetic": True,
        "seed": 1,
    }
    return ModelRecord(**{**values, **changes})


def test_a_record_comes_back_equal(tmp_path):
    write_record(record(label_fraction=0.25), tmp_path)
    assert read_record(tmp_path) == record(label_fraction=0.25)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_a_loaded_model_answers_as_the_saved_one(tmp_path, auxiliary):
    state = torch.random.get_rng_state()
    network = record().network.build(auxiliary=auxiliary, seed=5).eval()
    assert torch.equal(state, torch.random.get_rng_state())
    write_record(record(), tmp_path)
    torch.save(network.state_dict(), tmp_path / WEIGHTS)
    loaded, _ = load_model(tmp_path)
    x = torch.randn(2, 3, 8, 8)
    logits, maps = loaded.logits_and_map(x)
    assert torch.equal(logits, network(x))
    assert maps.shape[:2] == (2, loaded.classifier.in_features)
    torch.testing.assert_close(loaded.classifier(maps.mean(dim=(2, 3))), logits)


def test_damage_is_told_in_one_line(tmp_path):
    write_record(record(), tmp_path)
    with pytest.raises(StorageError, match=r"best\.pt does not exist: train first"):
        load_model(tmp_path)
    torch.save(record().network.build().state_dict(), tmp_path / WEIGHTS)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match=r"best\.pt is damaged"):
        load_model(tmp_path)
    torch.save({"classifier.weight": torch.zeros(3, 4)}, tmp_path / WEIGHTS)
    with pytest.raises(StorageError, match="does not fit DARTS_V2"):
        load_model(tmp_path)


def test_a_record_of_another_format_is_refused(tmp_path):
    path = write_record(record(), tmp_path)
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "format": 2}))
    with pytest.raises(ConfigError, match="format 2"):
        read_record(tmp_path)
    path.write_text(json.dumps({key: value for key, value in values.items() if key != "classes"}))
    with pytest.raises(ConfigError, match="classes"):
        read_record(tmp_path)
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(StorageError, match="cannot be read"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem": None}, "needs genotype, stem"),
        ({"resolution": 10}, "multiple of 4"),
        ({"classes": 1}, "1 classes"),
        ({"kind": "timm"}, "timm's have no cells"),
    ],
)
def test_a_network_that_cannot_be_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        NetworkSpec.from_dict({**record().network.to_dict(), **change})


def test_the_digest_ignores_the_name_of_cells():
    one = record().network
    assert NetworkSpec.from_dict({**one.to_dict(), "name": "other"}).digest == one.digest
    assert NetworkSpec.from_dict({**one.to_dict(), "layers": 4}).digest != one.digest
