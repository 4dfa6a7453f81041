"""Controllers on disk: one file of weights, sizes and the language they speak, read without pickle."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dermonas.controller.language import Language
from dermonas.controller.model import Controller, ControllerSettings
from dermonas.errors import ConfigError, StorageError

_FORMAT = "dermonas-controller-1"


class Stored(NamedTuple):
    """A controller from a file.

    Attributes:
        controller: On the CPU.
        language: Name of the language that it speaks.
        info: What the writer noted: how it was pretrained, rounds of search.
    """

    controller: Controller
    language: str
    info: dict[str, Any]


def save_controller(path: Path, controller: Controller, language: Language, info: Mapping[str, Any]) -> None:
    """Write a controller file; a reader sees the old one or the new one.

    Args:
        path: The file; its folder exists.
        controller: On any device.
        language: What it speaks.
        info: Numbers, strings, and lists and mappings of them.

    Raises:
        StorageError: If the disk refuses.
    """
    content = {
        "format": _FORMAT,
        "language": language.name,
        "settings": asdict(controller.settings),
        "weights": {key: value.cpu() for key, value in controller.state_dict().items()},
        "info": dict(info),
    }
    write_atomically(path, content)


def load_controller(path: Path, language: Language | None = None) -> Stored:
    """Read a controller file.

    Args:
        path: The file.
        language: What it must speak; None takes any.

    Raises:
        StorageError: If there is no such file, or it is damaged or no controller.
        ConfigError: If it speaks another language.
    """
    content = read(path, "give a file that controller-pretrain wrote")
    if content.get("format") != _FORMAT:
        raise StorageError(f"{path} is no controller: give a file that controller-pretrain wrote")
    if language is not None and content["language"] != language.name:
        raise ConfigError(
            f"{path} was trained on {content['language']}, not on {language.name}: pretrain one on {language.name}"
        )
    try:
        controller = Controller(ControllerSettings(**content["settings"]))
        controller.load_state_dict(content["weights"])
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise StorageError(f"{path}: the weights do not fit ({reason}): pretrain the controller anew") from error
    return Stored(controller, content["language"], content["info"])


def weights_digest(controller: Controller) -> str:
    """Return 16 hex digits over names, shapes and values of the weights."""
    digest = hashlib.sha256()
    for name, value in sorted(controller.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def write_atomically(path: Path, content: Mapping[str, Any]) -> None:
    """Save tensors and plain values beside `path`, flush them to the disk, and move them there.

    Raises:
        StorageError: If the disk refuses.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(dict(content), fresh)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise StorageError(f"cannot write {path}: {reason}; free space or choose another folder") from error
    finally:
        fresh.unlink(missing_ok=True)


def read(path: Path, mend: str) -> dict[str, Any]:
    """Read what `write_atomically` wrote.

    Args:
        path: The file.
        mend: What to do where it cannot be read, for the message.

    Raises:
        StorageError: If there is no such file or it is damaged.
    """
    if not path.is_file():
        raise StorageError(f"{path} does not exist: {mend}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises almost anything
        reason = " ".join(str(error).split())[:200]
        raise StorageError(f"{path} is damaged ({reason}): {mend}") from error
    if not isinstance(content, dict):
        raise StorageError(f"{path} holds something else than expected: {mend}")
    return content
