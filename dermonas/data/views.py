"""Views for the contrastive search, as batched tensor operations on the training device.

Presets (spec/csnas.md 3):
- "code", the only published implementation: the image at 32 x 32; view 1 is the plain image, view 2 a
  random horizontal and vertical flip and greyscale (each .5); the two views in random order. Its crops
  do nothing, because the image has the crop's size already.
- "paper": the image at 40 x 40; view 1 its centre crop of 32, view 2 a random crop of 32, both then
  flipped and greyed (each .5), so that cropping acts.
In both, the original is the whole image at 32 x 32, flipped at random. Sizes scale with `resolution`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from dermonas.seeding import torch_generator

Preset = Literal["paper", "code"]
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601, as torchvision's rgb_to_grayscale


def cached_resolution(preset: Preset, resolution: int) -> int:
    """Return the side in pixels at which images are decoded for views of `resolution` pixels."""
    return resolution if preset == "code" else resolution * 5 // 4


@dataclass(frozen=True)
class _Draw:
    """One epoch's random choices for one kind of view; every tensor has one entry per image."""

    top: Tensor
    left: Tensor
    horizontal: Tensor
    vertical: Tensor
    grey: Tensor


class Views:
    """All images of a search set on one device, and their random views by (seed, epoch, image).

    Args:
        images: uint8 (n, S, S, 3) with S = `cached_resolution(preset, resolution)`; may be a memory map.
        preset: "paper" or "code".
        resolution: Side of a view in pixels.
        mean: Channel means in [0, 1] for normalisation.
        std: Channel standard deviations.
        seed: The search's seed.
        device: Where images live and views are made.
    """

    def __init__(
        self,
        images: np.ndarray,
        preset: Preset,
        resolution: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        seed: int,
        device: torch.device,
    ) -> None:
        expected = cached_resolution(preset, resolution)
        if images.ndim != 4 or images.shape[1:] != (expected, expected, 3) or images.dtype != np.uint8:
            raise ValueError(f"images must be uint8 (n, {expected}, {expected}, 3), not {images.dtype} {images.shape}")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self.store = torch.from_numpy(np.ascontiguousarray(images)).to(device)
        self.preset = preset
        self.resolution = resolution
        self.seed = seed
        self.device = device
        self.originals = self.store if expected == resolution else _shrink(self.store, resolution)
        self._scale = torch.tensor([1 / (255 * s) for s in std], device=device)
        self._shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
        self._grey = torch.tensor(_LUMINANCE, device=device)
        self._draws: list[_Draw] = []
        self._swap = torch.zeros(0, dtype=torch.bool)

    def __len__(self) -> int:
        return self.store.shape[0]

    def begin_epoch(self, epoch: int) -> None:
        """Draw the epoch's views of every image: epoch -1 is the memory bank's first filling."""
        generator = torch_generator(self.seed, "views", epoch)
        n, slack = len(self), self.store.shape[1] - self.resolution

        def coin() -> Tensor:
            return (torch.rand(n, generator=generator) < 0.5).to(self.device)

        def corner() -> Tensor:
            return torch.randint(slack + 1, (n,), generator=generator).to(self.device)

        zeros, no = (
            torch.zeros(n, dtype=torch.long, device=self.device),
            torch.zeros(n, dtype=torch.bool, device=self.device),
        )
        centre = zeros + slack // 2
        original = _Draw(zeros, zeros, coin(), coin(), no)
        if self.preset == "paper":
            first = _Draw(centre, centre, coin(), coin(), coin())
            self._swap = no
        else:
            first = _Draw(centre, centre, no, no, no)
            self._swap = coin()
        second = _Draw(corner(), corner(), coin(), coin(), coin())
        self._draws = [original, first, second]

    def original(self, index: Int64[Tensor, " batch"]) -> Float[Tensor, "batch 3 height width"]:
        """Return the (flipped) originals of some images, normalised."""
        return self._take(self.originals, self._draws[0], index)

    def pair(
        self, index: Int64[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch 3 height width"]]:
        """Return the two views of some images, normalised."""
        first = self._take(self.store, self._draws[1], index)
        second = self._take(self.store, self._draws[2], index)
        if self.preset == "paper":
            return first, second
        swap = self._swap[index][:, None, None, None]
        return torch.where(swap, second, first), torch.where(swap, first, second)

    def plain(self, index: Int64[Tensor, " batch"]) -> Float[Tensor, "batch 3 height width"]:
        """Return some images as they are, whole and by no draw, normalised."""
        zeros = torch.zeros(len(self), dtype=torch.long, device=self.device)
        no = zeros.bool()
        return self._take(self.originals, _Draw(zeros, zeros, no, no, no), index)

    def _take(self, store: Tensor, draw: _Draw, index: Tensor) -> Tensor:
        """Crop and flip by one gather, then normalise and grey; memory is channels-last."""
        steps = torch.arange(self.resolution, device=self.device)
        back = self.resolution - 1 - steps
        rows = draw.top[index][:, None] + torch.where(draw.vertical[index][:, None], back, steps)
        columns = draw.left[index][:, None] + torch.where(draw.horizontal[index][:, None], back, steps)
        pixels = store[index[:, None, None], rows[:, :, None], columns[:, None, :]].float()
        grey = (pixels @ self._grey)[..., None].expand_as(pixels)
        pixels = torch.where(draw.grey[index][:, None, None, None], grey, pixels)
        return (pixels * self._scale + self._shift).permute(0, 3, 1, 2)


def _shrink(store: Tensor, resolution: int) -> Tensor:
    """Resize uint8 (n, S, S, 3) to (n, resolution, resolution, 3), antialiased, in bounded memory."""
    out = torch.empty(len(store), resolution, resolution, 3, dtype=torch.uint8, device=store.device)
    for start in range(0, len(store), 512):
        chunk = store[start : start + 512].permute(0, 3, 1, 2).float()
        small = F.interpolate(chunk, size=resolution, mode="bilinear", antialias=True, align_corners=False)
        out[start : start + 512] = small.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return out
