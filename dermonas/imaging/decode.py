"""Turn any image file into upright 8-bit RGB, or say in one line why it cannot be used.

Medical folders hold more than 8-bit RGB JPEG: 16-bit microscopy, CMYK exports, phone pictures whose
orientation sits in EXIF, half-copied files. Pillow opens most of them but clips 16-bit values, ignores
orientation and raises a dozen exception types; this module settles all of that in one place.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dermonas.errors import ImageError, ImageTooLarge
from dermonas.imaging.dicom import decode_dicom, is_dicom
from dermonas.imaging.polyglot import other_kind

MAX_PIXELS = 89_478_485
"""Largest width x height decoded by default, pixels: 256 MiB of RGB. Source: Pillow's own MAX_IMAGE_PIXELS."""

PILLOW_LIMIT = 2 * MAX_PIXELS
"""Pillow refuses more than this whatever `max_pixels` says, pixels. Source: PIL.Image, _decompression_bomb_check."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
"""Formats that are tried, besides DICOM. Left out on purpose: those that start other programs (EPS) or hold no
photograph."""

STRICT_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
"""Formats that are tried, besides DICOM, of a file that a stranger sent."""

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".jp2", ".jpe", ".jfif", ".dcm"}
)
"""File name endings, lower case, that a source lists as images."""

_ORIENTATION = 0x0112  # EXIF tag; 1 is upright. Source: EXIF 2.32, section 4.6.4
# Reading one of these on a damaged file is that file's fault, never ours.
_BROKEN = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError, AssertionError,
    RuntimeError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class ImageInfo:
    """What an image file holds.

    Attributes:
        width: Pixels, after EXIF orientation.
        height: Pixels, after EXIF orientation.
        notes: What was unusual and has been settled: "DICOM", "16-bit", "CMYK", "greyscale", "palette", "alpha",
            "EXIF-rotated", "EXIF-unreadable", "animated", in this order of discovery.
    """

    width: int
    height: int
    notes: tuple[str, ...]


def decode(
    source: Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str | None = None, strict: bool = False
) -> Image.Image:
    """Decode an image to upright 8-bit RGB.

    EXIF orientation is applied, 16-bit values are scaled by 1/257 (not clipped), CMYK, greyscale and
    palette are converted, transparency is composited on white, of an animation the first frame is taken.
    Colour profiles are not applied: the published networks did not either. For DICOM see `dicom.decode_dicom`.

    Args:
        source: A file, or its bytes.
        max_pixels: Refuse larger images before decoding them.
        name: What to call the image in an error; the path by default.
        strict: Refuse what a stranger has no need to send: animations, files that are something else as well, and
            formats beyond `STRICT_FORMATS`. What is accepted is decoded to the same pixels.

    Returns:
        An image of mode RGB, (height, width) as a viewer shows it.

    Raises:
        ImageError: "NAME: reason", where the reason starts with one of "unreadable", "zero-byte file",
            "not an image", "truncated", "corrupt", "a DICOM file"; with `strict`, also "animated", "polyglot".
        ImageTooLarge: "NAME: decompression bomb ...".
    """
    return decode_and_inspect(source, max_pixels=max_pixels, name=name, strict=strict)[0]


def inspect(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> ImageInfo:
    """Decode an image fully and tell its size and peculiarities; arguments and errors as `decode`."""
    return decode_and_inspect(source, max_pixels=max_pixels, name=name)[1]


def decode_and_inspect(
    source: Path | bytes, *, max_pixels: int = MAX_PIXELS, name: str | None = None, strict: bool = False
) -> tuple[Image.Image, ImageInfo]:
    """Both of `decode` and `inspect` for the price of one decoding."""
    label = name if name is not None else (str(source) if isinstance(source, Path) else "image")
    data = source if isinstance(source, bytes) else _read(source, label)
    if not data:
        raise ImageError(f"{label}: zero-byte file")
    if is_dicom(data):
        if strict:
            _alone(data, label)
        frame, found = decode_dicom(data, label, max_pixels, lambda inner: _open(inner, label, max_pixels))
        return frame, ImageInfo(frame.width, frame.height, tuple(found))
    image = _open(data, label, max_pixels, STRICT_FORMATS if strict else FORMATS)
    if strict:
        _alone(data, label)
    notes: list[str] = []
    try:
        # A TIFF file's further pages, and an MPO file's further views, are looked for by nobody: they may be damaged.
        if image.format not in ("MPO", "TIFF") and getattr(image, "n_frames", 1) > 1:
            if strict:
                raise ImageError(f"{label}: animated: send one frame")
            notes.append("animated")
        deep = _is_sixteen_bit(image)
        if image.format == "TIFF" and image.getexif().get(_ORIENTATION, 1) in range(2, 9):
            notes.append("EXIF-rotated")  # Pillow turns TIFF files itself while it loads them
        image.load()
        rgb = _to_rgb(image, deep, notes)
    except _BROKEN as error:
        raise _broken(label, error) from error
    except MemoryError as error:
        raise ImageTooLarge(f"{label}: decompression bomb (does not fit in memory)") from error
    upright = _apply_orientation(image, rgb, notes)
    return upright, ImageInfo(upright.width, upright.height, tuple(notes))


def _alone(data: bytes, label: str) -> None:
    if kind := other_kind(data):
        raise ImageError(f"{label}: polyglot (the file is {kind} as well)")


def _read(path: Path, label: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{label}: unreadable ({error.strerror or error})") from error


def _open(data: bytes, label: str, max_pixels: int, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        most = min(max_pixels, PILLOW_LIMIT)
        raise ImageTooLarge(f"{label}: decompression bomb (more than {most:,} pixels)") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{label}: not an image (no known image format)") from error
    except _BROKEN as error:
        raise _broken(label, error) from error
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height}"
        raise ImageTooLarge(f"{label}: decompression bomb ({size} is more than {max_pixels:,} pixels)")
    return image


def _broken(label: str, error: BaseException) -> ImageError:
    """Return the error for a file that a decoder stumbles over; what it says may quote the file."""
    text = " ".join(str(error).split()) or type(error).__name__
    lowered = text.lower()
    truncated = any(sign in lowered for sign in ("truncated", "unexpected end", "not enough", "eof", "premature"))
    reason = f"{label}: {'truncated' if truncated else 'corrupt'}"
    return ImageError(f"{reason} ({text})", reason)


def _is_sixteen_bit(image: Image.Image) -> bool:
    """Tell whether the file stores 16 bits a channel; Pillow keeps that in the raw mode only, until it loads."""
    if image.mode.startswith("I;16"):
        return True
    for tile in getattr(image, "tile", ()):
        arguments = tile[3]
        raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        if isinstance(raw, str) and ";16" in raw:
            return True
    return False


def _to_rgb(image: Image.Image, deep: bool, notes: list[str]) -> Image.Image:
    mode = image.mode
    if deep:
        notes.append("16-bit")
    if mode in ("L", "1", "LA", "La", "I", "F") or mode.startswith("I;16"):
        notes.append("greyscale")
    if mode in ("I", "F") or mode.startswith("I;16"):
        return Image.fromarray(_scale_to_8_bit(np.asarray(image), deep)).convert("RGB")
    if mode == "CMYK":
        notes.append("CMYK")
    if mode in ("P", "PA"):
        notes.append("palette")
    if mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info:
        notes.append("alpha")
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer).convert("RGB")
    return image if mode == "RGB" else image.convert("RGB")


def _scale_to_8_bit(values: np.ndarray, deep: bool) -> np.ndarray:
    """Scale integers or floats to 0..255. 16-bit: 1/257, so that 65535 is 255; other ranges as they need."""
    pixels = values.astype(np.float64)
    if not np.isfinite(pixels).all():
        raise ValueError("pixel values are not finite")
    low, high = float(pixels.min()), float(pixels.max())
    if deep:
        scaled = pixels / 257.0
    elif low < 0:  # no stated range: stretch what is there
        scaled = (pixels - low) * (255.0 / max(high - low, 1e-12))
    elif values.dtype.kind == "f" and high <= 1:
        scaled = pixels * 255.0
    elif high <= 255:
        scaled = pixels
    else:
        scaled = pixels / 257.0 if high <= 65535 else pixels * (255.0 / high)
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


def _apply_orientation(image: Image.Image, rgb: Image.Image, notes: list[str]) -> Image.Image:
    """Turn `rgb` upright by the EXIF orientation of `image`; EXIF that cannot be read counts as upright."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        notes.append("EXIF-unreadable")
        return rgb
    if orientation not in range(2, 9):
        return rgb
    notes.append("EXIF-rotated")
    # A bare copy carries the tag alone, so that no other metadata of the file can make Pillow stumble.
    bare = Image.Exif()
    bare[_ORIENTATION] = orientation
    carrier = Image.frombytes("RGB", rgb.size, rgb.tobytes())
    carrier.info["exif"] = bare.tobytes()
    return ImageOps.exif_transpose(carrier)
