"""How unlike the training images an image is: the distance of what it looks like to the nearest class.

A softmax network is sure of photographs of cats too: its probabilities compare the classes it knows. The distance asks
whether an image looks as those of any class did; for its features see `dermonas.serving.look`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dermonas.errors import ConfigError, DataError, StorageError

DISTANCE = "distance.npz"
"""File of a packaged model, in its folder `artifacts`; absent from packages that know no distance."""

_DIRECTIONS = 128  # kept of the covariance
_ARRAYS = ("means", "directions", "variances", "rest")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Distance:
    """A Gaussian a class with one covariance for all, of features.

    The covariance has `directions` of their own variance and one variance for all that is orthogonal to them, as in
    probabilistic principal components: full in what the features vary most in, round in the rest.

    Attributes:
        means: By class, float64 (classes, features); a class without images is absent.
        directions: Orthonormal rows, float64 (k, features).
        variances: Along them, float64 (k,), positive.
        rest: Variance in every other direction, positive.

    Source: Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples (NeurIPS 2018), eq. 2, of
    other features; Tipping and Bishop, Probabilistic Principal Component Analysis (1999), for the covariance.
    """

    means: Floats
    directions: Floats
    variances: Floats
    rest: float

    @classmethod
    def fit(cls, features: ArrayLike, labels: ArrayLike) -> Distance:
        """Fit to training images.

        Args:
            features: (n, features), see `dermonas.serving.look.look`.
            labels: (n,) class indices.

        Raises:
            DataError: Fewer than two images more than there are classes, or features that do not vary.
        """
        values, classes = np.asarray(features, dtype=np.float64), np.asarray(labels)
        present = np.unique(classes)
        if len(values) < len(present) + 2:
            raise DataError(f"{len(values)} training images are too few to learn what they look like")
        means = np.stack([values[classes == one].mean(axis=0) for one in present])
        centred = values - means[np.searchsorted(present, classes)]
        free = len(values) - len(present)
        _, scales, rows = np.linalg.svd(centred, full_matrices=False)
        variances = scales**2 / free
        total = float(variances.sum())
        if not (np.isfinite(total) and total > 0):
            raise DataError("the features of the training images do not vary: no distance can be told")
        kept = min(_DIRECTIONS, free // 2, len(variances))
        dimensions = values.shape[1]
        left = max(dimensions - kept, 1)
        # Estimated from few images the smallest variances are far too small: none is below a share of the mean.
        floor = 1e-3 * total / dimensions
        return cls(
            means,
            rows[:kept],
            np.maximum(variances[:kept], floor),
            max(float(variances[kept:].sum()) / left, floor),
        )

    def of(self, features: ArrayLike) -> Floats:
        """Return each image's squared distance to the nearest class, divided by the number of features.

        Args:
            features: (n, features), see `dermonas.serving.look.look`.

        Returns:
            float64 (n,); about 1 for images like those of training.
        """
        values = np.asarray(features, dtype=np.float64)
        away = values[:, None, :] - self.means  # (n, classes, features)
        along = away @ self.directions.T
        outside = np.maximum((away**2).sum(axis=2) - (along**2).sum(axis=2), 0)
        squared = (along**2 / self.variances).sum(axis=2) + outside / self.rest
        return np.asarray(squared.min(axis=1) / self.means.shape[1])

    def write(self, folder: Path) -> Path:
        """Write it as float32 arrays into a folder of artifacts.

        Raises:
            StorageError: The disk refuses.
        """
        path = folder / DISTANCE
        arrays = {name: np.asarray(getattr(self, name), dtype=np.float32) for name in _ARRAYS}
        try:
            np.savez(path, allow_pickle=False, **arrays)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
        return path

    @classmethod
    def read(cls, folder: Path) -> Distance | None:
        """Read it from a folder of artifacts; None where the package knows none.

        Raises:
            StorageError: It is damaged.
        """
        path = folder / DISTANCE
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                means, directions, variances, rest = (np.asarray(arrays[name], dtype=np.float64) for name in _ARRAYS)
            found = cls(means, directions, variances, float(rest))
            found.of(means[:1])
        except Exception as error:  # a damaged archive raises almost anything
            raise StorageError(f"{path} is damaged ({type(error).__name__}): register the model again") from error
        return found


def threshold_of(distances: ArrayLike, share: float) -> float:
    """Return the smallest threshold that at least a share of these images does not pass.

    Args:
        distances: (n,), of validation images.
        share: In (0, 1].

    Raises:
        ConfigError: share is out of range.
        DataError: No images.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"familiar {share} must lie in (0, 1]")
    ordered = np.sort(np.asarray(distances, dtype=np.float64))
    if not len(ordered):
        raise DataError("no validation image to choose the distance on: check the split sizes")
    return float(ordered[int(np.ceil(share * len(ordered) - 1e-9)) - 1])
