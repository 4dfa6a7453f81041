"""Strict decoding: what a stranger need not send is refused, what is accepted has the same pixels."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from packed import encode, noise
from PIL import Image

from dermonas.errors import ImageError
from dermonas.imaging.decode import decode
from dermonas.imaging.polyglot import other_kind

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def zipped(comment=b""):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "a")
        archive.comment = comment
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encode(PIXELS, "JPEG") + zipped(), "archive"),
        (encode(PIXELS, "PNG") + zipped(b"comment" * 100), "archive"),
        (encode(PIXELS, "JPEG") + zipped() + b"behind", "archive"),
        (encode(PIXELS, "BMP") + b"Rar!\x1a\x07\x00", "archive"),
        (encode(PIXELS, "JPEG", comment=b"%PDF-1.7 ..."), "document"),
        (encode(PIXELS, "JPEG", comment=b"<Script>alert(1)</script>"), "script"),
        (encode(PIXELS, "JPEG", comment=b"<?php system($_GET[0]); ?>"), "script"),
        (encode(PIXELS, "PNG") + b"<!DOCTYPE html><html>", "script"),
        (b"MZ" + b"\0" * 126 + b"DICM" + b"\0" * 100, "program"),
    ],
)
def test_a_file_that_is_something_else_as_well(data, kind):
    assert other_kind(data) == kind
    with pytest.raises(ImageError, match=f"a: polyglot .the file is {kind} as well"):
        decode(data, name="a", strict=True)
    if not data.startswith(b"MZ"):
        assert decode(data).size == (40, 30)  # a data set's own files are read as ever


def test_an_animation_and_other_formats_are_refused():
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    for kind in ("WEBP", "PNG"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        with pytest.raises(ImageError, match="animated: send one frame"):
            decode(buffer.getvalue(), strict=True)
        assert decode(buffer.getvalue()).size == (40, 30)
    for kind in ("GIF", "PPM", "JPEG2000"):
        with pytest.raises(ImageError, match="not an image"):
            decode(encode(PIXELS, kind), strict=True)


def test_what_is_accepted_has_the_same_pixels():
    for data in noise():
        assert (np.asarray(decode(data, strict=True)) == np.asarray(decode(data))).all()


def test_noise_is_no_polyglot():
    generator = np.random.default_rng(1)
    for _ in range(50):
        assert other_kind(b"\xff\xd8" + generator.bytes(100_000)) == ""
