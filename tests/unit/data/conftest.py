"""Small data sets in every layout, drawn from random numbers: no test here needs a download."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ISIC = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")


def picture(seed: int, size: int = 24) -> Image.Image:
    """A smooth random picture: far from every other seed's, close to its own copies."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


@pytest.fixture
def draw() -> Callable[..., Image.Image]:
    return picture


@pytest.fixture
def make_isic(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an official ISIC folder and returns it."""

    def make(
        labels: Sequence[str] = ("MEL", "NV", "BCC", "NV", "MEL", "BCC") * 5,
        lesions: Sequence[str] | None = None,
        *,
        test_images: int = 0,
        name: str = "isic",
        ending: str = ".jpg",
    ) -> Path:
        root = tmp_path / name
        images = root / "ISIC_2019_Training_Input"
        images.mkdir(parents=True)
        truth, metadata = ["image," + ",".join(ISIC) + ",UNK"], ["image,age_approx,anatom_site_general,lesion_id,sex"]
        for index, label in enumerate(labels):
            image_id = f"ISIC_{index:07d}"
            picture(index).save(images / f"{image_id}{ending}")
            truth.append(image_id + "," + ",".join(f"{float(label == column)}" for column in (*ISIC, "UNK")))
            metadata.append(f"{image_id},{50 if index % 3 else ''},,{lesions[index] if lesions else ''},female")
        (root / "ISIC_2019_Training_GroundTruth.csv").write_text("\n".join(truth) + "\n")
        (root / "ISIC_2019_Training_Metadata.csv").write_text("\n".join(metadata) + "\n")
        if test_images:
            (root / "ISIC_2019_Test_Input").mkdir()
            for index in range(test_images):
                picture(10_000 + index).save(root / "ISIC_2019_Test_Input" / f"ISIC_{9000 + index:07d}.jpg")
        return root

    return make


@pytest.fixture
def make_classes(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes class folders: make("train/cat", count) or make("cat", count)."""
    drawn = 0

    def make(folder: str, count: int, *, root: str = "folder") -> Path:
        nonlocal drawn
        target = tmp_path / root / folder
        target.mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            picture(drawn).save(target / f"photo_{drawn:06d}.png")
            drawn += 1
        return tmp_path / root

    return make
