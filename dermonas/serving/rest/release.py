"""A version that is being served, and how a server learns which one it should be."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from dermonas.errors import StorageError
from dermonas.serving.description import CARD, PROGRAM
from dermonas.serving.digest import verify
from dermonas.serving.rest.tuned import tuned
from dermonas.serving.served import Served

_ARTIFACTS = "artifacts"  # MLflow's folder for them


@dataclass(frozen=True)
class Wanted:
    """A version that the registry names.

    Attributes:
        version: Its number.
        digest: SHA-256 over its files, as the registry recorded it; "" where it recorded none.
    """

    version: str
    digest: str


class Source(Protocol):
    """Where versions come from."""

    def wanted(self) -> Wanted:
        """Return the version that should be served now.

        Raises:
            DermonasError: The registry does not say.
        """

    def fetch(self, wanted: Wanted, folder: Path) -> Path:
        """Copy its package into a folder and return where it lies.

        Raises:
            DermonasError: It cannot be had.
        """


@dataclass(frozen=True, eq=False)
class Release:
    """A loaded version.

    Attributes:
        served: The model.
        version: Its number in the registry.
        digest: SHA-256 over its files, which were found to be those that the registry recorded.
        card: Markdown; one of those files.
    """

    served: Served
    version: str
    digest: str
    card: str = ""

    @classmethod
    def load(cls, wanted: Wanted, folder: Path) -> Release:
        """Load a package, once its files are known to be those that were registered, and try it.

        Args:
            wanted: The version.
            folder: Its package: a copy of ours that nobody else writes to.

        Raises:
            StorageError: The files differ from the registry's digest, or cannot be loaded or run.
        """
        if not wanted.digest:
            raise StorageError(
                f"version {wanted.version} has no digest in the registry, so nothing vouches for its files: register "
                "the model again"
            )
        verify(folder, wanted.digest)
        served = Served.load(folder / _ARTIFACTS)
        size = served.description.size
        try:
            found = served.logits(torch.zeros(2, 3, size, size))  # also pays what a first step costs
        except Exception as error:  # a program raises almost anything
            raise StorageError(f"{folder / _ARTIFACTS / PROGRAM} does not run: register the model again") from error
        if found.logits.shape != (2, len(served.description.classes)):
            raise StorageError(f"{folder} has {found.logits.shape[1:]} outputs for its classes: register it again")
        return cls(tuned(served), wanted.version, wanted.digest, _card(folder / _ARTIFACTS / CARD))

    @classmethod
    def of(cls, source: Source, wanted: Wanted) -> Release:
        """Fetch a version and load it; see `load`."""
        with tempfile.TemporaryDirectory(prefix="dermonas-serve-") as scratch:
            return cls.load(wanted, source.fetch(wanted, Path(scratch)))

    @property
    def about(self) -> dict[str, str]:
        """What every answer says of who answered."""
        description = self.served.description
        return {
            "model": description.registered,
            "version": self.version,
            "digest": self.digest,
            "notice": description.notice,
        }


def _card(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be read: register the model again") from error
