"""A DICOM file to an 8-bit image: first frame, modality and VOI transformation, photometric interpretation.

pydicom is an extra (`dermonas[dicom]`), imported only where a file needs it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from dermonas.errors import ImageError, ImageTooLarge

_MAGIC, _AT = b"DICM", 128  # behind a preamble of any content. Source: DICOM PS3.10, 7.1
# Inflated whole before anything can be checked: its few bytes may become all memory.
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"})
_ENCODED = frozenset(  # frames that are files of their own, which Pillow reads
    {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
)
"""Transfer syntaxes: uncompressed and RLE; JPEG baseline, extended, JPEG 2000 lossless and lossy."""


def is_dicom(data: bytes) -> bool:
    """Tell whether bytes are a DICOM file."""
    return data[_AT : _AT + len(_MAGIC)] == _MAGIC


def decode_dicom(
    data: bytes, label: str, max_pixels: int, header: Callable[[bytes], Image.Image]
) -> tuple[Image.Image, list[str]]:
    """Decode the first frame of a DICOM file to 8-bit RGB.

    Grey values pass the modality transformation (rescale or table), then the first VOI transformation (table, or
    window by its function), or without one the range that the stored bits allow; MONOCHROME1 is inverted. Colour is
    converted to RGB.

    Args:
        data: The file.
        label: What to call it in an error.
        max_pixels: Refuse larger images before decoding them.
        header: Opens an encoded frame without decoding it, with `decode`'s limits.

    Returns:
        The image, and notes as in `decode.ImageInfo`.

    Raises:
        ImageError: pydicom is absent, or the file is damaged or of a kind that is not read.
        ImageTooLarge: More pixels.

    Source: DICOM PS3.3, C.7.6.3 (pixels), C.11.1 (modality), C.11.2 (VOI).
    """
    try:
        from pydicom import dcmread
        from pydicom.encaps import get_frame
        from pydicom.pixels import pixel_array
    except ImportError as error:
        raise ImageError(f"{label}: a DICOM file, which needs pydicom: pip install dermonas[dicom]") from error
    if _DEFLATED in data:
        raise ImageError(f"{label}: a DICOM file that is deflated as a whole, which is not read")
    try:
        dataset = dcmread(io.BytesIO(data))
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        size = int(dataset.Columns), int(dataset.Rows)
        frames = int(dataset.get("NumberOfFrames") or 1)
        deep = int(dataset.BitsAllocated)
    except Exception as error:  # a damaged file makes pydicom raise almost anything
        raise _damaged(label, error) from error
    if min(size) < 1 or size[0] * size[1] > max_pixels:
        raise ImageTooLarge(f"{label}: decompression bomb ({size[0]} x {size[1]}, at most {max_pixels:,} pixels)")
    if syntax not in _NATIVE | _ENCODED or deep not in (8, 16):
        raise ImageError(f"{label}: a DICOM file of a transfer syntax or depth that is not read; convert it to JPEG")
    try:
        if syntax in _ENCODED:
            inner = header(get_frame(dataset.PixelData, 0, number_of_frames=frames))
            if inner.size != size:
                raise ValueError("the frame has another size than the header says")
        values = pixel_array(dataset, index=0)
        colour = values.ndim == 3
        pixels = _colour(values, dataset) if colour else _grey(values, dataset)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageTooLarge(f"{label}: decompression bomb (does not fit in memory)") from error
    except Exception as error:
        raise _damaged(label, error) from error
    notes = ["DICOM", *(["16-bit"] if deep == 16 else []), *([] if pixels.ndim == 3 else ["greyscale"])]
    return Image.fromarray(pixels).convert("RGB"), notes + (["animated"] if frames > 1 else [])


def _damaged(label: str, error: Exception) -> ImageError:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return ImageError(f"{label}: corrupt ({text})", f"{label}: corrupt")


def _colour(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Return uint8 (height, width, 3) of RGB values, which pydicom has converted to."""
    if values.shape[-1] != 3:
        raise ValueError(f"{values.shape[-1]} samples a pixel")
    if values.dtype == np.uint8:
        return values
    most = float(2 ** int(dataset.BitsStored) - 1)
    return _eight_bit(values / most)


def _grey(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Return uint8 (height, width), or (height, width, 3) for a palette."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi

    kind = str(dataset.PhotometricInterpretation)
    if kind == "PALETTE COLOR":
        table = apply_color_lut(values, dataset)
        return _eight_bit(table[..., :3] / float(np.iinfo(table.dtype).max))
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError("photometric interpretation")
    scaled = np.asarray(apply_modality_lut(values, dataset), dtype=np.float64)
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        share = apply_voi(scaled.astype(values.dtype), dataset) / float(2**bits - 1)
    elif dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        share = _window(scaled, _first(dataset.WindowCenter), _first(dataset.WindowWidth), dataset)
    else:
        low, high = _range(dataset)
        share = (scaled - low) / (high - low)
    if not np.isfinite(share).all():
        raise ValueError("values are not finite")
    return _eight_bit(1 - share if kind == "MONOCHROME1" else share)


def _window(values: np.ndarray, centre: float, width: float, dataset: Any) -> np.ndarray:
    """Map values through a window to 0..1. Source: DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise ValueError("window width")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - centre) / width)))
    if function == "LINEAR_EXACT":
        return np.asarray((values - centre) / width + 0.5)
    return np.asarray((values - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5)


def _range(dataset: Any) -> tuple[float, float]:
    """Return the smallest and the largest value that the stored bits allow, after the modality transformation."""
    bits, signed = int(dataset.BitsStored), int(dataset.get("PixelRepresentation") or 0)
    if dataset.get("ModalityLUTSequence"):
        return 0.0, float(2 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], ends[1]


def _first(value: Any) -> float:
    """Return a number, or the first of several windows."""
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def _eight_bit(share: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(share * 255.0).clip(0, 255), dtype=np.uint8)
