"""DICOM files: against pydicom's own transformations and the standard's formulas; damaged and hostile ones."""

from __future__ import annotations

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from dermonas.errors import ImageError, ImageTooLarge
from dermonas.imaging.decode import decode, inspect

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import apply_modality_lut, apply_voi_lut  # noqa: E402
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless  # noqa: E402

SIZE = (7, 5)  # rows, columns


def values(dtype, high, samples=1, frames=1):
    shape = (*((frames,) if frames > 1 else ()), *SIZE, *((samples,) if samples > 1 else ()))
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def dataset(pixels, kind="MONOCHROME2", stored=None, syntax=ExplicitVRLittleEndian, frames=1, **more):
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = syntax
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.77.1.4")
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID = UID("1.2.3")
    samples = 3 if pixels.ndim - (frames > 1) == 3 else 1
    found.Rows, found.Columns = pixels.shape[(frames > 1) : 2 + (frames > 1)]
    found.SamplesPerPixel, found.PhotometricInterpretation = samples, kind
    if samples == 3:
        found.PlanarConfiguration = 0
    if frames > 1:
        found.NumberOfFrames = frames
    found.BitsAllocated = 8 * pixels.itemsize
    found.BitsStored = stored or found.BitsAllocated
    found.HighBit = found.BitsStored - 1
    found.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    found.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    found["PixelData"].VR = "OW" if pixels.itemsize == 2 else "OB"
    for key, value in more.items():
        setattr(found, key, value)
    return found


def written(found):
    buffer = io.BytesIO()
    found.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def grey(data, **options):
    pixels = np.asarray(decode(data, **options))
    assert pixels.shape == (*SIZE, 3)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def test_colour_is_taken_as_it_is():
    pixels = values(np.uint8, 256, 3)
    data = written(dataset(pixels, "RGB"))
    assert (np.asarray(decode(data)) == pixels).all()
    assert inspect(data).notes == ("DICOM",)
    assert (np.asarray(decode(data, strict=True)) == pixels).all()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, UID("1.2.840.10008.1.2")])
def test_without_a_window_the_stored_range_is_used(syntax):
    pixels = values(np.uint16, 4096)
    found = grey(written(dataset(pixels, stored=12, syntax=syntax)))
    assert (found == np.rint(pixels / 4095 * 255)).all()
    inverted = grey(written(dataset(pixels, "MONOCHROME1", stored=12, syntax=syntax)))
    assert (inverted == np.rint(255 - pixels / 4095 * 255)).all()


def test_rescale_and_signed_values():
    pixels = (values(np.int16, 4000) - 2000).astype(np.int16)
    found = grey(written(dataset(pixels, RescaleSlope="2", RescaleIntercept="-1024")))
    wanted = (pixels.astype(int) + 32768) / 65535 * 255  # a linear transformation moves values and range alike
    assert (found == np.rint(wanted)).all()
    falling = grey(written(dataset(pixels, RescaleSlope="-1", RescaleIntercept="0")))
    assert (falling == np.rint((32767 - pixels.astype(int)) / 65535 * 255).clip(0, 255)).all()


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_is_pydicoms(function, kind):
    pixels = values(np.uint16, 4096)
    made = dataset(
        pixels, kind, stored=12, RescaleSlope="1", RescaleIntercept="-1024",
        WindowCenter=["40", "1"], WindowWidth=["400", "2"], VOILUTFunction=function,
    )  # fmt: skip
    data = written(made)
    reference = np.asarray(apply_voi_lut(apply_modality_lut(pixels, made), made), dtype=float)
    share = (reference + 1024) / 4095  # pydicom maps to the range of stored values
    wanted = 255 * (1 - share if kind == "MONOCHROME1" else share)
    assert np.abs(grey(data).astype(float) - wanted).max() <= 0.5 + 1e-6
    assert np.ptp(grey(data)) > 50


def test_a_table_is_used_before_a_window():
    pixels = values(np.uint8, 16)
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [16, 0, 8], [255 - 10 * k for k in range(16)]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    data = written(dataset(pixels, VOILUTSequence=[table], WindowCenter="8", WindowWidth="2"))
    assert (grey(data) == 255 - 10 * pixels.astype(int)).all()


def test_the_first_of_several_frames():
    pixels = values(np.uint8, 256, frames=3)
    data = written(dataset(pixels, frames=3))
    assert (grey(data) == pixels[0]).all()
    assert "animated" in inspect(data).notes


def test_encoded_frames():
    pixels = np.full((*SIZE, 3), (200, 90, 30), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    made = dataset(pixels, "YBR_FULL_422", syntax=JPEGBaseline8Bit)
    made.PixelData = encapsulate([buffer.getvalue()])
    assert np.abs(np.asarray(decode(written(made))).astype(int) - pixels).max() <= 3
    run = dataset(values(np.uint8, 256, 3), "RGB")
    run.compress(RLELossless)
    assert (np.asarray(decode(written(run))) == values(np.uint8, 256, 3)).all()


def test_a_frame_that_is_larger_than_the_header_says_is_refused():
    buffer = io.BytesIO()
    Image.new("L", (400, 400)).save(buffer, "JPEG")
    made = dataset(values(np.uint8, 256), syntax=JPEGBaseline8Bit)
    made.PixelData = encapsulate([buffer.getvalue()])
    with pytest.raises(ImageTooLarge, match="decompression bomb"):
        decode(written(made), max_pixels=1000)
    with pytest.raises(ImageError, match="corrupt"):
        decode(written(made))


def test_hostile_and_damaged_files_are_one_line():
    data = written(dataset(values(np.uint8, 256)))
    for cut in (133, 200, len(data) - 10):
        with pytest.raises(ImageError, match="corrupt") as caught:
            decode(data[:cut], name="a")
        assert caught.value.brief == "a: corrupt"
        assert "\n" not in str(caught.value)
    vast = dataset(values(np.uint8, 256))
    vast.Rows = vast.Columns = 50_000
    with pytest.raises(ImageTooLarge, match="50000 x 50000"):
        decode(written(vast))
    none = dataset(values(np.uint8, 256))
    del none.PixelData
    with pytest.raises(ImageError, match="corrupt"):
        decode(written(none))
    odd = dataset(values(np.uint8, 256), "HSV")
    with pytest.raises(ImageError, match="corrupt"):
        decode(written(odd))


def test_a_deflated_file_is_refused_before_it_is_inflated():
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1.99")
    buffer = io.BytesIO(b"\0" * 128 + b"DICM")
    buffer.seek(0, 2)
    pydicom.filewriter.write_file_meta_info(buffer, meta, enforce_standard=False)
    bomb = zlib.compressobj(wbits=-15)
    buffer.write(bomb.compress(struct.pack("<HH2sHI", 9, 16, b"OB", 0, 1 << 24) + b"\0" * (1 << 24)) + bomb.flush())
    with pytest.raises(ImageError, match="deflated as a whole"):
        decode(buffer.getvalue())


def test_a_transfer_syntax_that_is_not_read_says_so():
    made = dataset(values(np.uint8, 256), syntax=UID("1.2.840.10008.1.2.4.80"))
    made.PixelData = encapsulate([b"\0" * 40])
    with pytest.raises(ImageError, match="transfer syntax or depth that is not read"):
        decode(written(made))


def test_without_pydicom_the_line_says_what_to_install(monkeypatch):
    data = written(dataset(values(np.uint8, 256)))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImageError, match=r"needs pydicom: pip install dermonas\[dicom\]"):
        decode(data)
