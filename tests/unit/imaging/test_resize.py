import numpy as np
import pytest
from PIL import Image

from dermonas.imaging.resize import grey_thumbnail, resize


@pytest.mark.parametrize("size", [1, 7, 32, 90])
def test_squashes_to_a_square(size: int) -> None:
    pixels = resize(Image.new("RGB", (60, 45), (10, 200, 30)), size)
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (10, 200, 30)).all()


def test_whole_picture_is_kept_not_cropped() -> None:
    image = np.zeros((40, 120, 3), np.uint8)
    image[:, :30] = 255  # the left quarter of a wide picture
    pixels = resize(Image.fromarray(image), 40)
    assert (pixels[:, :9] > 230).all()
    assert (pixels[:, 12:] < 25).all()


def test_shrinking_is_antialiased() -> None:
    # One-pixel stripes: every second pixel sampled would be all black or all white.
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = resize(Image.fromarray(stripes), 32)
    assert np.abs(pixels.astype(int) - 127).max() <= 12


def test_same_size_is_the_same_picture_in_own_memory() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    pixels = resize(image, 16)
    assert np.array_equal(pixels, np.asarray(image))
    pixels[:] = 0  # writable, and the image does not change
    assert np.asarray(image).any()


def test_other_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="takes mode RGB, not L"):
        resize(Image.new("L", (4, 4)), 2)


def test_grey_thumbnail() -> None:
    thumbnail = grey_thumbnail(Image.new("RGB", (100, 30), (255, 0, 0)))
    assert thumbnail.shape == (64, 64)
    assert thumbnail.dtype == np.uint8
    assert (thumbnail == 76).all()  # .299 x 255
