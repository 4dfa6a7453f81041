"""A request's images and parameters, each checked; an error names the row, counted from 0, and repeats nothing sent."""

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
                raise ConfigError(f"a parameter is unknown; there are {', '.join(cls.__dataclass_fields__)}")
            wanted = int if key == "top_k" else bool
            plain = value.item() if hasattr(value, "item") else value  # NumPy's numbers, which MLflow makes
            if type(plain) is not wanted:
                raise ConfigError(f"parameter {key} must be {'a whole number' if wanted is int else 'true or false'}")
            given[key] = plain
        found = cls(**given)
        if found.top_k < 1:
            raise ConfigError("parameter top_k must be at least 1")
        return found


def images_of(columns: Iterable[str], values: Iterable[Any] | None) -> list[bytes]:
    """Return the encoded images of a request.

    Args:
        columns: Names of all its columns.
        values: What stands in column `image`; read only where there is one.

    Raises:
        ConfigError: The column is missing, or another one is unknown.
        ImageError: A value that is no base64 text; names the row.
    """
    check_columns(columns)
    return [image_bytes(value, row) for row, value in enumerate(() if values is None else values)]


def check_columns(columns: Iterable[Any]) -> None:
    """Refuse a table without images, or with columns that nobody reads.

    Raises:
        ConfigError: See `images_of`.
    """
    names = [str(name) for name in columns]
    if IMAGE not in names:
        raise ConfigError(f"column {IMAGE!r} is missing")
    unknown = [name for name in names if name != IMAGE and name not in OPTIONAL]
    if unknown:
        raise ConfigError(f"a column is unknown; there are {IMAGE}, {', '.join(OPTIONAL)}")


def image_bytes(value: Any, row: int) -> bytes:
    """Return the encoded image in a row.

    Raises:
        ImageError: The value is no base64 text; names the row.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if value is None or value != value:  # NaN is what a table makes of a missing value
        raise ImageError(f"row {row}: image is missing")
    if not isinstance(value, str):
        raise ImageError(f"row {row}: image must be base64 text of an image file")
    try:
        # Line breaks are what many encoders put in; anything else that is not base64 is an error, never skipped.
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"row {row}: image is no base64 text") from error
