"""A request's images and parameters, each checked; an error names the row, counted from 0."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dermonas.errors import ConfigError, ImageError

IMAGE = "image"
"""The one column that a request must have: base64 text of an encoded image file, or its bytes."""

OPTIONAL = ("age", "sex", "site")
"""Columns that are accepted and ignored: the models see the image alone. They keep a later model's requests valid."""


@dataclass(frozen=True)
class Parameters:
    """How a request wants to be answered.

    Attributes:
        top_k: How many classes an answer lists, at least 1.
        cam: Whether to draw the map of the label.
        tta: Whether to average over flips.
    """

    top_k: int = 3
    cam: bool = False
    tta: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any] | None) -> Parameters:
        """Check parameters by name.

        Raises:
            ConfigError: One is unknown, of a wrong type or out of range.
        """
        given = dict(values or {})
        for key, value in given.items():
            if key not in cls.__dataclass_fields__:
                raise ConfigError(f"parameter {key!r} is unknown; there are {', '.join(cls.__dataclass_fields__)}")
            wanted = int if key == "top_k" else bool
            plain = value.item() if hasattr(value, "item") else value  # NumPy's numbers, which MLflow makes
            if type(plain) is not wanted:
                raise ConfigError(
                    f"parameter {key} is {value!r}, must be {'a whole number' if wanted is int else 'true or false'}"
                )
            given[key] = plain
        found = cls(**given)
        if found.top_k < 1:
            raise ConfigError(f"parameter top_k is {found.top_k}, must be at least 1")
        return found


def images_of(columns: Iterable[str], values: Iterable[Any] | None) -> list[bytes]:
    """Return the encoded images of a request.

    Args:
        columns: Names of all its columns.
        values: What stands in column `image`; None where there is none.

    Raises:
        ConfigError: The column is missing, or another one is unknown.
        ImageError: A value that is no base64 text; names the row.
    """
    names = [str(name) for name in columns]
    if values is None or IMAGE not in names:
        raise ConfigError(f"column {IMAGE!r} is missing; the request has {', '.join(names) or 'no column'}")
    unknown = [name for name in names if name != IMAGE and name not in OPTIONAL]
    if unknown:
        raise ConfigError(f"column {unknown[0]!r} is unknown; there are {IMAGE}, {', '.join(OPTIONAL)}")
    return [_bytes(value, row) for row, value in enumerate(values)]


def _bytes(value: Any, row: int) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if value is None or value != value:  # NaN is what a table makes of a missing value
        raise ImageError(f"row {row}: image is missing")
    if not isinstance(value, str):
        raise ImageError(f"row {row}: image is of type {type(value).__name__}, must be base64 text of an image file")
    try:
        # Line breaks are what many encoders put in; anything else that is not base64 is an error, never skipped.
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"row {row}: image is no base64 text ({error})") from error
