"""Real faulty files, made here: what cannot be used says why, everything else comes out upright RGB."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermonas.errors import ImageError
from dermonas.imaging.decode import decode, inspect

# Pillow warns about damaged metadata beside raising; the warnings are its own and expected here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

# Whether the stored first row is at the top, and the first column at the left. Source: EXIF 2.32, 4.6.4
_WHERE = dict(enumerate(((True, True), (True, False), (False, False), (False, True)) * 2, start=1))


def _corner(width: int = 30, height: int = 20) -> Image.Image:
    """Black with a white upper left corner, so that an orientation shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:6, :6] = 255
    return Image.fromarray(pixels)


def _noise(width: int = 48, height: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_plain_rgb_is_unchanged() -> None:
    image = _noise()
    decoded = decode(_bytes(image))
    assert decoded.mode == "RGB"
    assert np.array_equal(np.asarray(decoded), np.asarray(image))
    info = inspect(_bytes(image))
    assert (info.width, info.height, info.notes) == (48, 32, ())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _bytes(_corner(), kind, exif=exif)
    white = np.argwhere(np.asarray(decode(data).convert("L")) > 128).mean(axis=0)
    info = inspect(data)
    top, left = white[0] < info.height / 2, white[1] < info.width / 2
    assert (top, left) == _WHERE[orientation]
    assert (info.width, info.height) == ((20, 30) if orientation >= 5 else (30, 20))
    assert ("EXIF-rotated" in info.notes) == (orientation > 1)


def test_damaged_exif_counts_as_upright() -> None:
    data = _bytes(_corner(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert decode(data).size == (30, 20)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    values = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    data = _bytes(Image.fromarray(values), kind)
    decoded = np.asarray(decode(data))
    assert np.abs(decoded[..., 0] - values / 257).max() <= 0.5
    assert (decoded[..., 0] == decoded[..., 2]).all()
    assert set(inspect(data).notes) == {"16-bit", "greyscale"}


def test_dark_sixteen_bit_stays_dark() -> None:
    values = np.full((8, 8), 514, np.uint16)
    assert (np.asarray(decode(_bytes(Image.fromarray(values)))) == 2).all()


def test_sixteen_bit_rgb_is_scaled() -> None:
    rows = np.linspace(0, 65535, 16 * 3).astype(">u2").reshape(1, 16, 3)
    raw = b"\x00" + rows.tobytes()
    header = struct.pack(">IIBBBBB", 16, 1, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    )
    assert np.abs(np.asarray(decode(data)).astype(int) - rows / 257).max() <= 1
    assert inspect(data).notes == ("16-bit",)


def test_float_tiff_is_scaled() -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    decoded = np.asarray(decode(_bytes(Image.fromarray(values), "TIFF")))
    assert np.abs(decoded[..., 0] - values * 255).max() <= 0.5


def test_float_tiff_with_nan_is_refused() -> None:
    values = np.full((8, 8), np.nan, dtype=np.float32)
    with pytest.raises(ImageError, match=r"^x\.tif: corrupt \(pixel values are not finite"):
        decode(_bytes(Image.fromarray(values), "TIFF"), name="x.tif")


def test_cmyk() -> None:
    data = _bytes(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    pixel = np.asarray(decode(data))[4, 4]
    assert pixel[0] > 240
    assert pixel[1] < 15
    assert pixel[2] < 15
    assert inspect(data).notes == ("CMYK",)


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_greyscale(mode: str) -> None:
    data = _bytes(_corner().convert(mode))
    decoded = np.asarray(decode(data))
    assert decoded.shape == (20, 30, 3)
    assert decoded[0, 0].tolist() == [255, 255, 255]
    assert decoded[19, 29].tolist() == [0, 0, 0]
    assert "greyscale" in inspect(data).notes


def test_palette() -> None:
    data = _bytes(_corner().quantize(4))
    assert np.array_equal(np.asarray(decode(data)), np.asarray(_corner()))
    assert inspect(data).notes == ("palette",)


def test_alpha_is_composited_on_white() -> None:
    layer = np.zeros((4, 4, 4), np.uint8)
    layer[:2, :, 3] = 255
    layer[2, :, 3] = 128
    decoded = np.asarray(decode(_bytes(Image.fromarray(layer))))
    assert decoded[0, 0].tolist() == [0, 0, 0]
    assert abs(int(decoded[2, 0, 0]) - 127) <= 1
    assert decoded[3, 0].tolist() == [255, 255, 255]


def test_transparent_palette_colour_is_white() -> None:
    data = _bytes(_corner().quantize(2), transparency=_corner().quantize(2).getpixel((20, 15)))
    assert (np.asarray(decode(data)) == 255).all()


def test_first_frame_of_an_animation() -> None:
    data = _bytes(_corner().convert("L"), "GIF", save_all=True, append_images=[Image.new("L", (30, 20), 9)])
    assert np.asarray(decode(data))[0, 0, 0] == 255
    assert "animated" in inspect(data).notes


def test_zero_byte(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(ImageError, match=r"empty\.jpg: zero-byte file$"):
        decode(path)


def test_not_an_image(tmp_path: Path) -> None:
    path = tmp_path / "letter.png"
    path.write_text("Dear colleague, please find the image attached.")
    with pytest.raises(ImageError, match=r"letter\.png: not an image"):
        decode(path)


def test_postscript_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "run.jpg"
    path.write_bytes(_bytes(_noise(), "EPS"))
    with pytest.raises(ImageError, match="not an image"):
        decode(path)


@pytest.mark.parametrize(("kind", "name"), [("JPEG", "half.jpg"), ("PNG", "half.png"), ("TIFF", "half.tif"),
                                            ("WEBP", "half.webp"), ("BMP", "half.bmp")])  # fmt: skip
def test_truncated(tmp_path: Path, kind: str, name: str) -> None:
    data = _bytes(_noise(), kind)
    path = tmp_path / name
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=f"{name}: (truncated|corrupt)"):
        decode(path)


def test_truncated_jpeg_says_truncated() -> None:
    data = _bytes(_noise(), "JPEG")
    with pytest.raises(ImageError, match=r"^scan\.jpg: truncated"):
        decode(data[: len(data) // 2], name="scan.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF"])
def test_damaged_bytes_never_escape_as_another_error(kind: str) -> None:
    data = _bytes(_noise(), kind)
    generator = np.random.default_rng(1)
    for _ in range(60):
        broken = bytearray(data)
        for position in generator.integers(0, len(data), 6):
            broken[position] = generator.integers(0, 256)
        message = ""
        try:
            assert decode(bytes(broken), max_pixels=10_000).mode == "RGB"
        except ImageError as error:
            message = str(error)
        assert "\n" not in message


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.jpg: unreadable \(No such file"):
        decode(tmp_path / "gone.jpg")


def test_directory_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="unreadable"):
        decode(tmp_path)


def test_decompression_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    # 30,000 x 30,000 white: about 110 kB on disk, 2.7 GB decoded.
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(b"\x00" * (1 + 30_000 // 8)) for _ in range(30_000)) + rows.flush()
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
        )
    )
    with pytest.raises(ImageError, match=r"bomb\.png: decompression bomb"):
        decode(path)


def test_max_pixels_is_a_setting() -> None:
    data = _bytes(_noise(48, 32))
    assert decode(data, max_pixels=48 * 32).size == (48, 32)
    with pytest.raises(ImageError, match=r"decompression bomb \(48 x 32 is more than 1,535 pixels\)"):
        decode(data, max_pixels=48 * 32 - 1)


def test_a_damaged_further_page_of_a_tiff_does_not_matter():
    """Found by the fuzz of the server: Pillow raises a TypeError as it counts the pages."""
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (10, 200, 30)).save(buffer, "TIFF")
    data = bytearray(buffer.getvalue())
    first = int.from_bytes(data[4:8], "little")
    after = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[after : after + 4] = len(data).to_bytes(4, "little")  # the next page: one entry, and no width
    data += b"\x01\x00" + b"\x02\x01\x03\x00\x01\x00\x00\x00\x08\x00\x00\x00" + bytes(4)
    for strict in (False, True):
        assert decode(bytes(data), strict=strict).getpixel((0, 0)) == (10, 200, 30)
