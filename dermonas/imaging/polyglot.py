"""Files that are images and something else as well: what a scanner lets pass as a picture, another program runs."""

from __future__ import annotations

_ZIP_END, _ZIP_LENGTH = b"PK\x05\x06", 22  # bytes of the record before its comment
_ZIP_REACH = _ZIP_LENGTH + 65_535
_PDF_REACH = 1024  # readers look for the mark there
# Long enough that compressed pixels do not hold them by chance: below 2e-5 a megabyte for the shortest.
_SCRIPTS = (b"<script", b"<html", b"<!doctype", b"<svg xmlns", b"<?php", b"__halt_compiler()")  # in any case
_ARCHIVES = (b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c")
_PROGRAMS = (b"MZ", b"\x7fELF", b"#!")  # at the start: in the preamble of a DICOM file


def other_kind(data: bytes) -> str:
    """Return what an image file is besides, in a word, or "".

    An archive, a document, markup or a script are found; not everything that could be hidden in a file can be.
    """
    if data.startswith(_PROGRAMS):
        return "program"
    if b"%PDF-" in data[:_PDF_REACH]:
        return "document"
    end = data.rfind(_ZIP_END, max(0, len(data) - _ZIP_REACH))
    if end >= 0 and end + _ZIP_LENGTH <= len(data):
        comment = int.from_bytes(data[end + 20 : end + 22], "little")
        if end + _ZIP_LENGTH + comment <= len(data):
            return "archive"
    if any(mark in data for mark in _ARCHIVES):
        return "archive"
    lowered = data.lower()
    return "script" if any(mark in lowered for mark in _SCRIPTS) else ""
