"""From encoded images to answers: decode, squash, crop, normalise, program, probabilities, abstention, map.

The steps are separate, for a server that decodes as requests arrive and gathers batches over them: `view` of an
image, `logits` of a batch of views, `answers` from these.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dermonas.errors import ConfigError, DataError, StorageError
from dermonas.explain.cam import class_activation
from dermonas.imaging.decode import MAX_PIXELS, decode
from dermonas.imaging.normalise import normalise
from dermonas.imaging.resize import resize
from dermonas.serving.description import HEAD, PROGRAM, Description
from dermonas.serving.distance import DISTANCE, Distance
from dermonas.serving.look import FEATURES, look
from dermonas.serving.program import Program, load_program

NO_CAM = "not available for this model"
"""Stands in place of a map where the network does not end in global average pooling and a linear layer."""
BATCH = 32  # images a step: bounds memory; changes results by rounding at most

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Output:
    """What the program says of some views.

    Attributes:
        logits: float64 (n, classes); the mean over flips with test-time augmentation.
        features: Last feature map of the plain view, float32 (n, features, h, w).
        distances: (n,) from the training images; None where the package knows none.
    """

    logits: Floats
    features: Tensor
    distances: Floats | None = None

    def rows(self, rows: slice) -> Output:
        """Return some of the views."""
        return Output(self.logits[rows], self.features[rows], None if self.distances is None else self.distances[rows])


@dataclass(frozen=True, eq=False)
class Served:
    """A packaged model, loaded.

    Attributes:
        description: What it is.
        program: Its network.
        head: Weight of the linear layer behind global average pooling, float32 (classes, features); None where the
            network ends otherwise.
        distance: From the training images; None where the package knows none.
    """

    description: Description
    program: Program
    head: Tensor | None
    distance: Distance | None = None

    @classmethod
    def load(cls, artifacts: Path) -> Served:
        """Load from the folder `artifacts` of a packaged model.

        Raises:
            StorageError: A file is absent, damaged or of another format.
        """
        head = artifacts / HEAD
        weight = None
        if head.exists():
            try:
                weight = torch.from_numpy(np.load(head, allow_pickle=False)).float()
            except (OSError, ValueError, TypeError, EOFError) as error:
                raise StorageError(f"{head} is damaged ({error}): register the model again") from error
        description, distance = Description.read(artifacts), Distance.read(artifacts)
        if distance is None and description.unfamiliar_above is not None:
            raise StorageError(f"{artifacts} has a largest distance and no {DISTANCE}: register the model again")
        if distance is not None and distance.means.shape[1] != FEATURES:
            raise StorageError(f"{artifacts / DISTANCE} is of other features than {FEATURES}: register the model again")
        return cls(description, load_program(artifacts / PROGRAM), weight, distance)

    def view(self, image: bytes, name: str = "image", *, max_pixels: int = MAX_PIXELS, strict: bool = False) -> Tensor:
        """Return an encoded image as the network sees it, float32 (3, size, size); as in evaluation, bit for bit.

        Arguments and errors as `crop`.
        """
        pixels = torch.from_numpy(self.crop(image, name, max_pixels=max_pixels, strict=strict))
        return normalise(pixels.permute(2, 0, 1).contiguous(), self.description.mean, self.description.std)

    def crop(
        self, image: bytes, name: str = "image", *, max_pixels: int = MAX_PIXELS, strict: bool = False
    ) -> NDArray[np.uint8]:
        """Return the pixels of an encoded image that the network sees, before they are normalised: (size, size, 3).

        Args:
            image: Encoded.
            name: What to call it in an error.
            max_pixels: Refuse larger ones.
            strict: See `dermonas.imaging.decode.decode`.

        Raises:
            ImageError: See `dermonas.imaging.decode.decode`.
        """
        side, size = self.description.stored, self.description.size
        pixels = resize(decode(image, name=name, max_pixels=max_pixels, strict=strict), side)
        start = (side - size) // 2
        return pixels[start : start + size, start : start + size]

    def logits(self, views: Tensor, *, tta: bool = False) -> Output:
        """Run the program on views (n, 3, size, size).

        With `tta`, logits are the mean over the flips that training drew, as in evaluation.

        Raises:
            ConfigError: `tta` of a model that was trained without flips.
            DataError: Logits that are not finite, which is no image's fault.
        """
        if tta and len(self.description.flips) == 1:
            raise ConfigError("tta averages over the flips that training drew, and this model saw none: leave tta out")
        with torch.inference_mode():
            plain, features = self.program(views)
            total = plain.double()
            for flip in self.description.flips[1:] if tta else ():
                total = total + self.program(views.flip(flip))[0].double()
        logits = (total / (len(self.description.flips) if tta else 1)).numpy()
        if not np.isfinite(logits).all():
            raise DataError("the model's logits are not finite: register another version")
        return Output(logits, features, None if self.distance is None else self.distance.of(look(views)))

    def probabilities(self, logits: Floats) -> Floats:
        """Return softmax(logits / temperature), float64 (n, classes)."""
        scaled = logits / self.description.temperature
        grown = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(grown / grown.sum(axis=1, keepdims=True))

    def views(self, images: Iterable[bytes], *, strict: bool = False) -> Iterator[Tensor]:
        """Yield encoded images as the network sees them, `BATCH` at a time; errors name the row, from 0.

        Raises:
            ImageError: See `view`.
        """
        views: list[Tensor] = []
        for row, image in enumerate(images):
            views.append(self.view(image, f"row {row}: image", strict=strict))
            if len(views) == BATCH:
                yield torch.stack(views)
                views = []
        if views:
            yield torch.stack(views)

    def outputs(self, images: Iterable[bytes], *, tta: bool = False, strict: bool = False) -> Iterator[Output]:
        """Yield what the program says of encoded images; see `views` and `logits`."""
        for views in self.views(images, strict=strict):
            yield self.logits(views, tta=tta)

    def predict(self, images: Iterable[bytes]) -> Floats:
        """Return probabilities (n, classes) of encoded images, without answers around them; see `outputs`."""
        parts = [self.probabilities(output.logits) for output in self.outputs(images)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.description.classes)))

    def answers(self, output: Output, *, top_k: int = 3, cam: bool = False) -> list[dict[str, Any]]:
        """Return one answer a row: label, probability, probabilities, abstain, reason, cam.

        Args:
            output: See `logits`.
            top_k: How many classes `probabilities` lists, at least 1; more than there are lists all.
            cam: Whether to draw the map of the label.

        Raises:
            ConfigError: top_k < 1.
        """
        if top_k < 1:
            raise ConfigError(f"top_k is {top_k}, must be at least 1")
        probabilities, classes = self.probabilities(output.logits), self.description.classes
        # Stable: of equals the first in label order, as evaluation decides.
        order = np.argsort(-probabilities, axis=1, kind="stable")
        maps = self.maps(output.features, order[:, 0]) if cam else [None] * len(order)
        distances = output.distances
        found = []
        for row, ranks in enumerate(order):
            best = float(probabilities[row, ranks[0]])
            reason = self.doubt(best, None if distances is None else float(distances[row]))
            listed = [{"label": classes[k], "probability": float(probabilities[row, k])} for k in ranks[:top_k]]
            found.append(
                {
                    "label": classes[ranks[0]],
                    "probability": best,
                    "probabilities": listed,
                    "abstain": bool(reason),
                    "reason": reason,
                    "cam": maps[row],
                }
            )
        return found

    def doubt(self, probability: float, distance: float | None = None) -> str:
        """Return why the model abstains at this largest probability and distance, or ""; a rule each, behind ";"."""
        found, description = [], self.description
        below, above = description.abstain_below, description.unfamiliar_above
        if not probability >= below:
            rule = f" ({description.abstain_rule})" if description.abstain_rule else ""
            found.append(f"the largest probability, {probability:.3f}, is below {below:.3f}{rule}")
        if above is not None and distance is not None and not distance <= above:
            rule = f" ({description.unfamiliar_rule})" if description.unfamiliar_rule else ""
            found.append(f"unlike the training images: the distance, {distance:.3g}, is above {above:.3g}{rule}")
        return "; ".join(found)

    def maps(self, features: Tensor, labels: NDArray[np.int64]) -> list[str]:
        """Return each image's class activation map as base64 of a PNG, or `NO_CAM`.

        The PNG is grey with alpha and `stored` pixels square: stretched over the upright image it lies in place. Grey
        0 to 255 is the map's 0 to 1; the border that the network does not see is transparent.
        """
        if self.head is None:
            return [NO_CAM] * len(labels)
        side, size = self.description.stored, self.description.size
        start = (side - size) // 2
        activation = class_activation(features, self.head, torch.from_numpy(labels), size)
        canvas = np.zeros((len(labels), side, side, 2), dtype=np.uint8)
        seen = canvas[:, start : start + size, start : start + size]
        seen[..., 0] = np.rint(activation.numpy() * 255)
        seen[..., 1] = 255
        return [_png(layer) for layer in canvas]


def _png(pixels: NDArray[np.uint8]) -> str:
    """Encode (side, side, 2) grey and alpha."""
    buffer = io.BytesIO()
    bands = [Image.fromarray(np.ascontiguousarray(pixels[..., band])) for band in (0, 1)]
    Image.merge("LA", bands).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
