"""The few lines of protocol buffers that a flat message takes to read."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yield the fields of an encoded message in order.

    Args:
        message: The encoding; embedded messages and strings are yielded as bytes.

    Yields:
        Field number and value: a varint as an unsigned int, 64 bits as a double, 32 bits as a float, the rest as bytes.

    Raises:
        ValueError: If the message is cut short or uses a wire type that is none of these.

    Source: protocol buffers, encoding, protobuf.dev/programming-guides/encoding.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} in field {number}")
        raw = message[at : at + length]
        if len(raw) != length:
            raise ValueError(f"field {number} is cut short")
        at += length
        yield number, raw if wire == _BYTES else struct.unpack("<d" if wire == _FIXED64 else "<f", raw)[0]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the varint at `at` and where it ends."""
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a varint is cut short or too long")
