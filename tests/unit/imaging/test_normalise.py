import subprocess
import sys

import torch

from dermonas.imaging.normalise import (
    CIFAR_MEAN,
    CIFAR_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    ISIC_MEAN,
    ISIC_STD,
    normalise,
)


def test_constants_are_means_and_deviations_on_the_unit_range() -> None:
    for mean, std in ((IMAGENET_MEAN, IMAGENET_STD), (ISIC_MEAN, ISIC_STD), (CIFAR_MEAN, CIFAR_STD)):
        assert all(0.3 < value < 0.8 for value in mean)
        assert all(0.1 < value < 0.3 for value in std)


def test_normalise_centres_and_scales_each_channel() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    result = normalise(pixels, (0.1, 0.2, 0.4), (0.5, 0.25, 0.2))
    assert result.dtype == torch.float32
    assert result.shape == (2, 3, 4, 4)
    torch.testing.assert_close(result[1, :, 0, 0], torch.tensor([-0.2, 0.0, 3.0]))


def test_decoding_does_not_import_torch_or_pandas() -> None:
    code = (
        "import sys, dermonas.imaging.decode, dermonas.imaging.resize, dermonas.imaging.normalise;"
        "print([name for name in ('torch', 'pandas', 'scipy', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
