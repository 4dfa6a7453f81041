"""TensorFlow record files, written slowly."""

from __future__ import annotations

import struct


def bitwise(data: bytes) -> int:
    """CRC-32C one bit at a time."""
    state = 0xFFFF_FFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFF_FFFF


def sealed(data: bytes) -> bytes:
    crc = bitwise(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFF_FFFF)


def framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + sealed(length) + data + sealed(data)
