"""Packaged models of each kind, made once, and images to serve."""

from __future__ import annotations

import pytest
from packed import Packed, noise, pack


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """A network of cells."""
    return pack("cells", tmp_path_factory.mktemp("cells"))


@pytest.fixture(scope="session")
def timm(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """A baseline."""
    return pack("timm", tmp_path_factory.mktemp("timm"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """A network of one convolution."""
    return pack("tiny", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session", params=["cells", "timm"])
def packed(request: pytest.FixtureRequest) -> Packed:
    """Either of the first two."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    """Encoded noise; see `packed.noise`."""
    return noise()
