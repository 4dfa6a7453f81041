"""The shared real subsets, when they are there; everything they check has a generated counterpart."""

import os
from pathlib import Path

import pytest

from dermonas.data.config import PrepareConfig
from dermonas.data.manifest import read_manifest
from dermonas.data.prepare import prepare
from dermonas.events import Silent

SHARED = Path(os.environ.get("DERMONAS_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))


def _needs(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is not on this machine")
    return SHARED / name


def test_isic2019_mixed180(tmp_path: Path) -> None:
    root = _needs("isic2019_mixed180")
    manifest = prepare(PrepareConfig("isic2019", "isic", root, tmp_path / "out", workers=2), Silent())
    frame = manifest.frame
    assert manifest.classes == ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
    # The README's counts.
    assert frame["label"].value_counts().to_dict() == {
        "BKL": 478, "BCC": 392, "NV": 266, "MEL": 212, "SCC": 192, "VASC": 142, "AK": 129, "DF": 104,
    }  # fmt: skip
    assert frame["lesion_id"].notna().sum() == 1437
    assert frame.groupby("group")["split"].nunique().max() == 1
    assert frame.dropna(subset="lesion_id").groupby("lesion_id")["split"].nunique().max() == 1
    assert frame["split"].value_counts().to_dict() == {"train": 1532, "test": 287, "validation": 96}
    assert frame["group"].value_counts().max() <= 4
    assert read_manifest(tmp_path / "out").digest == manifest.digest


def test_imagenette_val_is_the_test_set(tmp_path: Path) -> None:
    root = _needs("imagenette_900")
    settings = PrepareConfig("imagenette", "folder", root, tmp_path / "out", workers=2)
    frame = prepare(settings, Silent()).frame
    assert frame["split"].value_counts().to_dict() == {"train": 565, "test": 300, "validation": 35}
    assert frame.loc[frame["split"] == "test", "path"].str.startswith("val/").all()
