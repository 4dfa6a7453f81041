"""The exported program: equal to the network for every batch, without a pickle, and refused where it has one."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import pytest
import torch
from torch import nn

from dermonas.errors import ConfigError, StorageError
from dermonas.serving.description import PROGRAM
from dermonas.serving.program import check_plain, export_program, load_program


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.classifier = nn.Linear(4, 2)
        self.auxiliary = None

    def logits_and_map(self, x):
        features = self.convolution(x)
        return self.classifier(features.mean(dim=(2, 3))), features


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 33])
def test_it_answers_as_the_network_for_any_batch(packed, batch):
    images = torch.randn(batch, 3, 32, 32)
    with torch.inference_mode():
        logits, features = load_program(packed.artifacts / PROGRAM)(images)
        wanted = packed.network.logits_and_map(images)
    torch.testing.assert_close(logits, wanted[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features, wanted[1], rtol=1e-5, atol=1e-5)


def test_the_auxiliary_head_is_left_out_and_the_network_stays_as_it_was(cells):
    assert cells.network.auxiliary is not None
    with zipfile.ZipFile(cells.artifacts / PROGRAM) as archive:
        table = next(name for name in archive.namelist() if name.endswith("model_weights_config.json"))
        names = json.loads(archive.read(table))["config"]
    assert not [name for name in names if "auxiliary" in name]
    assert [name for name in names if name.endswith("classifier.weight")]


def test_no_member_is_a_pickle(packed):
    with zipfile.ZipFile(packed.artifacts / PROGRAM) as archive:
        for member in archive.infolist():
            content = archive.read(member)
            assert not content.startswith(b"PK"), member.filename  # torch.save's own archive
            if member.filename.endswith((".json", "version", "byteorder", "serialization_id", "archive_format")):
                continue
            # Raw numbers: bytes that begin as every pickle of protocol 2 or later does would be chance at most.
            with pytest.raises(Exception):  # noqa: B017
                pickle.Unpickler(io.BytesIO(content)).load()


def rewrite(source, target, **changes):
    """Copy an archive with members replaced or added, named without their first folder."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        root = old.namelist()[0].partition("/")[0]
        left = {f"{root}/{name}": content for name, content in changes.items()}
        for member in old.infolist():
            new.writestr(member.filename, left.pop(member.filename, None) or old.read(member))
        for name, content in left.items():
            new.writestr(name, content)


@pytest.fixture
def tiny(tmp_path):
    return export_program(Tiny().eval(), 8, tmp_path / "tiny.pt2")


@pytest.mark.parametrize(
    "name",
    [
        "data/sample_inputs/model.pt",
        "data/weights/model.pt",
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "data/aotinductor/model/model.so",
        "models/other.json",
    ],
)
def test_an_archive_with_something_to_unpickle_or_run_is_refused(tiny, tmp_path, name):
    bad = tmp_path / "bad.pt2"
    rewrite(tiny, bad, **{name: b"x"})
    with pytest.raises(StorageError, match=f"holds {name}, which would be unpickled"):
        load_program(bad)


def test_a_weight_marked_as_pickled_is_refused_before_it_is_read(tiny, tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harmed"), "w"))

    with zipfile.ZipFile(tiny) as archive:
        table = json.loads(archive.read("tiny.partial/data/weights/model_weights_config.json".replace("tiny", ".tiny")))
    entry = next(iter(table["config"].values()))
    entry["use_pickle"] = True
    bad, buffer = tmp_path / "bad.pt2", io.BytesIO()
    torch.save(Harm(), buffer)
    rewrite(
        tiny,
        bad,
        **{
            "data/weights/model_weights_config.json": json.dumps(table),
            f"data/weights/{entry['path_name']}": buffer.getvalue(),
        },
    )
    torch_would = torch.export.load
    with pytest.raises(StorageError, match="model_weights_config"):
        check_plain(bad)
    with pytest.raises(StorageError, match="would be unpickled"):
        load_program(bad)
    assert not (tmp_path / "harmed").exists()
    with pytest.raises(Exception):  # noqa: B017
        torch_would(bad)
    assert (tmp_path / "harmed").exists()  # so the check is what kept it from happening


def test_damage_is_told_in_one_line(tiny, tmp_path):
    with pytest.raises(StorageError, match="does not exist"):
        load_program(tmp_path / "absent.pt2")
    whole = tiny.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no archive"):
        tiny.write_bytes(damaged)
        with pytest.raises(StorageError, match="is damaged") as caught:
            load_program(tiny)
        assert "\n" not in str(caught.value)


def test_a_network_that_depends_on_the_batch_is_no_program(tmp_path):
    class Counts(Tiny):
        def logits_and_map(self, x):
            logits, features = super().logits_and_map(x)
            return (logits if x.shape[0] > 1 else logits + 1), features

    with pytest.raises(ConfigError, match=r"cannot be exported|differ from the network's"):
        export_program(Counts().eval(), 8, tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())
