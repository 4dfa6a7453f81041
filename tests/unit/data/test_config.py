"""Impossible settings stop at once, naming key, value and what is allowed."""

from pathlib import Path
from typing import Any

import pytest

from dermonas.data.config import PrepareConfig, output_folder
from dermonas.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "dicom"}, "source is 'dicom', must be one of isic, cifar, folder, phantom"),
        ({"split": "random"}, "split is 'random', must be one of lesion, paper"),
        ({"source": "isic", "root": None}, "root is not set: source isic"),
        ({"source": "phantom"}, "root is .*, but source phantom draws its own images"),
        ({"dataset": "phantom"}, "dataset is 'phantom', but source folder is not synthetic"),
        ({"dataset": "a/b"}, "dataset is 'a/b'"),
        ({"split_sizes": (0.8, 0.1, 0.2)}, "must be fractions that sum to 1"),
        ({"split_sizes": (0.0, 0.5, 0.5)}, "train > 0"),
        ({"split_sizes": (1.2, -0.1, -0.1)}, "three sizes >= 0"),
        ({"split_sizes": (10.5, 2, 3)}, "whole numbers"),
        ({"split": "paper", "split_sizes": (0.7, 0.1, 0.2)}, "split paper has its own sizes"),
        ({"search_fraction": 0.0}, r"search_fraction is 0\.0, must be in \(0, 1\]"),
        ({"search_fraction": 1.5}, r"search_fraction is 1\.5"),
        ({"workers": -1}, "workers is -1, must be at least 0"),
        ({"max_pixels": 0}, "max_pixels is 0, must be at least 1"),
        ({"max_pixels": 10**9}, "max_pixels is 1000000000, must be at most 178956970"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    base: dict[str, Any] = {"source": "folder", "dataset": "x", "root": Path("/images")}
    with pytest.raises(ConfigError, match=message):
        PrepareConfig(**{**base, **settings})


@pytest.mark.parametrize(
    ("source", "root", "name"),
    [
        ("isic", "/data/x", "isic2019"),
        ("cifar", "/data/x", "cifar10"),
        ("cifar", "/data/cifar-100-python", "cifar100"),
        ("folder", "/data/my images", "my-images"),
        ("folder", "/", "folder"),
        ("phantom", None, "phantom"),
    ],
)
def test_a_data_set_without_a_name_gets_one(source: Any, root: str | None, name: str) -> None:
    config = PrepareConfig(source=source, root=None if root is None else Path(root))
    assert config.dataset == name
    assert config.out == output_folder(config) == Path("data") / name


def test_default_is_the_embedded_phantom() -> None:
    config = PrepareConfig()
    assert config.source == "phantom"
    assert config.split_sizes == (0.80, 0.05, 0.15)


def test_the_command_line_reads_it() -> None:
    from jsonargparse import auto_cli

    arguments = ["--source", "isic", "--root", "/images", "--split_sizes", "[0.7, 0.1, 0.2]", "--strict", "true"]
    config = auto_cli(PrepareConfig, as_positional=False, args=arguments)
    assert config == PrepareConfig(source="isic", root=Path("/images"), split_sizes=(0.7, 0.1, 0.2), strict=True)
